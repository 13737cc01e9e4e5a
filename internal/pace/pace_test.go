package pace_test

import (
	"context"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/pace"
)

func TestPausesDoubleUpToTheLongest(t *testing.T) {
	p := pace.New(100*time.Millisecond, time.Second, 0)
	for range 2 {
		for i, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
			if got := p.Next(); got != want*time.Millisecond {
				t.Errorf("pause %d is %v, want %v", i, got, want*time.Millisecond)
			}
		}
		p.Reset()
	}
	if got := pace.New(time.Minute, time.Second, 0).Next(); got != time.Second {
		t.Errorf("a first pause above the longest is %v", got)
	}
	many := pace.New(time.Millisecond, time.Hour, 0)
	for range 1000 {
		many.Next()
	}
	if got := many.Next(); got != time.Hour {
		t.Errorf("after 1,000 pauses: %v", got)
	}
}

// Callers that failed together must not come back together, nor later than the longest pause.
func TestPausesDifferWithinTheirShare(t *testing.T) {
	for name, tt := range map[string]struct {
		next        func() time.Duration
		least, most time.Duration
	}{
		"less": {pace.New(time.Second, time.Second, 0.25).Next, 750 * time.Millisecond, time.Second},
		"all":  {pace.New(time.Second, time.Second, 1).Next, 0, time.Second},
		"around": {
			pace.Around(time.Second, time.Second, 0.2).Next, 800 * time.Millisecond, 1200 * time.Millisecond,
		},
		"one": {func() time.Duration { return pace.Less(time.Second, 0.5) }, 500 * time.Millisecond, time.Second},
	} {
		lowest, highest := time.Hour, time.Duration(0)
		for range 1000 {
			got := tt.next()
			lowest, highest = min(lowest, got), max(highest, got)
		}
		span := tt.most - tt.least
		if lowest < tt.least || highest > tt.most || lowest > tt.least+span/4 || highest < tt.most-span/4 {
			t.Errorf("%s: from %v to %v, want all of %v to %v", name, lowest, highest, tt.least, tt.most)
		}
	}
	if got := pace.Less(0, 0.5); got != 0 {
		t.Errorf("of no time, %v is left", got)
	}
}

func TestAPauseEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if !pace.Wait(ctx, time.Nanosecond) {
		t.Error("the wait ended before its time")
	}
	cancel()
	if pace.Wait(ctx, time.Hour) || pace.New(time.Hour, time.Hour, 0).Wait(ctx) {
		t.Error("the wait went on after its context had ended")
	}
}
