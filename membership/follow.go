package membership

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// Follow calls onView with the view of the group now and after each change, until ctx ends. The calls come one at a
// time, with revisions that never fall; onView must not block for long.
func Follow(ctx context.Context, hub *follow.Hub, layout keys.Layout, shards int, onView func(*View)) {
	hub.FollowApart(ctx, layout.Group(), &follower{layout: layout, shards: shards, onView: onView})
}

// follower keeps the keys below group/, and makes a new view of them after each change.
type follower struct {
	layout keys.Layout
	shards int
	onView func(*View)
	kvs    map[string]*mvccpb.KeyValue
}

func (f *follower) Reset(kvs []*mvccpb.KeyValue, revision int64) {
	f.kvs = make(map[string]*mvccpb.KeyValue, len(kvs))
	for _, kv := range kvs {
		f.kvs[string(kv.Key)] = kv
	}
	f.publish(revision)
}

func (f *follower) Apply(events []*clientv3.Event, revision int64) {
	for _, ev := range events {
		if ev.Type == clientv3.EventTypeDelete {
			delete(f.kvs, string(ev.Kv.Key))
		} else {
			f.kvs[string(ev.Kv.Key)] = ev.Kv
		}
	}
	f.publish(revision)
}

func (f *follower) publish(revision int64) {
	all := make([]*mvccpb.KeyValue, 0, len(f.kvs))
	for _, kv := range f.kvs {
		all = append(all, kv)
	}
	f.onView(NewView(f.layout, f.shards, all, revision))
}

// Read returns the view now, by one linearizable read.
func Read(ctx context.Context, kv clientv3.KV, layout keys.Layout, shards int) (*View, error) {
	resp, err := kv.Get(ctx, layout.Group(), clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("read the members: %w", err)
	}
	return NewView(layout, shards, resp.Kvs, resp.Header.Revision), nil
}
