package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
)

// joinStorm measures how a whole group starts, as after a deployment: each member at a random moment of one second.
func joinStorm(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	const members = 10
	n := l.size(20_000)
	if err := l.fill(ctx, n); err != nil {
		return nil, false, err
	}
	l.handler = newCounter(n)
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for i := range members {
		g.Go(func() error {
			if err := pause(gctx, rand.N(time.Second)); err != nil {
				return err
			}
			_, err := l.start(ctx, fmt.Sprintf("member-%03d", i), nil)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, false, err
	}
	if err := l.settled(ctx, members, n); err != nil {
		return nil, false, err
	}
	settled := time.Since(began)
	storm := l.handler.handled.Load()

	// This is how long a single member takes that joins the group, from its start to its first resource.
	began = time.Now()
	first := l.handler.expect(1)
	if _, err := l.start(ctx, "newcomer", nil); err != nil {
		return nil, false, err
	}
	if err := await(ctx, "the newcomer has something", first); err != nil {
		return nil, false, err
	}
	f := map[string]float64{
		"members": members, "resources": float64(n), "handled": float64(storm), "seconds": settled.Seconds(),
		"moves_of_single": float64(storm) / float64(n), "lone_join_ms": ms(l.handler.reached().Sub(began)),
	}
	return f, f["moves_of_single"] <= 1.5, nil
}
