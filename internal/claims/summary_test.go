package claims_test

import (
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

func TestASummaryComesBackAsItWentIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRecord().Draw(t, "record")
		want := claims.Summary{
			Member: r.Member, Through: rapid.Int64Min(1).Draw(t, "through"),
			Within: time.Duration(rapid.Int64Range(0, 1<<42).Draw(t, "ms")) * time.Millisecond,
		}
		got, err := claims.DecodeSummary(want.Encode())
		if err != nil || got != want {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
	})
}

func TestASummaryTellsOfClaimsThatSayNothingElse(t *testing.T) {
	s := claims.Summary{Member: "m", Through: 100, Within: time.Second}
	active := claims.Record{Member: "m", State: claims.Active, Since: noon.Add(time.Second)}
	for _, tt := range []struct {
		r        claims.Record
		modified int64
		want     bool // active a second later
	}{
		{claims.Record{Member: "m", State: claims.Claimed, Since: noon}, 100, true},
		{claims.Record{Member: "m", State: claims.Claimed, Since: noon}, 1, true},
		{claims.Record{Member: "m", State: claims.Claimed, Since: noon}, 101, false},
		{claims.Record{Member: "other", State: claims.Claimed, Since: noon}, 100, false},
		{claims.Record{Member: "m", State: claims.Failed, Since: noon, Error: "boom"}, 100, false},
		{claims.Record{Member: "m", State: claims.Active, Since: noon}, 100, false},
	} {
		want := tt.r
		if tt.want {
			want = active
		}
		if got := s.Of(tt.r, tt.modified); got != want {
			t.Errorf("%+v, modified at %d: %+v, want %+v", tt.r, tt.modified, got, want)
		}
		if got := (claims.Summary{}).Of(tt.r, tt.modified); got != tt.r {
			t.Errorf("without a summary: %+v, want %+v", got, tt.r)
		}
	}
}

func TestACorruptSummaryIsAnError(t *testing.T) {
	for _, value := range []string{
		"", "{", "null", "[]", "{}", `{"member":"m"}`, `{"through":1}`, `{"member":"m","through":0}`,
		`{"member":"m","through":-1}`,
		`{"member":"a\nb","through":1}`, `{"member":"m","through":"1"}`, `{"member":"m","through":1.5}`,
		`{"member":"m","through":1,"within_ms":-1}`, `{"member":"m","through":1,"within_ms":9223372036854775807}`,
		`{"member":"m","through":99999999999999999999}`,
	} {
		if s, err := claims.DecodeSummary([]byte(value)); err == nil || s != (claims.Summary{}) {
			t.Errorf("DecodeSummary(%s) = %+v, %v", value, s, err)
		}
	}
}

func TestASummaryOnAnotherLeaseThanItsKeyIsAboutIsAnError(t *testing.T) {
	want := claims.Summary{Member: "m", Through: 7}
	key := keys.Key{Kind: keys.Summary, Number: 3, Lease: 0x70}
	if s, err := claims.DecodeSummaryOf(key, &mvccpb.KeyValue{Value: want.Encode(), Lease: 0x70}); err != nil ||
		s != want {
		t.Errorf("got %+v, %v, want %+v", s, err, want)
	}
	for _, lease := range []int64{0, 0x71} { // without a lease it would never be deleted
		if s, err := claims.DecodeSummaryOf(key, &mvccpb.KeyValue{Value: want.Encode(), Lease: lease}); err == nil ||
			s != (claims.Summary{}) {
			t.Errorf("on lease %x: got %+v, %v, want an error", lease, s, err)
		}
	}
}

func FuzzDecodeSummary(f *testing.F) {
	f.Add(claims.Summary{Member: "m/😀", Through: 7311, Within: time.Minute}.Encode())
	f.Add([]byte(`{"member":"m","through":1,"within_ms":7,"more":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := claims.DecodeSummary(text)
		if err != nil {
			return
		}
		if again, err := claims.DecodeSummary(s.Encode()); err != nil || again != s {
			t.Fatalf("%s: %+v, then %+v, %v", text, s, again, err)
		}
	})
}

func ExampleSummary() {
	claimed := claims.Record{Member: "ann", State: claims.Claimed, Since: time.Date(2026, 2, 3, 12, 0, 0, 0, time.UTC)}
	s := claims.Summary{Member: "ann", Through: 7311, Within: 250 * time.Millisecond}
	fmt.Printf("%s\n", s.Encode())
	is := s.Of(claimed, 7300)
	fmt.Println(is.State, is.Since)
	is = s.Of(claimed, 7320) // claimed or handled anew since then
	fmt.Println(is.State, is.Since)
	// Output:
	// {"member":"ann","through":7311,"within_ms":250}
	// active 2026-02-03 12:00:00.25 +0000 UTC
	// claimed 2026-02-03 12:00:00 +0000 UTC
}
