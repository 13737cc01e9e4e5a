package picture

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// FollowRoll calls changed with the members and their figures now, and after each change, until ctx ends; the error has
// its cause. The figures may be those of a moment before or after the rest. It also returns if etcd went back in time;
// the error matches follow.ErrRewound then. The calls come one at a time, and changed must not block for long. lost is
// called as FollowOwners says.
func (r *Reader) FollowRoll(ctx context.Context, changed func(*Roll), lost func(error)) error {
	f := &rollFollower{layout: r.Layout, changed: changed}
	err := r.follow(ctx, lost, func(ctx context.Context, hub *follow.Hub) {
		var figures sync.WaitGroup
		figures.Go(func() { hub.Follow(ctx, r.Layout.Figures(), f) })
		membership.Group{Root: r.Layout.Root(), Shards: r.Shards}.FollowFeed(ctx, hub.FeedApart, f.take)
		figures.Wait()
	})
	return fmt.Errorf("follow the members: %w", err)
}

// rollFollower makes a Roll of the newest view and the newest figures. It is the sink of the figures.
type rollFollower struct {
	layout  keys.Layout
	changed func(*Roll)

	mu      sync.Mutex
	view    *membership.View          // nil before the first
	figures map[string]claims.Figures // never changed once it is told of; nil before the first list
}

// take takes a new view.
func (f *rollFollower) take(v *membership.View) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.view = v
	f.tell()
}

// tell is called with mu locked, so that the calls come one at a time.
func (f *rollFollower) tell() {
	if f.view != nil && f.figures != nil {
		f.changed(&Roll{View: f.view, figures: f.figures})
	}
}

// Reset implements follow.Sink.
func (f *rollFollower) Reset(kvs []*mvccpb.KeyValue, _ int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.figures = figuresOf(f.layout, kvs)
	f.tell()
}

// Apply implements follow.Sink.
func (f *rollFollower) Apply(events []*clientv3.Event, _ int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.figures = maps.Clone(f.figures)
	for _, ev := range events {
		delete(f.figures, f.layout.Parse(string(ev.Kv.Key)).ID)
		if ev.Type != clientv3.EventTypeDelete {
			maps.Copy(f.figures, figuresOf(f.layout, []*mvccpb.KeyValue{ev.Kv}))
		}
	}
	f.tell()
}

// figuresOf decodes figures, by member. It leaves out those that are not understood.
func figuresOf(layout keys.Layout, kvs []*mvccpb.KeyValue) map[string]claims.Figures {
	all := make(map[string]claims.Figures, len(kvs))
	for _, kv := range kvs {
		key := layout.Parse(string(kv.Key))
		if s, err := claims.DecodeFigures(kv.Value); err == nil && key.Kind == keys.Stats {
			all[key.ID] = s
		}
	}
	return all
}
