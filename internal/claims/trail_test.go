package claims_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

func TestATrailComesBackAsItWentIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringN(1, 20, 512).Filter(func(id string) bool { return keys.CheckID(id) == nil })
		want := claims.Trail{
			Member: id.Draw(t, "member"),
			Life:   rapid.String().Draw(t, "life"),
			At:     time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "at"), 5).UTC(),
			IDs:    rapid.SliceOfN(id, 0, 5).Draw(t, "ids"),
		}
		if want.IDs == nil {
			want.IDs = []string{}
		}
		want.Alone = rapid.Bool().Draw(t, "alone")
		want.Returned = rapid.IntRange(0, len(want.IDs)).Draw(t, "returned")
		got, err := claims.DecodeTrail(want.Encode())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
		if plain, err := json.Marshal(want); err != nil || string(plain) != string(want.Encode()) {
			t.Fatalf("got %s, want %s", want.Encode(), plain)
		}
	})
}

func TestACorruptTraceIsAnError(t *testing.T) {
	for _, value := range []string{
		"", "{", "null", `{"ids":["a"]}`, `{"member":"m","ids":[""]}`, `{"member":"m","ids":"a"}`,
		`{"member":"m","at":"now"}`, `{"member":"m","ids":["a"],"returned":2}`,
		`{"member":"m","ids":["a"],"returned":-1}`,
	} {
		if got, err := claims.DecodeTrail([]byte(value)); err == nil {
			t.Errorf("DecodeTrail(%s) = %+v", value, got)
		}
	}
	for _, value := range []string{"", "{}", `{"data":"x","deaths":[]}`, `{"deaths":{}}`} {
		if got, err := claims.DecodeQuarantine([]byte(value)); err == nil {
			t.Errorf("DecodeQuarantine(%s) = %+v", value, got)
		}
	}
	if got, err := claims.DecodeAlone([]byte(`{"id":"a"}`)); err == nil {
		t.Errorf("DecodeAlone = %+v", got)
	}
}

func TestTheEvidenceNamesMembersTimesAndExits(t *testing.T) {
	q := claims.Quarantine{Data: "x", At: noon, Deaths: []claims.Death{
		{Member: "ann", At: noon}, {Member: "bob", At: noon.Add(time.Minute), Exit: "signal: killed"},
	}}
	again, err := claims.DecodeQuarantine(q.Encode())
	if err != nil || !reflect.DeepEqual(again, q) {
		t.Fatalf("got %+v, %v, want %+v", again, err, q)
	}
	want := "2 members died while they began with it; `drmctl retry` frees it: ann at 2026-02-03T12:00:00Z, " +
		"bob at 2026-02-03T12:01:00Z (signal: killed)"
	if got := q.Text(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTheExitIsThatOfTheLease(t *testing.T) {
	d, err := claims.DecodeDeaths([]byte(
		`{"deaths":[{"at":"2026-02-03T12:00:00Z","exit":"exit status 2","leases":["0000000000007587"]}]}`))
	if err != nil || d.Of(0x7587) != "exit status 2" || d.Of(1) != "" {
		t.Errorf("got %+v, %v", d, err)
	}
}

func FuzzDecodeTrail(f *testing.F) {
	f.Add(claims.Trail{Member: "m", At: noon, IDs: []string{"a", "b\"<😀>"}}.Encode())
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := claims.DecodeTrail(value)
		if err != nil || r.At.UTC().Year() < 0 || r.At.UTC().Year() > 9999 {
			return
		}
		again, err := claims.DecodeTrail(r.Encode())
		if err != nil || again.Member != r.Member || !again.At.Equal(r.At) || len(again.IDs) != len(r.IDs) {
			t.Fatalf("%s: %+v, then %+v, %v", value, r, again, err)
		}
	})
}
