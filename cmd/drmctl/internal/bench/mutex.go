package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"
	"golang.org/x/sync/errgroup"
)

// mutex compares a member with the usual way to have one owner, a recipe of etcd: one session and one lock for each
// resource.
func mutex(ctx context.Context, l *lab) (map[string]float64, bool, error) {
	const goroutines = 64
	locks, n := l.size(10_000), l.size(100_000)
	if err := l.fill(ctx, n); err != nil {
		return nil, false, err
	}
	handled, _, err := l.claimAll(ctx, n)
	if err != nil {
		return nil, false, err
	}
	l.say("ours: %d in %v; now %d mutexes", n, handled.Round(time.Millisecond), locks)

	sessions := make([]*concurrency.Session, locks)
	var next atomic.Int64
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for range goroutines {
		g.Go(func() error {
			for i := next.Add(1) - 1; i < int64(locks); i = next.Add(1) - 1 {
				s, err := concurrency.NewSession(l.client, concurrency.WithTTL(60), concurrency.WithContext(ctx))
				if err != nil {
					return err
				}
				sessions[i] = s
				lock := concurrency.NewMutex(s, fmt.Sprintf("%s/mutex/%s", l.prefix, id(int(i))))
				if err := lock.Lock(gctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = g.Wait()
	took := time.Since(began)
	for _, s := range sessions {
		if s != nil {
			s.Orphan() // revoking ten thousand leases one by one would take as long again
		}
	}
	f := map[string]float64{
		"mutexes": float64(locks), "mutex_seconds": took.Seconds(), "mutexes_per_second": rate(locks, took),
		"resources": float64(n), "handled_seconds": handled.Seconds(), "handled_per_second": rate(n, handled),
		"times_as_fast": rate(n, handled) / rate(locks, took),
	}
	return f, f["times_as_fast"] >= 4, err
}
