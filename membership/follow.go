package membership

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/shard"
)

// FollowOptions of Group.Follow. The zero value takes all defaults.
type FollowOptions struct {
	// Progress is the pause between two requests that find out whether changes still arrive. With a shorter pause,
	// Follow notices sooner that a stream hangs or that etcd was replaced, and asks etcd more often. It must not be
	// negative. Default 30 s.
	Progress time.Duration
	// OnError, if given, is called with the error of each request that failed and is about to be repeated. It is meant
	// for a log: some failures (no permission, for example) do not pass by themselves. It is called from several
	// goroutines at once.
	OnError func(error)
}

// Follow calls onView with the view of the group now, and after each change, until ctx ends; then it returns the cause
// of that. It returns earlier only with ErrRewound, after which no view would be right, or with an error that names a
// bad option. The calls come one at a time, with revisions that never fall; onView must not block for long. Follow
// repeats a request that fails after a pause: while etcd cannot be reached, the last view stays in force.
//
// Each call of Follow opens its own streams.
func (g Group) Follow(ctx context.Context, client *clientv3.Client, opts FollowOptions, onView func(*View)) error {
	if opts.Progress < 0 {
		return fmt.Errorf("follow the members: progress: got %v, want a positive duration, or 0 for the default",
			opts.Progress)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hub := follow.NewHub(client, follow.Options{
		Progress:  opts.Progress,
		Probe:     g.layout().Config(),
		OnRewound: func(err error) { cancel(fmt.Errorf("follow the members: %w (%w)", ErrRewound, err)) },
		OnError: func(_ string, err error) {
			if opts.OnError != nil {
				opts.OnError(fmt.Errorf("follow the members: %w", err))
			}
		},
	})
	defer hub.Close()
	g.FollowFeed(ctx, hub.FeedApart, onView)
	return context.Cause(ctx)
}

// Feed reports the keys below a prefix of etcd until ctx ends, and then returns. It calls reset with all keys at one
// revision, and then apply with the changes after it, in the order of their revisions, without a gap; the changes of
// one transaction come together. When it cannot go on without a gap it calls reset again. The calls come one at a time,
// and the revisions never fall.
type Feed func(
	ctx context.Context, prefix string,
	reset func(kvs []*mvccpb.KeyValue, revision int64),
	apply func(events []*clientv3.Event, revision int64),
)

// FollowFeed is Follow for a caller that already has a feed of keys, and so shares its streams. It returns when feed
// does.
func (g Group) FollowFeed(ctx context.Context, feed Feed, onView func(*View)) {
	f := &follower{group: g, onView: onView}
	feed(ctx, g.layout().Group(), f.reset, f.apply)
}

// follower keeps the keys below group/, and makes a new view of them after each change.
type follower struct {
	group  Group
	onView func(*View)
	kvs    map[string]*mvccpb.KeyValue
	probes *shard.Probes // of the last view
}

func (f *follower) reset(kvs []*mvccpb.KeyValue, revision int64) {
	f.kvs = make(map[string]*mvccpb.KeyValue, len(kvs))
	for _, kv := range kvs {
		f.kvs[string(kv.Key)] = kv
	}
	f.publish(revision)
}

func (f *follower) apply(events []*clientv3.Event, revision int64) {
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
	v := newView(f.group.Root, f.group.Shards, all, revision, f.probes)
	f.probes = v.probes
	f.onView(v)
}
