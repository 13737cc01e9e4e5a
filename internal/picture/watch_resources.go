package picture

import (
	"context"
	"fmt"
	"iter"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// WatchResources yields the catalogue as EachResource does, and then what changes in it, until ctx ends; then the last
// error is its cause. It keeps no resources in memory. lost is called when etcd does not answer, or before everything
// is listed anew, with the reason, and with nil when it goes on; other goroutines call it.
func (r *Reader) WatchResources(
	ctx context.Context, f ResourceFilter, lost func(error),
) iter.Seq2[Change[Resource], error] {
	return followed(ctx, r, []string{r.Layout.Shards()}, &watchedResources{r, f}, lost)
}

type watchedResources struct {
	r *Reader
	f ResourceFilter
}

func (w *watchedResources) list(ctx context.Context, begun func(int64) bool, yield func(Resource) bool) error {
	return w.r.listOnce(ctx, w.f.Shards, w.f.Prefix, w.f.begin(func(l *listing) { begun(l.view.Revision) }),
		func(i *item) bool {
			one, ok := w.f.resource(i.id, i.shard, i.value)
			return !ok || yield(one)
		})
}

func (w *watchedResources) apply(
	_ context.Context, events []*clientv3.Event, _ int64, yield func(ChangeKind, Resource) bool,
) error {
	for _, ev := range events {
		key := w.r.Layout.Parse(string(ev.Kv.Key))
		if key.Kind != keys.Resource || key.Home(w.r.Shards) != key.Number {
			continue
		}
		// Where etcd does not know any more what was there before, it may have been in the list.
		before, was := w.f.resource(key.ID, key.Number, ev.PrevKv)
		was = was || ev.PrevKv == nil && !ev.IsCreate()
		now, is := Resource{}, false
		if ev.Type != clientv3.EventTypeDelete {
			now, is = w.f.resource(key.ID, key.Number, ev.Kv)
		}
		switch {
		case is:
			if !yield(Changed, now) {
				return nil
			}
		case was:
			gone := before
			if e, err := catalogue.DecodeOf(key.ID, ev.Kv.Value); err == nil {
				gone = resourceOf(key.ID, key.Number, e)
			}
			gone.ID, gone.Shard = key.ID, key.Number
			if !yield(Gone, gone) {
				return nil
			}
		}
	}
	return nil
}

// begin prepares a listing for the filter.
func (f *ResourceFilter) begin(also func(*listing)) func(*listing) {
	return func(l *listing) {
		l.entries, l.needing = true, 1
		l.needs = func(i *item) bool { return i.entry }
		also(l)
	}
}

// resource returns the resource of a key of the catalogue, and false if there is none that the filter takes.
func (f *ResourceFilter) resource(id string, shard int, kv *mvccpb.KeyValue) (Resource, bool) {
	if kv == nil {
		return Resource{}, false
	}
	e, err := catalogue.DecodeOf(id, kv.Value)
	if err != nil {
		return Resource{}, false
	}
	one := resourceOf(id, shard, e)
	taken := f.takes(&one)
	return one, taken
}

func resourceOf(id string, shard int, e catalogue.Entry) Resource {
	return Resource{
		ID: id, Data: e.Data, Shard: shard, FromSource: e.FromSource, Allocated: e.Allocated, Suspended: e.Suspended,
		Suspension: e.Suspension,
	}
}

// WatchLookup yields the assignment of one resource, and then each time that it is another one, in the way of
// WatchResources. It reads this resource only. Of changes that follow one another closely it may show the last. The
// first error matches ErrNotFound if the catalogue does not want the resource and nobody has a claim on it; where that
// comes later, it is a change.
func (r *Reader) WatchLookup(ctx context.Context, id string, lost func(error)) iter.Seq2[Change[Assignment], error] {
	n := shard.Of(id, r.Shards)
	prefixes := []string{r.Layout.Resource(n, id), r.Layout.Claim(n, id), r.Layout.Summaries(n), r.Layout.Group()}
	return followed(ctx, r, prefixes, &watchedOne{r: r, id: id}, lost)
}

// watchedOne is one resource that is watched.
type watchedOne struct {
	r    *Reader
	id   string
	told bool // it was yielded, with last
	last Assignment
	gone bool // it was yielded that it is gone
}

func (w *watchedOne) list(ctx context.Context, begun func(int64) bool, yield func(Assignment) bool) error {
	a, entry, revision, err := w.r.lookAt(ctx, w.id)
	if err != nil {
		return err
	}
	missing := error(nil)
	if a.Token == 0 {
		missing = notWanted(entry)
	}
	if missing != nil && !w.told {
		return fmt.Errorf("resource %q: %w", w.id, missing)
	}
	w.told, w.last, w.gone = true, a, missing != nil
	if begun(revision) && !w.gone {
		yield(a)
	}
	return nil
}

func (w *watchedOne) apply(
	ctx context.Context, _ []*clientv3.Event, _ int64, yield func(ChangeKind, Assignment) bool,
) error {
	a, entry, _, err := w.r.lookAt(ctx, w.id)
	if err != nil {
		return err
	}
	kind := Changed
	if a.Token == 0 {
		if err := notWanted(entry); err != nil {
			kind, a.Error = Gone, err.Error()
		}
	}
	if a == w.last && (kind == Gone) == w.gone || kind == Gone && w.gone {
		return nil
	}
	w.last, w.gone = a, kind == Gone
	yield(kind, a)
	return nil
}
