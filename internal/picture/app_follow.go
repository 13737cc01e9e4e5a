package picture

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/pace"
)

// WatchApps yields what word makes of each app below a prefix, whichever app the Reader is for, and then of each of
// which that changes, until ctx ends; then the last error is its cause. It looks once in a second at most. lost is
// called as WatchResources says.
func WatchApps[T comparable](
	ctx context.Context, r *Reader, prefix string, word func(name string, a App) T, lost func(error),
) iter.Seq2[Change[T], error] {
	w := &watchedApps[T]{r: r, prefix: prefix, word: word}
	return followed(ctx, r, []string{keys.Apps(prefix)}, w, lost)
}

// watchedApps follows the apps below a prefix.
type watchedApps[T comparable] struct {
	r      *Reader
	prefix string
	word   func(name string, a App) T

	known  map[string]knownApp[T]
	seen   int64     // what happened up to this revision has been seen
	looked time.Time // when the last look has ended
}

// knownApp is an app that has been told of.
type knownApp[T comparable] struct {
	item T
	sick bool // its config cannot be read, so that it may be about to go
}

func (w *watchedApps[T]) list(ctx context.Context, begun func(int64) bool, yield func(T) bool) error {
	w.known = map[string]knownApp[T]{}
	if err := w.begin(ctx); err != nil || !begun(w.seen) {
		return err
	}
	for name, err := range w.r.EachApp(ctx, w.prefix, "") {
		if err != nil {
			return err
		}
		a, err := w.app(name).App(ctx)
		if err != nil {
			return fmt.Errorf("app %q: %w", name, err)
		}
		w.known[name] = knownApp[T]{w.word(name, a), a.Err != nil}
		if !yield(w.known[name].item) {
			return nil
		}
	}
	w.looked = time.Now()
	return nil
}

// begin notes the revision that a look which follows has seen at least.
func (w *watchedApps[T]) begin(ctx context.Context) error {
	head, err := w.r.page(ctx, keys.Apps(w.prefix), "", 0, 1)
	if err != nil {
		return fmt.Errorf("list the apps: %w", err)
	}
	w.seen = head.Header.Revision
	return nil
}

// app returns a reader of an app.
func (w *watchedApps[T]) app(name string) *Reader {
	r := *w.r
	r.Layout = keys.New(w.prefix, name)
	return &r
}

func (w *watchedApps[T]) apply(
	ctx context.Context, events []*clientv3.Event, _ int64, yield func(ChangeKind, T) bool,
) error {
	names := map[string]bool{}
	for _, ev := range events {
		if name, ok := w.concerned(ev); ok {
			names[name] = true
		}
	}
	if len(names) == 0 {
		return nil
	}
	if rest := sightEvery - time.Since(w.looked); rest > 0 && !pace.Wait(ctx, rest) {
		return context.Cause(ctx)
	}
	if err := w.begin(ctx); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if more, err := w.look(ctx, name, yield); err != nil || !more {
			return err
		}
	}
	w.looked = time.Now()
	return nil
}

// concerned returns the app of which an event may change what is told.
func (w *watchedApps[T]) concerned(ev *clientv3.Event) (name string, ok bool) {
	escaped, _, inApp := strings.Cut(strings.TrimPrefix(string(ev.Kv.Key), keys.Apps(w.prefix)), "/")
	name, err := keys.Unescape(escaped)
	if !inApp || err != nil || ev.Kv.ModRevision <= w.seen {
		return "", false
	}
	was, known := w.known[name]
	kind := keys.New(w.prefix, name).Parse(string(ev.Kv.Key)).Kind
	return name, !known || kind == keys.Config || kind == keys.Member ||
		was.sick && ev.Type == clientv3.EventTypeDelete
}

// look looks at an app, and tells of it if it is not as it was.
func (w *watchedApps[T]) look(
	ctx context.Context, name string, yield func(ChangeKind, T) bool,
) (more bool, err error) {
	r := w.app(name)
	a, err := r.App(ctx)
	if err != nil {
		return false, fmt.Errorf("app %q: %w", name, err)
	}
	was, known := w.known[name]
	if a.Err != nil {
		some, err := r.page(ctx, r.Layout.Root(), clientv3.GetPrefixRangeEnd(r.Layout.Root()), 0, 1)
		if err != nil {
			return false, fmt.Errorf("app %q: %w", name, err)
		}
		if len(some.Kvs) == 0 {
			delete(w.known, name)
			return !known || yield(Gone, was.item), nil
		}
	}
	is := knownApp[T]{w.word(name, a), a.Err != nil}
	w.known[name] = is
	if known && was.item == is.item {
		return true, nil
	}
	return yield(Changed, is.item), nil
}
