package picture

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/pace"
)

// ChangeKind says what a Change is.
type ChangeKind string

// The kinds of changes. A watch begins with a list: ListBegins, Listed for each item, ListEnds. Then come changes. If
// some of these were missed, another list follows, which replaces all that came before.
const (
	ListBegins ChangeKind = "list"
	Listed     ChangeKind = "listed"
	ListEnds   ChangeKind = "end"
	Changed    ChangeKind = "changed" // the item is new, or not as it was
	Gone       ChangeKind = "gone"    // the item does not belong to the list any more
)

// Change is one step of a watch.
type Change[T any] struct {
	Kind     ChangeKind
	Revision int64 // etcd's, at which the list was read, or at which the change was seen
	Item     T     // zero of ListBegins and ListEnds
}

// watched is what a watch makes of events, after a list.
type watched[T any] interface {
	// list yields the list, and returns the revision at which it was read.
	list(ctx context.Context, begun func(revision int64) bool, yield func(T) bool) error
	// apply takes some events over, the last of which has that revision, and yields what follows from them.
	apply(ctx context.Context, events []*clientv3.Event, revision int64, yield func(ChangeKind, T) bool) error
}

// errBrokenOff says that whoever follows a watch has ended it.
var errBrokenOff = errors.New("the watch was broken off")

// followed lists and then follows the changes of what is below some prefixes, until ctx ends; then the last error is
// its cause. It lists anew when etcd has compacted what it missed, when a watch fails, and when etcd went back in time.
// An error before the first list is complete ends it, and so does a refusal at any time.
//
// lost is called when etcd does not answer, or before it lists anew, with the reason, and with nil when etcd answers
// again. Other goroutines call it.
func followed[T any](
	ctx context.Context, r *Reader, prefixes []string, w watched[T], lost func(error),
) iter.Seq2[Change[T], error] {
	return func(yield func(Change[T], error) bool) {
		err := followAll(ctx, r, prefixes, w, lost, func(c Change[T]) bool { return yield(c, nil) })
		if !errors.Is(err, errBrokenOff) {
			yield(Change[T]{}, err)
		}
	}
}

func followAll[T any](
	ctx context.Context, r *Reader, prefixes []string, w watched[T], lost func(error), yield func(Change[T]) bool,
) error {
	pauses := pace.Retry()
	missing := false // lost was told that changes were missed
	for complete := false; ; {
		revision := int64(0)
		err := listAll(ctx, w, &revision, yield)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errBrokenOff) || err != nil && !complete && !errors.Is(err, rpctypes.ErrCompacted):
			return err
		case err == nil:
			complete = true
			if missing {
				missing = false
				lost(nil)
			}
			began := time.Now()
			err = followFrom(ctx, r, prefixes, revision, w, lost, yield)
			if time.Since(began) > pace.MostRetry { // what fails at once may do so each time
				pauses.Reset()
			}
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errBrokenOff), errors.Is(err, rpctypes.ErrPermissionDenied):
			return err
		}
		if !missing {
			missing = true
			if errors.Is(err, rpctypes.ErrCompacted) {
				err = ErrCompacted
			}
			lost(fmt.Errorf("changes may have been missed, so everything is listed anew: %w", err))
		}
		if !pauses.Wait(ctx) {
			return context.Cause(ctx)
		}
	}
}

func listAll[T any](ctx context.Context, w watched[T], revision *int64, yield func(Change[T]) bool) error {
	over := false
	step := func(kind ChangeKind, item T) bool {
		over = over || !yield(Change[T]{kind, *revision, item})
		return !over
	}
	var none T
	err := w.list(ctx, func(at int64) bool {
		*revision = at
		return step(ListBegins, none)
	}, func(item T) bool { return step(Listed, item) })
	if err == nil && !over {
		step(ListEnds, none)
	}
	if over {
		return errBrokenOff
	}
	return err
}

// followFrom yields what changes after a revision, until something fails.
func followFrom[T any](
	ctx context.Context, r *Reader, prefixes []string, revision int64, w watched[T], lost func(error),
	yield func(Change[T]) bool,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	probed := make(chan struct{})
	go func() {
		defer close(probed)
		r.probe(ctx, revision, lost, cancel)
	}()
	defer func() {
		cancel(nil)
		<-probed
	}()
	for resp := range r.watchAll(clientv3.WithRequireLeader(ctx), prefixes, revision+1) {
		if err := resp.Err(); err != nil {
			return etcd.Unreachable(ctx, err)
		}
		if len(resp.Events) == 0 {
			continue
		}
		at := resp.Events[len(resp.Events)-1].Kv.ModRevision
		over := false
		err := w.apply(ctx, resp.Events, at, func(kind ChangeKind, item T) bool {
			over = over || !yield(Change[T]{kind, at, item})
			return !over
		})
		switch {
		case over:
			return errBrokenOff
		case err != nil:
			return err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return errors.New("the watch has ended")
}

// probe asks etcd every ownersProbe, since a watch that shows nothing does not prove that there is nothing to show. It
// calls lost as followed says, and fail if etcd went back to a revision before the one at which the watch has begun.
func (r *Reader) probe(ctx context.Context, revision int64, lost, fail func(error)) {
	out := false
	for pace.Wait(ctx, ownersProbe) {
		asking, cancel := context.WithTimeout(ctx, min(r.Timeout, ownersProbe))
		resp, err := r.Client.Get(asking, r.Layout.Config(), clientv3.WithKeysOnly())
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !out {
				lost(etcd.Unreachable(ctx, err))
			}
			out = true
			continue
		case resp.Header.Revision < revision:
			fail(follow.ErrRewound)
			return
		case out:
			out = false
			lost(nil)
		}
		revision = resp.Header.Revision
	}
}

// watchAll begins watches of several prefixes. What one of them shows is in order.
func (r *Reader) watchAll(ctx context.Context, prefixes []string, from int64) <-chan clientv3.WatchResponse {
	begin := func(prefix string) clientv3.WatchChan {
		return r.Client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithPrevKV())
	}
	if len(prefixes) == 1 {
		return begin(prefixes[0])
	}
	all := make(chan clientv3.WatchResponse)
	var watches sync.WaitGroup
	for _, prefix := range prefixes {
		events := begin(prefix)
		watches.Go(func() {
			for resp := range events {
				select {
				case all <- resp:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	go func() {
		watches.Wait()
		close(all)
	}()
	return all
}
