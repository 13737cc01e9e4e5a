package bench

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm"
)

const (
	flapperID = "flapper"
	// flapperTTL is short, so that a death is noticed as soon as under a supervisor, more or less.
	flapperTTL = 2 * time.Second
)

// flapping measures what a member costs that lives for 8 s, dies and is started again, beside four that live on: first
// without what etcd remembers of its deaths, and then with it. It counts two lives: of the first way the second and the
// third, of the second way the fourth and the fifth, since the first two are as without, and the end of the second
// lasts into the third.
func flapping(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	n, life := l.size(3000), 8*time.Second
	if l.opts.Scale < 0.1 { // somebody wants a quick look
		life = time.Second
	}
	if err := l.fill(ctx, n); err != nil {
		return nil, false, err
	}
	f := map[string]float64{"resources": float64(n), "life_seconds": life.Seconds()}
	for _, way := range []struct {
		name    string
		forgets bool
		passed  int // lives that are not counted
	}{{"before", true, 1}, {"after", false, 3}} {
		l.handler = newCounter(n)
		if err := l.forgive(ctx); err != nil {
			return nil, false, err
		}
		if err := l.group(ctx, 4, trusting); err != nil {
			return nil, false, err
		}
		if err := l.settled(ctx, 4, n); err != nil {
			return nil, false, err
		}
		var began time.Time
		for i := range way.passed + 2 {
			if i == way.passed {
				began = time.Now()
				f[way.name+"_moves_of_first_lives"] = float64(l.handler.takeMoves())
				l.handler.takeUnhandled()
			}
			if err := l.flap(ctx, life, way.forgets); err != nil {
				return nil, false, err
			}
		}
		took := time.Since(began)
		moves, unhandled := float64(l.handler.takeMoves())/took.Minutes(), l.handler.takeUnhandled()
		f[way.name+"_moves_per_minute"] = moves
		f[way.name+"_unhandled_seconds_per_minute"] = unhandled.Seconds() / took.Minutes()
		f[way.name+"_unhandled_percent"] = 100 * unhandled.Seconds() / (took.Seconds() * float64(n))
		f[way.name+"_seconds"] = took.Seconds()
		l.say("%s: %.0f moves a minute, %.2f %% of all resource time unhandled", way.name, moves,
			f[way.name+"_unhandled_percent"])
		if err := l.disband(ctx); err != nil {
			return nil, false, err
		}
	}
	return f, 2*f["after_moves_per_minute"] <= f["before_moves_per_minute"], nil
}

// flap starts the member that flaps, and kills it after its life.
func (l *lab) flap(ctx context.Context, life time.Duration, forgets bool) error {
	if forgets {
		if err := l.forgive(ctx); err != nil {
			return err
		}
	}
	h := &mortal{counter: l.handler}
	m, err := l.start(ctx, flapperID, func(c *drm.Config) { trusting(c); c.Handler, c.LeaseTTL = h, flapperTTL })
	if err != nil {
		return err
	}
	err = pause(ctx, life)
	h.dead.Store(true)
	m.wire.cut()
	l.handler.lose(flapperID)
	go l.stop(context.WithoutCancel(ctx), m)
	return err
}

// trusting makes a member suspect no resource of the deaths: what is suspected begins more slowly, or not at all, which
// is not what this bench is about.
func trusting(c *drm.Config) { c.QuarantineAfter = drm.NeverQuarantine }

// forgive makes etcd forget the short lives of the member that flaps.
func (l *lab) forgive(ctx context.Context) error {
	_, err := l.client.Delete(ctx, l.layout.Lives(flapperID))
	return err
}

// mortal is the handler of a member that dies: what is called after that does not count.
type mortal struct {
	*counter
	dead atomic.Bool
}

// Handle implements drm.Handler.
func (h *mortal) Handle(ctx context.Context, claim drm.Claim) error {
	if h.dead.Load() {
		return context.Canceled
	}
	return h.counter.Handle(ctx, claim)
}

// Terminate implements drm.Handler.
func (h *mortal) Terminate(ctx context.Context, claim drm.Claim) error {
	if h.dead.Load() {
		return nil
	}
	return h.counter.Terminate(ctx, claim)
}
