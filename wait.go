package drm

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/pause"
	"github.com/distributed-resource-manager/drm/shard"
)

// rewait bounds how long a waiter trusts its watches before it looks again.
const rewait = 5 * time.Second

// until calls done now and after each change below one of the prefixes, until it says yes or fails, or ctx ends. Then last, if it is
// not nil, says what etcd's last failure was, where it has failed since done last looked; what else it is to say is for done.
func (r *reader) until(ctx context.Context, last *string, prefixes []string, done func(context.Context) (bool, error)) error {
	for failures := 0; ; {
		watching, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), rewait)
		changed := make(chan struct{}, 1)
		for _, prefix := range prefixes { // before the look, so that no change falls between
			go notify(r.client.Watch(watching, prefix, clientv3.WithPrefix()), changed)
		}
		yes, err := untilChanged(ctx, watching, changed, done)
		cancel()
		switch {
		case yes:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !errors.Is(err, ErrUnreachable):
			return err
		case err != nil:
			failures++
			if last != nil {
				*last = err.Error()
			}
			if !pause.For(ctx, pause.After(failures)) {
				return context.Cause(ctx)
			}
		default:
			failures = 0
		}
	}
}

func notify(watch clientv3.WatchChan, changed chan<- struct{}) {
	for range watch {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// untilChanged looks after each change until watching ends, which is no limit of a look: that takes as long as it does. What takes
// long is not done again and again: half of the time, at least, etcd is left alone.
func untilChanged(ctx, watching context.Context, changed <-chan struct{}, done func(context.Context) (bool, error)) (bool, error) {
	for {
		began := time.Now()
		yes, err := done(ctx)
		if yes || err != nil {
			return yes, err
		}
		if !pause.For(ctx, min(time.Since(began), rewait)) {
			return false, nil
		}
		select {
		case <-changed:
		case <-watching.Done():
			return false, nil
		}
	}
}

// ended makes the error of a wait whose context has ended one that says what was seen last.
func ended(ctx context.Context, what, last string, err error) error {
	if err != nil && ctx.Err() != nil {
		return &WaitError{What: what, Last: last, Err: context.Cause(ctx)}
	}
	return err
}

// wait returns when a resource is active.
func (r *reader) wait(ctx context.Context, id string) (Assignment, error) {
	var found Assignment
	last := ""
	n := shard.Of(id, r.config.Shards)
	err := r.until(ctx, &last, []string{r.layout.Resource(n, id), r.layout.Claim(n, id), r.layout.Summaries(n), r.layout.Group()}, func(ctx context.Context) (bool, error) {
		a, entry, err := r.look(ctx, id)
		if err != nil {
			return false, err
		}
		found, last = a, "it is "+a.why()
		if err := notWanted(entry); err != nil {
			return false, fmt.Errorf("wait for resource %q: %w", id, err)
		}
		return a.State == StateActive, nil
	})
	return found, ended(ctx, fmt.Sprintf("resource %q", id), last, err)
}

// waitGone returns when nobody has a claim on a resource that the catalogue does not want.
func (r *reader) waitGone(ctx context.Context, id string) error {
	last := ""
	n := shard.Of(id, r.config.Shards)
	err := r.until(ctx, &last, []string{r.layout.Resource(n, id), r.layout.Claim(n, id)}, func(ctx context.Context) (bool, error) {
		a, entry, err := r.look(ctx, id)
		if err != nil {
			return false, err
		}
		if entry != nil && entry.Wanted() {
			return false, fmt.Errorf("wait for the end of resource %q: it was allocated again", id)
		}
		last = fmt.Sprintf("%q still has it, %s", a.Member, a.why())
		return a.Token == 0, nil
	})
	return ended(ctx, fmt.Sprintf("the end of resource %q", id), last, err)
}
