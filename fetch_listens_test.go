package drm

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// bubbleClock tells the time of a synctest bubble.
type bubbleClock struct{ began time.Time }

func (c bubbleClock) Now() time.Duration { return time.Since(c.began) }

// The pause between two attempts ends when something wants the source to be asked: not before the source has had its rest,
// and not while it wants to be left alone.
func TestThePauseBetweenAttemptsListens(t *testing.T) {
	const hour = time.Hour
	for name, c := range map[string]struct {
		cached    bool
		notBefore time.Duration // after the failure
		refetch   []time.Duration
		joined    []time.Duration
		want      time.Duration
	}{
		"nothing":                                      {want: hour},
		"a Refetch ends it":                            {refetch: []time.Duration{5 * time.Second}, want: 5 * time.Second},
		"but not right after the failure":              {refetch: []time.Duration{0}, want: leastPause},
		"however many come":                            {refetch: []time.Duration{0, time.Millisecond, leastPause / 2}, want: leastPause},
		"nor while the source wants to be left alone":  {notBefore: 10 * time.Minute, refetch: []time.Duration{time.Minute}, want: 10 * time.Minute},
		"a membership that has settled ends it":        {joined: []time.Duration{10 * time.Second}, want: 12 * time.Second},
		"one that has not does not":                    {joined: []time.Duration{10 * time.Second, 11 * time.Second}, want: 13 * time.Second},
		"and none does where that makes nobody ask":    {cached: true, joined: []time.Duration{10 * time.Second}, want: hour},
		"a Refetch comes first":                        {joined: []time.Duration{10 * time.Second}, refetch: []time.Duration{11 * time.Second}, want: 11 * time.Second},
		"the membership does not wake a source either": {notBefore: time.Minute, joined: []time.Duration{time.Second}, want: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &Manager{
					clock: bubbleClock{time.Now()}, log: zap.NewNop(),
					cfg: Config{SettleDelay: 2 * time.Second, CacheResources: c.cached},
				}
				o := &office{m: m, changed: make(chan struct{}, 1), asked: make(chan struct{}, 1), orders: newOrders(keys.New("/p", "app"), 1, func() {})}
				o.settle, o.vouch = time.NewTimer(hour), time.NewTicker(1000*hour)
				o.settle.Stop()
				defer o.vouch.Stop()
				o.calm = leastPause
				o.notBefore = c.notBefore
				for _, at := range c.refetch {
					time.AfterFunc(at, o.refetch)
				}
				for _, at := range c.joined {
					time.AfterFunc(at, o.membersChanged)
				}
				began := time.Now()
				if !o.pause(t.Context(), hour) {
					t.Fatal("it ended with its context")
				}
				if took := time.Since(began); took != c.want {
					t.Errorf("it took %v, want %v", took, c.want)
				}
			})
		})
	}
}

func TestThePauseBetweenAttemptsEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &office{m: &Manager{clock: bubbleClock{time.Now()}}, settle: time.NewTimer(time.Hour), vouch: time.NewTicker(time.Hour), orders: newOrders(keys.New("/p", "app"), 1, func() {})}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if o.pause(ctx, 30*time.Minute) {
			t.Error("it went on")
		}
	})
}

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
		"for no more than a day, whoever says": {-time.Minute, year, mostDuration},
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
