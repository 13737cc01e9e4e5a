package bench

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm"
)

// rawBatch is how many operations a transaction of the baseline has: as many as etcd accepts. The baseline puts as many
// keys as the bench, of the same size, without any condition, and sends as many transactions at once as is fastest.
// Nothing that makes sure of a single owner can be faster.
const rawBatch = 127

// batched carries out operations in full transactions, several at once, and returns how long that took.
func batched(ctx context.Context, client *clientv3.Client, inFlight int, ops []clientv3.Op) (time.Duration, error) {
	began := time.Now()
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range inFlight {
		g.Go(func() error {
			for {
				from := int(next.Add(rawBatch)) - rawBatch
				if from >= len(ops) {
					return nil
				}
				if _, err := client.Txn(ctx).Then(ops[from:min(from+rawBatch, len(ops))]...).Commit(); err != nil {
					return fmt.Errorf("raw batch: %w", err)
				}
			}
		})
	}
	err := g.Wait()
	return time.Since(began), err
}

// rawPut puts n keys like those of claims, with values of that many bytes. rawDelete deletes them.
func (l *lab) rawPut(ctx context.Context, inFlight, n, bytes int) (time.Duration, error) {
	value := string(object(0, bytes, "x"))
	put := func(key string) clientv3.Op { return clientv3.OpPut(key, value) }
	return batched(ctx, l.client, inFlight, l.rawOps(n, put))
}

func (l *lab) rawDelete(ctx context.Context, inFlight, n int) (time.Duration, error) {
	return batched(ctx, l.client, inFlight, l.rawOps(n, func(key string) clientv3.Op { return clientv3.OpDelete(key) }))
}

// rawFew is how many keys are enough to find out what is faster.
const rawFew = 50_000

// pace finds out with how many transactions at once etcd is fastest: a few, or as many as a member has in flight. It
// also warms up the connection, which favours the baseline.
func (l *lab) pace(ctx context.Context, n, bytes int) (inFlight int, err error) {
	var best time.Duration
	for _, some := range []int{4, drm.DefaultMaxInFlight} {
		took, err := l.rawPut(ctx, some, min(n, rawFew), bytes)
		if err != nil {
			return 0, err
		}
		if _, err := l.rawDelete(ctx, some, min(n, rawFew)); err != nil {
			return 0, err
		}
		if best == 0 || took < best {
			best, inFlight = took, some
		}
	}
	return inFlight, nil
}

// claimBytes is about the size of a claim's value.
const claimBytes = 90

func (l *lab) rawOps(n int, op func(key string) clientv3.Op) []clientv3.Op {
	ops := make([]clientv3.Op, n)
	for i := range n { // in the order of shards, like the claims of a member
		ops[i] = op(fmt.Sprintf("%s/raw/shards/%04x/claims/%s", l.prefix, i*1024/n, id(i)))
	}
	return ops
}

// raw measures how long it takes to put n keys, and to delete them.
func (l *lab) raw(ctx context.Context, n, bytes int) (put, deleted time.Duration, err error) {
	inFlight, err := l.pace(ctx, n, bytes)
	if err != nil {
		return 0, 0, err
	}
	return l.rawAt(ctx, inFlight, n, bytes)
}

// rawAt is raw with inFlight transactions at once.
func (l *lab) rawAt(ctx context.Context, inFlight, n, bytes int) (put, deleted time.Duration, err error) {
	if put, err = l.rawPut(ctx, inFlight, n, bytes); err != nil {
		return 0, 0, err
	}
	if deleted, err = l.rawDelete(ctx, inFlight, n); err != nil {
		return 0, 0, err
	}
	l.say("raw: %d keys put in %v, %.0f a second, %d transactions at once",
		n, put.Round(time.Millisecond), rate(n, put), inFlight)
	return put, deleted, nil
}

// rawAround measures raw before and after each round of measure, and returns the mean: a machine that others use too is
// not equally fast at all times.
func (l *lab) rawAround(
	ctx context.Context, n, bytes, rounds int, measure func() error,
) (put time.Duration, err error) {
	inFlight, err := l.pace(ctx, n, bytes)
	if err != nil {
		return 0, err
	}
	sum, _, err := l.rawAt(ctx, inFlight, n, bytes)
	if err != nil {
		return 0, err
	}
	for range rounds {
		if err := measure(); err != nil {
			return 0, err
		}
		runtime.GC() // the baseline must not pay for the garbage of measure
		put, _, err := l.rawAt(ctx, inFlight, n, bytes)
		if err != nil {
			return 0, err
		}
		sum += put
	}
	return sum / time.Duration(rounds+1), nil
}

func rate(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }
