package picture

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/follow"
)

// ownersProbe is how often FollowOwners makes sure that etcd answers. The watches of etcd's client make themselves anew
// without a word, so their silence says nothing. It is also how long an answer is waited for.
const ownersProbe = 5 * time.Second

// FollowOwners calls changed for each change of ownership from now on, in the order of revisions, until ctx ends, and
// returns its cause; or until etcd turns out to have been rewound: follow.ErrRewound. After a lost connection it
// tells what changed meanwhile; owners in between are not seen. Where the app does not exist yet it waits for it.
//
// lost is called with the reason when etcd does not answer, or refuses, and with nil when it answers again: in turn,
// and never twice for one outage. Neither may block for long; lost is called by another goroutine than changed.
func (r *Reader) FollowOwners(ctx context.Context, changed func(OwnerChange), lost func(error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	troubles := make(chan error, 1)
	hub := follow.NewHub(r.Client, follow.Options{
		ListTimeout: r.Timeout, Probe: r.Layout.Config(),
		OnRewound: cancel,
		OnError: func(_ string, err error) {
			select {
			case troubles <- err:
			default: // one is enough to know
			}
		},
	})
	defer hub.Close()
	told := make(chan struct{})
	go func() {
		defer close(told)
		r.tellOutages(ctx, hub.KV(), troubles, lost)
	}()
	hub.Follow(ctx, r.Layout.Shards(), newOwnerFollower(r.Layout, changed))
	<-told
	return fmt.Errorf("follow the owners: %w", context.Cause(ctx))
}

// tellOutages asks etcd now and then, and tells when it does not answer any more, or a list or a watch fails; and
// when it answers and nothing has failed since it was asked before.
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
