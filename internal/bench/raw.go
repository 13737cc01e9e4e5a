package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// The baseline: as many keys as the bench writes, of the same size, put without any condition, in transactions as large
// as etcd takes them and as many at once as a member has under way. Nothing that keeps one owner can be faster.
const (
	rawBatch    = 127
	rawInFlight = 4
)

// batched carries out operations in full transactions, several at once, and tells how long that took.
func batched(ctx context.Context, client *clientv3.Client, ops []clientv3.Op) (time.Duration, error) {
	began := time.Now()
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range rawInFlight {
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

// rawPut puts n keys like claims with values of that size, rawDelete takes them out again.
func (l *lab) rawPut(ctx context.Context, n, bytes int) (time.Duration, error) {
	value := string(object(0, bytes, "x"))
	return batched(ctx, l.client, l.rawOps(n, func(key string) clientv3.Op { return clientv3.OpPut(key, value) }))
}

func (l *lab) rawDelete(ctx context.Context, n int) (time.Duration, error) {
	return batched(ctx, l.client, l.rawOps(n, func(key string) clientv3.Op { return clientv3.OpDelete(key) }))
}

// claimBytes is about the size of a claim's value.
const claimBytes = 90

func (l *lab) rawOps(n int, op func(key string) clientv3.Op) []clientv3.Op {
	ops := make([]clientv3.Op, n)
	for i := range n { // by shard, as the claims of a member go
		ops[i] = op(fmt.Sprintf("%s/raw/shards/%04x/claims/%s", l.prefix, i*1024/n, id(i)))
	}
	return ops
}

// raw measures rawPut and takes the keys out again.
func (l *lab) raw(ctx context.Context, n, bytes int) (time.Duration, error) {
	took, err := l.rawPut(ctx, n, bytes)
	if err == nil {
		_, err = l.rawDelete(ctx, n)
	}
	l.say("raw: %d keys put in %v, %.0f a second", n, took.Round(time.Millisecond), rate(n, took))
	return took, err
}

func rate(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }
