package source

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
)

// pausing makes a term that uses the time of its synctest bubble, if it is in one. Nothing of it runs but what the test
// calls.
func pausing(o Options) *Term {
	began := time.Now()
	o.Now = func() time.Duration { return time.Since(began) }
	o.Store = &catalogue.Store{}
	t := New(o).Term(1, false)
	t.timers = newTimers(1000 * time.Hour)
	return t
}

// The pause between two attempts ends when something wants the source to be asked, but not right after the failure, and
// not while the source wants to be left alone.
func TestThePauseBetweenAttemptsListens(t *testing.T) {
	const s, hour = time.Second, time.Hour
	type moments = []time.Duration
	for name, c := range map[string]struct {
		cached    bool
		notBefore time.Duration // after the failure
		refetch   []time.Duration
		joined    []time.Duration
		want      time.Duration
	}{
		"nothing":                                  {want: hour},
		"a Refetch":                                {refetch: moments{5 * s}, want: 5 * s},
		"a Refetch right after the failure":        {refetch: moments{0}, want: leastPause},
		"many right after the failure":             {refetch: moments{0, s / 1000, leastPause / 2}, want: leastPause},
		"a Refetch while it must be left alone":    {notBefore: hour / 6, refetch: moments{hour / 60}, want: hour / 6},
		"a new member":                             {joined: moments{10 * s}, want: 12 * s},
		"a new member, and another one":            {joined: moments{10 * s, 11 * s}, want: 13 * s},
		"a new member, with CacheResources":        {cached: true, joined: moments{10 * s}, want: hour},
		"a new member, and a Refetch":              {joined: moments{10 * s}, refetch: moments{11 * s}, want: 11 * s},
		"a new member while it must be left alone": {notBefore: hour / 60, joined: moments{s}, want: hour / 60},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				term := pausing(Options{SettleDelay: 2 * s, CacheResources: c.cached})
				defer term.timers.stop()
				term.calm = leastPause
				term.notBefore = c.notBefore
				for _, at := range c.refetch {
					time.AfterFunc(at, term.refetch)
				}
				for _, at := range c.joined {
					time.AfterFunc(at, term.MembersChanged)
				}
				began := time.Now()
				if !term.pause(t.Context(), hour) {
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
		term := pausing(Options{})
		defer term.timers.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if term.pause(ctx, 30*time.Minute) {
			t.Error("it went on")
		}
	})
}
