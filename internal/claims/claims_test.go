package claims_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

var noon = time.Date(2026, 2, 3, 12, 0, 0, 0, time.UTC)

func anyRecord() *rapid.Generator[claims.Record] {
	return rapid.Custom(func(t *rapid.T) claims.Record {
		return claims.Record{
			Member: rapid.StringN(1, 20, 512).
				Filter(func(id string) bool { return keys.CheckID(id) == nil }).
				Draw(t, "member"),
			State: rapid.SampledFrom([]string{claims.Claimed, claims.Active, claims.Failed, claims.Quarantined}).
				Draw(t, "state"),
			Since: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "seconds"),
				rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC(),
			Error: rapid.StringN(0, 100, claims.MaxError).Draw(t, "error"),
		}
	})
}

func encode(r claims.Record) []byte {
	return claims.NewEncoder(r.Member).Encode(r.State, r.Since, r.Error)
}

func TestAClaimComesBackAsItWentIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyRecord().Draw(t, "record")
		got, err := claims.Decode(encode(want))
		if err != nil || got != want {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
	})
}

func TestTheHandWrittenJSONIsEncodingJSONs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRecord().Draw(t, "record")
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := encode(r); !bytes.Equal(got, want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

func TestTimesAreInUTC(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	got := claims.NewEncoder("m").Encode(claims.Active, noon.In(berlin), "")
	if !bytes.Contains(got, []byte(`"since":"2026-02-03T12:00:00Z"`)) {
		t.Errorf("got %s", got)
	}
}

func TestALongErrorIsClippedBetweenRunes(t *testing.T) {
	for _, message := range []string{
		strings.Repeat("x", claims.MaxError), strings.Repeat("x", claims.MaxError+1), strings.Repeat("😀", 200),
		"x" + strings.Repeat("😀", 200), "xx" + strings.Repeat("é", 600), strings.Repeat("\x80", 1000),
		strings.Repeat("\xffa", 400),
		strings.Repeat("\xf0\x9f\x98", 400), strings.Repeat("x", 1<<20),
	} {
		r, err := claims.Decode(claims.NewEncoder("m").Encode(claims.Failed, noon, message))
		switch {
		case err != nil:
			t.Errorf("%.20q…: %v", message, err)
		case len(r.Error) > claims.MaxError || !utf8.ValidString(r.Error):
			t.Errorf("%.20q… of %d bytes became %q of %d", message, len(message), r.Error, len(r.Error))
		case r.Error == "" || r.Error == "…":
			t.Errorf("%.20q…: nothing is left", message)
		case len(message) <= claims.MaxError && utf8.ValidString(message) && r.Error != message:
			t.Errorf("%.20q… was clipped without need", message)
		case utf8.ValidString(message) && len(message) > claims.MaxError:
			kept, cut := strings.CutSuffix(r.Error, "…")
			if !cut || !strings.HasPrefix(message, kept) || len(r.Error) < claims.MaxError-utf8.UTFMax {
				t.Errorf("%.20q… became %q", message, r.Error)
			}
		}
	}
}

func TestACorruptClaimIsAnError(t *testing.T) {
	for _, value := range []string{
		"", "{", "null", "[]", `"active"`, "{}", `{"member":"m"}`, `{"state":"active"}`,
		`{"member":"","state":"active"}`, `{"member":"a\nb","state":"active"}`,
		`{"member":"m","state":"Active","since":"2026-02-03T12:00:00Z"}`, `{"member":"m","state":"unassigned"}`,
		`{"member":"m","state":"active","since":"yesterday"}`, `{"member":1,"state":"active"}`,
		`{"member":"m","state":"active"}x`,
	} {
		if r, err := claims.Decode([]byte(value)); err == nil {
			t.Errorf("Decode(%s) = %+v", value, r)
		} else if r != (claims.Record{}) {
			t.Errorf("Decode(%s) = %+v besides the error", value, r)
		}
	}
}

func TestAFieldThatIsNotKnownYetIsNoProblem(t *testing.T) {
	r, err := claims.Decode(
		[]byte(`{ "more": [1], "state": "failed", "error": "boom", "member": "m", "since": "2026-02-03T12:00:00Z" }`),
	)
	if want := (claims.Record{Member: "m", State: claims.Failed, Since: noon, Error: "boom"}); err != nil || r != want {
		t.Errorf("got %+v, %v, want %+v", r, err, want)
	}
}

func FuzzDecode(f *testing.F) {
	for _, state := range []string{claims.Claimed, claims.Active, claims.Failed, claims.Quarantined, "odd"} {
		f.Add(claims.NewEncoder("m/😀").Encode(state, noon, "boom \"<x>\"\n"))
	}
	f.Add([]byte(`{"member":"m","state":"active","since":"0000-01-01T00:00:00+23:59"}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := claims.Decode(value)
		if err != nil || r.Since.UTC().Year() < 0 || r.Since.UTC().Year() > 9999 {
			return
		}
		again, err := claims.Decode(encode(r))
		r.Since = r.Since.UTC()
		if len(r.Error) > claims.MaxError {
			again.Error = r.Error
		}
		if err != nil || again != r {
			t.Fatalf("%s: %+v, then %+v, %v", value, r, again, err)
		}
	})
}

func ExampleEncoder() {
	e := claims.NewEncoder("ann")
	since := time.Date(2026, 2, 3, 12, 0, 0, 0, time.UTC)
	fmt.Printf("%s\n", e.Encode(claims.Failed, since, "connection refused"))
	// Output: {"member":"ann","state":"failed","since":"2026-02-03T12:00:00Z","error":"connection refused"}
}

func BenchmarkEncode(b *testing.B) {
	e, since := claims.NewEncoder("worker-17.example.org"), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		e.Encode(claims.Active, since, "")
	}
}

func BenchmarkDecode(b *testing.B) {
	value := claims.NewEncoder("worker-17.example.org").Encode(claims.Active, time.Now(), "")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := claims.Decode(value); err != nil {
			b.Fatal(err)
		}
	}
}
