package picture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/shard"
)

// WaitError is the error of a wait whose context ended. It says what the wait saw last, and unwraps to the context's
// cause. A Reader returns it as it is, never wrapped.
type WaitError struct {
	What string // the object of the wait, such as: resource "feed-42"
	Last string // why the wait was not over when it looked last; empty if it could not look
	Err  error  // the context's cause
}

func (e *WaitError) Error() string {
	if e.Last == "" {
		return fmt.Sprintf("wait for %s: %v", e.What, e.Err)
	}
	return fmt.Sprintf("wait for %s: %s: %v", e.What, e.Last, e.Err)
}

// Unwrap returns the context's cause.
func (e *WaitError) Unwrap() error { return e.Err }

// ended replaces the error of a wait whose context has ended by a WaitError, and returns other errors as they are.
func ended(ctx context.Context, what, last string, err error) error {
	if err != nil && ctx.Err() != nil {
		return &WaitError{What: what, Last: last, Err: context.Cause(ctx)}
	}
	return err
}

// rewait is how long a wait trusts its watches before it looks again.
const rewait = 5 * time.Second

// until calls done now and after each change below one of the prefixes, until done returns true or an error, or ctx
// ends. It goes on if the error is that etcd did not answer, and adds that to *last, unless last is nil: what was known
// before is still the reason as far as anybody knows. Otherwise done sets *last.
func (r *Reader) until(
	ctx context.Context, last *string, prefixes []string, done func(context.Context) (bool, error),
) error {
	known, said := "", ""
	for pauses := pace.Retry(); ; {
		watching, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), rewait)
		changed := make(chan struct{}, 1)
		for _, prefix := range prefixes { // the watches begin before the look, so that they show each change after it
			go notify(r.Client.Watch(watching, prefix, clientv3.WithPrefix()), changed)
		}
		yes, err := untilChanged(ctx, watching, changed, done)
		cancel()
		switch {
		case yes:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !errors.Is(err, etcd.ErrUnreachable):
			return err
		case err != nil:
			if last != nil {
				if *last != said {
					known = *last
				}
				said = strings.TrimPrefix(known+"; since then: "+err.Error(), "; since then: ")
				*last = said
			}
			if !pauses.Wait(ctx) {
				return context.Cause(ctx)
			}
		default:
			pauses.Reset()
		}
	}
}

// notify sends a token for what a watch shows, until the watch ends.
func notify(watch clientv3.WatchChan, changed chan<- struct{}) {
	for range watch {
		select {
		case changed <- struct{}{}:
		default: // one token is enough to look again
		}
	}
}

// untilChanged calls done now and after each change, until watching ends; that does not cut a call short. After a call
// it pauses for as long as the call took, so that it leaves etcd alone for half of the time.
func untilChanged(
	ctx, watching context.Context, changed <-chan struct{}, done func(context.Context) (bool, error),
) (bool, error) {
	for {
		began := time.Now()
		yes, err := done(ctx)
		if yes || err != nil {
			return yes, err
		}
		if !pace.Wait(ctx, min(time.Since(began), rewait)) {
			return false, nil
		}
		select {
		case <-changed:
		case <-watching.Done():
			return false, nil
		}
	}
}

// Wait returns when a resource is active. The error matches ErrNotFound if the catalogue does not want the resource,
// and is a *WaitError if ctx ends first. The Assignment is the last one that it has read, also if there is an error.
func (r *Reader) Wait(ctx context.Context, id string) (Assignment, error) {
	var found Assignment
	last := ""
	n := shard.Of(id, r.Shards)
	prefixes := []string{r.Layout.Resource(n, id), r.Layout.Claim(n, id), r.Layout.Summaries(n), r.Layout.Group()}
	err := r.until(ctx, &last, prefixes, func(ctx context.Context) (bool, error) {
		a, entry, err := r.look(ctx, id)
		if err != nil {
			return false, err
		}
		found, last = a, "it is "+a.why()
		if err := notWanted(entry); err != nil {
			return false, fmt.Errorf("wait for resource %q: %w", id, err)
		}
		return a.State == claims.Active, nil
	})
	return found, ended(ctx, fmt.Sprintf("resource %q", id), last, err)
}

// WaitGone returns when nobody has a claim on a resource that the catalogue does not want. It fails if the catalogue
// wants the resource. If ctx ends first, the error is a *WaitError.
func (r *Reader) WaitGone(ctx context.Context, id string) error {
	last := ""
	n := shard.Of(id, r.Shards)
	prefixes := []string{r.Layout.Resource(n, id), r.Layout.Claim(n, id)}
	err := r.until(ctx, &last, prefixes, func(ctx context.Context) (bool, error) {
		a, entry, err := r.look(ctx, id)
		if err != nil {
			return false, err
		}
		if entry != nil && entry.Wanted() {
			return false, fmt.Errorf("wait for the end of resource %q: it was allocated or resumed again", id)
		}
		last = fmt.Sprintf("%q still has it, %s", a.Member, a.why())
		return a.Token == 0, nil
	})
	return ended(ctx, fmt.Sprintf("the end of resource %q", id), last, err)
}
