package picture

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/follow"
)

// ownersProbe is how often FollowOwners checks that etcd answers, and the longest that it waits for an answer. A watch
// of etcd's client reconnects silently, so a watch that shows nothing proves nothing.
const ownersProbe = 5 * time.Second

// FollowOwners calls changed for each change of ownership from now on, in the order of revisions, until ctx ends; the
// error has its cause. It also returns if etcd went back in time; the error matches follow.ErrRewound then. After a
// lost connection it reports the owners that have changed meanwhile, but not those in between. It waits for an app that
// does not exist yet.
//
// lost is called with the reason when etcd does not answer, or refuses, and with nil when it answers again: in turn,
// and never twice for one outage. Neither function may block for long. lost and changed are called by different
// goroutines.
func (r *Reader) FollowOwners(ctx context.Context, changed func(OwnerChange), lost func(error)) error {
	err := r.follow(ctx, lost, func(ctx context.Context, hub *follow.Hub) {
		hub.Follow(ctx, r.Layout.Shards(), newOwnerFollower(r.Layout, changed))
	})
	return fmt.Errorf("follow the owners: %w", err)
}

// follow calls do with a hub, until ctx ends or etcd went back in time, and returns the cause. do must return when its
// context ends. lost is called as FollowOwners says.
func (r *Reader) follow(
	ctx context.Context, lost func(error), do func(ctx context.Context, hub *follow.Hub),
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	troubles := make(chan error, 1)
	hub := follow.NewHub(r.Client, follow.Options{
		ListTimeout: r.Timeout, Probe: r.Layout.Config(),
		OnRewound: cancel,
		OnError: func(_ string, err error) {
			select {
			case troubles <- err:
			default: // another trouble has not been seen yet, and one is enough
			}
		},
	})
	defer hub.Close()
	told := make(chan struct{})
	go func() {
		defer close(told)
		r.tellOutages(ctx, hub.KV(), troubles, lost)
	}()
	do(ctx, hub)
	<-told
	return context.Cause(ctx)
}

// tellOutages asks etcd every ownersProbe. It calls lost with an error when etcd does not answer, or a list or a watch
// fails, and with nil when etcd answers again and nothing has failed since the last time it was asked.
func (r *Reader) tellOutages(ctx context.Context, kv clientv3.KV, troubles <-chan error, lost func(error)) {
	out, calm := false, true
	failed := func(err error) {
		if calm = false; !out && ctx.Err() == nil {
			out = true
			lost(err)
		}
	}
	for {
		select {
		case err := <-troubles:
			failed(err)
		default:
		}
		asking, cancel := context.WithTimeout(ctx, min(r.Timeout, ownersProbe))
		_, err := kv.Get(asking, r.Layout.Config(), clientv3.WithKeysOnly())
		cancel()
		switch {
		case err != nil:
			failed(etcd.Unreachable(ctx, err))
		case out && calm:
			out = false
			lost(nil)
		}
		calm = true
		pause, done := context.WithTimeout(ctx, ownersProbe)
		for pause.Err() == nil {
			select {
			case <-pause.Done():
			case err := <-troubles:
				failed(err)
			}
		}
		done()
		if ctx.Err() != nil {
			return
		}
	}
}
