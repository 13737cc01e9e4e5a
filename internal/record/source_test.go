package record_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/record"
)

func TestASourceIsLeftAloneForNoLongerThanItAskedFor(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const year = 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		asked, until time.Duration // from now
		want         time.Duration
	}{
		"not at all":                           {0, -time.Second, 0},
		"for the rest of its time":             {-time.Minute, time.Hour, time.Hour},
		"by a clock that is a year ahead":      {year, year + time.Hour, time.Hour},
		"by a clock that is a year behind":     {-year, -year + time.Hour, 0},
		"for no more than a day, whoever says": {-time.Minute, year, record.MostLeftAlone},
		"by somebody who has not asked":        {year, time.Hour, time.Hour},
	} {
		r := record.Source{LastAttempt: now.Add(c.asked), NotBefore: now.Add(c.until)}
		if got := r.LeftAlone(now); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if got := (&record.Source{LastAttempt: now}).LeftAlone(now); got != 0 {
		t.Errorf("of a record without: %v", got)
	}
}

func FuzzDecodeSource(f *testing.F) {
	f.Add([]byte(`{"last_success":"2026-01-02T03:04:05Z","resources":7,"held":2,"too_large":1,` +
		`"rejected":["a"],"error":"no"}`))
	f.Add([]byte(`{"held":1,"held_removals":{"digest":"0-1","ids":["a"],"since":"2026-01-02T03:04:05Z",` +
		`"joined":"2026-01-02T03:04:05Z"},"accepted":{"revision":7,"removed":-1}}`))
	f.Add([]byte(`{"resources":1,"last_change":{"at":"2026-01-02T03:04:05Z","added":1,"changed":2,"removed":-3}}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := record.DecodeSource(value)
		if err != nil {
			if !reflect.DeepEqual(r, record.Source{}) {
				t.Fatalf("%q: %+v besides %v", value, r, err)
			}
			return
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		w, err := record.DecodeSource(b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if !w.LastSuccess.Equal(r.LastSuccess) || !w.LastAttempt.Equal(r.LastAttempt) ||
			!slices.Equal(w.Rejected, r.Rejected) {
			t.Fatalf("%q: %+v, then %+v", value, r, w)
		}
		w.LastSuccess, w.LastAttempt, w.Rejected = r.LastSuccess, r.LastAttempt, r.Rejected
		if w.LastChange.At.Equal(r.LastChange.At) {
			w.LastChange.At = r.LastChange.At
		}
		if !reflect.DeepEqual(w, r) {
			t.Fatalf("%q: %+v, then %+v", value, r, w)
		}
	})
}
