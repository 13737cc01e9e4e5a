package follow

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// FeedApart is FollowApart with functions in place of a Sink. It has the type membership.Feed.
func (h *Hub) FeedApart(
	ctx context.Context, prefix string,
	reset func(kvs []*mvccpb.KeyValue, revision int64),
	apply func(events []*clientv3.Event, revision int64),
) {
	h.FollowApart(ctx, prefix, funcs{reset, apply})
}

// funcs is a Sink of two functions.
type funcs struct {
	reset func(kvs []*mvccpb.KeyValue, revision int64)
	apply func(events []*clientv3.Event, revision int64)
}

func (f funcs) Reset(kvs []*mvccpb.KeyValue, revision int64)   { f.reset(kvs, revision) }
func (f funcs) Apply(events []*clientv3.Event, revision int64) { f.apply(events, revision) }
