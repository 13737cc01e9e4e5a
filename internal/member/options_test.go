package member

import (
	"context"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/clock"
)

// stoppedClock is a clock other than the system's.
type stoppedClock struct{ clock.Clock }

func (stoppedClock) Now() time.Duration { return 7 }

func TestAContextWithoutOptionsHasTheDefaults(t *testing.T) {
	o := OptionsFrom(t.Context())
	if o.StatsInterval != 10*time.Second || o.Clock != clock.System() || o.Wall == nil || o.Observe != nil {
		t.Errorf("options %+v", o)
	}
	if off := time.Since(o.Wall()).Abs(); off > time.Minute {
		t.Errorf("the wall clock is wrong by %v", off)
	}
}

func TestAContextCarriesOptions(t *testing.T) {
	ctx, cancel := context.WithCancel(WithOptions(t.Context(), Options{
		StatsInterval: time.Hour,
		Clock:         stoppedClock{},
		Wall:          func() time.Time { return time.Unix(7, 0) },
		Observe:       func(Probe) {},
	}))
	defer cancel()
	o := OptionsFrom(ctx)
	if o.StatsInterval != time.Hour || o.Clock.Now() != 7 || o.Wall().Unix() != 7 || o.Observe == nil {
		t.Errorf("options %+v", o)
	}
}
