package catalogue

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// shardsAtOnce is how many shards are read at once: enough for a thousand of them to take a few round trips to etcd,
// and so few that what is read and not used yet takes little memory.
const shardsAtOnce = 64

// eachShard calls f for each shard, for many at a time: one after the other, each shard would take a round trip to
// etcd. When a call fails, eachShard ends the context of the others, waits for them, and returns the error.
func (s *Store) eachShard(ctx context.Context, f func(ctx context.Context, n int) error) error {
	calls, within := errgroup.WithContext(ctx)
	calls.SetLimit(shardsAtOnce)
	for n := range s.Shards {
		if within.Err() != nil {
			break
		}
		calls.Go(func() error { return f(within, n) })
	}
	if err := calls.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}
