package member

import (
	"context"
	"time"

	"github.com/distributed-resource-manager/drm/internal/clock"
	"github.com/distributed-resource-manager/drm/internal/ready"
)

// Options replace what a member otherwise takes from the system, and let a test look into the member. The zero value of
// each field means its default. Only this module can set them, because this package is internal.
type Options struct {
	// StatsInterval is how often a member that never rests writes its figures, if they have changed; 0 means 10 s.
	StatsInterval time.Duration
	// Young is how long a resource may be to blame for its member's death after its Handle has returned; 0 means 10 s.
	Young time.Duration
	// FlapWait is how long a member stays away after its second short life in a row; 0 means ready.FirstWait.
	FlapWait time.Duration
	// Clock measures leases. Nil means the system's clock.
	Clock clock.Clock
	// Wall returns the time that is shown to people; no decision depends on it. Nil means time.Now.
	Wall func() time.Time
	// Observe is called once, when the member has started, before drm.Start returns it. It is not called if the start
	// failed. Nil means that nobody looks.
	Observe func(Probe)
}

// Probe lets a test look into one running member, and disturb it. Any goroutine may call its methods until the member
// has stopped.
type Probe interface {
	// ID returns the member's id.
	ID() string
	// Wedge keeps the member's loop from doing anything until release is called. It returns when the loop stands still.
	// release must be called exactly once, before the member is stopped.
	Wedge() (release func())
	// Sees returns the member that owns the resource id, by the newest view that this member's loop has acted upon; ""
	// before the member has any view.
	Sees(id string) (owner string)
	// Stuck returns how many calls of the user's code the member has given up that have not returned.
	Stuck() int
}

// defaultStatsInterval is the default of Options.StatsInterval.
const defaultStatsInterval = 10 * time.Second

// defaultYoung is the default of Options.Young.
const defaultYoung = 10 * time.Second

type optionsKey struct{}

// WithOptions makes drm.Start, called with the returned context, start the member with these options.
func WithOptions(ctx context.Context, o Options) context.Context {
	return context.WithValue(ctx, optionsKey{}, o)
}

// OptionsFrom returns the options that ctx carries, with a default for each field that is not set. Observe stays nil if
// it is not set.
func OptionsFrom(ctx context.Context) Options {
	o, _ := ctx.Value(optionsKey{}).(Options)
	if o.StatsInterval == 0 {
		o.StatsInterval = defaultStatsInterval
	}
	if o.Young == 0 {
		o.Young = defaultYoung
	}
	if o.FlapWait == 0 {
		o.FlapWait = ready.FirstWait
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Wall == nil {
		o.Wall = time.Now
	}
	return o
}
