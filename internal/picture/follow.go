package picture

import (
	"context"
	"errors"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/pace"
)

// Follow calls look now, and again after changes below the app's root, until ctx ends; then it returns the cause. It
// looks at most once in every, and for no more than half of the time. If etcd does not answer, also while there is
// nothing to look at, it calls lost with the error, tries again, and calls lost with nil when etcd is back. It returns
// any other error of look. Several goroutines call lost, one at a time.
func (r *Reader) Follow(
	ctx context.Context, every time.Duration, look func(context.Context) error, lost func(error),
) error {
	etcdIs := outage{lost: lost}
	for pauses := pace.Retry(); ; {
		watching, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
		var helpers sync.WaitGroup
		helpers.Go(func() { r.probe(watching, 0, etcdIs.lostOrBack, cancel) })
		changed, ended := make(chan struct{}, 1), make(chan struct{})
		watch := r.Client.Watch(watching, r.Layout.Root(), clientv3.WithPrefix()) // begins before the look
		helpers.Go(func() {
			defer close(ended)
			notify(watch, changed)
		})
		err := r.followOnce(ctx, every, changed, ended, look, func() {
			pauses.Reset()
			etcdIs.lostOrBack(nil)
		})
		cancel(nil)
		helpers.Wait()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !errors.Is(err, etcd.ErrUnreachable):
			return err
		case err != nil:
			etcdIs.lostOrBack(err)
		}
		if !pauses.Wait(ctx) {
			return context.Cause(ctx)
		}
	}
}

// outage tells once that etcd is lost, and once that it is back, whoever notices it first.
type outage struct {
	lost func(error)

	mu   sync.Mutex
	away bool
}

// lostOrBack takes an error of etcd, or nil if etcd has answered.
func (o *outage) lostOrBack(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if away := err != nil; away != o.away {
		o.away = away
		o.lost(err)
	}
}

// followOnce looks until look fails, or the watch or ctx ends. It calls looked after each look that did not fail.
func (r *Reader) followOnce(
	ctx context.Context, every time.Duration, changed <-chan struct{}, ended <-chan struct{},
	look func(context.Context) error, looked func(),
) error {
	for {
		began := time.Now()
		if err := look(ctx); err != nil {
			return err
		}
		looked()
		if !pace.Wait(ctx, max(every, time.Since(began))) {
			return nil
		}
		select {
		case <-changed:
		case <-ended:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}
