package catalogue

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// mostAtOnce is how many shards are read at once at most: enough for a thousand of them to take a few round trips to
// etcd. shareAtOnce bounds what of the catalogue is in memory then: a sixteenth, if its shards are of one size.
const (
	mostAtOnce  = 64
	shareAtOnce = 16
)

// eachShard calls f for each shard, for many at a time: one after the other, each shard would take a round trip to
// etcd. When a call fails, eachShard ends the context of the others, waits for them, and returns the error.
func (s *Store) eachShard(ctx context.Context, f func(ctx context.Context, n int) error) error {
	calls, within := errgroup.WithContext(ctx)
	calls.SetLimit(min(max(s.Shards/shareAtOnce, 1), mostAtOnce))
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
