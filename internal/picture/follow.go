package picture

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/pace"
)

// Follow calls look now, and again after changes below the app's root, until ctx ends; then it returns the cause. It
// looks at most once in every, and for no more than half of the time. If etcd does not answer, it calls lost with the
// error, tries again, and calls lost with nil when etcd is back; a watch says nothing of that, so while nothing changes
// a small read shows whether etcd is there. It returns any other error of look.
func (r *Reader) Follow(
	ctx context.Context, every time.Duration, look func(context.Context) error, lost func(error),
) error {
	away := false
	for pauses := pace.Retry(); ; {
		watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		changed, ended := make(chan struct{}, 1), make(chan struct{})
		watch := r.Client.Watch(watching, r.Layout.Root(), clientv3.WithPrefix()) // begins before the look
		go func() {
			defer close(ended)
			notify(watch, changed)
		}()
		err := r.followOnce(ctx, every, changed, ended, look, func() {
			pauses.Reset()
			if away {
				away = false
				lost(nil)
			}
		})
		cancel()
		<-ended
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !errors.Is(err, etcd.ErrUnreachable):
			return err
		case err != nil && !away:
			away = true
			lost(err)
		}
		if !pauses.Wait(ctx) {
			return context.Cause(ctx)
		}
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
		if again, err := r.awaitChange(ctx, changed, ended); !again || err != nil {
			return err
		}
	}
}

// awaitChange returns true when something has changed, false when the watch or ctx ends, and an error if etcd does not
// answer.
func (r *Reader) awaitChange(ctx context.Context, changed, ended <-chan struct{}) (bool, error) {
	answers := time.NewTicker(r.Timeout)
	defer answers.Stop()
	for {
		select {
		case <-changed:
			return true, nil
		case <-ended:
			return false, nil
		case <-ctx.Done():
			return false, nil
		case <-answers.C:
		}
		if _, err := r.page(ctx, r.Layout.Config(), "", 0, 1, clientv3.WithKeysOnly()); err != nil {
			return false, fmt.Errorf("see whether etcd is there: %w", err)
		}
	}
}
