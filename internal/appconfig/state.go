package appconfig

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// State is what etcd says at one revision of an app as a whole, for those who do something to it while nobody may use
// it. The values may be anything.
type State struct {
	Config *mvccpb.KeyValue // or the barrier in its place; nil: there is no such key
	Marker *mvccpb.KeyValue // of keys.Layout.Reshard, which says what is being done; nil: there is no such key
}

// Look reads the state of an app.
func Look(ctx context.Context, kv clientv3.KV, layout keys.Layout) (State, error) {
	resp, err := kv.Txn(ctx).Then(gets(layout)...).Commit()
	if err != nil {
		return State{}, fmt.Errorf("read the app's config: %w", err)
	}
	return State{Config: single(resp, 0), Marker: single(resp, 1)}, nil
}

// single returns what one of the reads of a transaction has found; nil: nothing.
func single(resp *clientv3.TxnResponse, i int) *mvccpb.KeyValue {
	if i >= len(resp.Responses) {
		return nil
	}
	for _, kv := range resp.Responses[i].GetResponseRange().Kvs {
		return kv
	}
	return nil
}

// SameConfig compares that the config, or what is in its place, has not changed since the state was read.
func (s State) SameConfig(layout keys.Layout) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(layout.Config()), "=", s.Config.GetModRevision())
}

// SameMarker compares that the key which says what is being done has not changed since the state was read.
func (s State) SameMarker(layout keys.Layout) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(layout.Reshard()), "=", s.Marker.GetModRevision())
}

// NoMembers compares that no member is registered.
func NoMembers(layout keys.Layout) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(layout.Members()), "=", 0).WithPrefix()
}
