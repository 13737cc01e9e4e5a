package membership

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/follow"
)

// FollowOptions of Group.Follow. Their zero value is ready.
type FollowOptions struct {
	// Progress is the pause between two questions that find out whether news still comes. Lowered, a stream that hangs
	// and an etcd that was replaced are found sooner, and etcd is asked more often. Default 30 s.
	Progress time.Duration
	// OnError, if given, is called with each failure of a request, which is about to be made again. It is meant for a
	// log: some failures (no permission, say) do not pass by themselves. It is called from several goroutines.
	OnError func(error)
}

// Follow calls onView with the view of the group now and after each change, until ctx ends. Then it returns the cause
// of that. It returns earlier only with ErrRewound, after which no view would be right. The calls come one at a time,
// with revisions that never fall; onView must not block for long. A request that fails is made again, after a pause:
// while etcd cannot be reached, the last view stands.
//
// Each Follow opens streams of its own.
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

// Feed tells what lies below a prefix of etcd until ctx ends, and returns then. It calls reset with everything that is
// there at a revision, and apply with the changes after that, in the order of their revisions: those of one transaction
// together, without a gap. Where it cannot go on without a gap it calls reset again. The calls come one at a time, and
// the revisions never fall.
type Feed func(
	ctx context.Context, prefix string,
	reset func(kvs []*mvccpb.KeyValue, revision int64),
	apply func(events []*clientv3.Event, revision int64),
)

// FollowFeed is Follow for whoever has a feed of keys already, and shares its streams. It returns when the feed does.
func (g Group) FollowFeed(ctx context.Context, feed Feed, onView func(*View)) {
	f := &follower{group: g, onView: onView}
	feed(ctx, g.layout().Group(), f.reset, f.apply)
}

// follower keeps the keys below group/, and makes a new view of them after each change.
type follower struct {
	group  Group
	onView func(*View)
	kvs    map[string]*mvccpb.KeyValue
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
	f.onView(f.group.View(all, revision))
}
