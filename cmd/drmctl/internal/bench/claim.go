package bench

import (
	"context"
	"time"
)

// claimRounds is how many times claim is measured. One round may take a fifth more or less time than another, for
// reasons outside of the bench.
const claimRounds = 3

// claim measures a cold start: how fast one member claims all resources when the first thing that it hears is that it
// owns them. All figures are means over several starts.
func claim(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	n := l.size(100_000)
	if err := l.fill(ctx, n); err != nil {
		return nil, false, err
	}
	var handled, active time.Duration
	raw, err := l.rawAround(ctx, n, claimBytes, claimRounds, func() error {
		h, a, err := l.claimAll(ctx, n)
		if err != nil {
			return err
		}
		l.say("a cold start: all of %d handled after %v, active after %v",
			n, h.Round(time.Millisecond), a.Round(time.Millisecond))
		handled, active = handled+h/claimRounds, active+a/claimRounds
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	f := map[string]float64{
		"resources": float64(n), "rounds": claimRounds, "raw_seconds": raw.Seconds(),
		"handled_seconds": handled.Seconds(), "active_seconds": active.Seconds(),
		"handled_of_raw": raw.Seconds() / handled.Seconds(), "active_of_raw": raw.Seconds() / active.Seconds(),
	}
	return f, f["handled_of_raw"] >= 0.4 && f["active_of_raw"] >= 0.25, nil
}

// claimAll starts a member on a full catalogue. It returns how long it takes until the last Handle is called, and until
// all resources are active according to etcd.
func (l *lab) claimAll(ctx context.Context, n int) (handled, active time.Duration, err error) {
	l.handler = newCounter(n)
	full := l.handler.expect(n)
	w, err := newWire(l.etcd.Config)
	if err != nil {
		return 0, 0, err
	}
	allActive := w.actives.expect(n)
	began := time.Now()
	m, err := l.startOn(ctx, w, "member", nil)
	if err != nil {
		return 0, 0, err
	}
	if err := await(ctx, "all are handled", full); err != nil {
		return 0, 0, err
	}
	if err := await(ctx, "all are active", allActive); err != nil {
		return 0, 0, err
	}
	defer l.stop(ctx, m)
	return l.handler.reached().Sub(began), w.actives.allAt.Sub(began), nil
}
