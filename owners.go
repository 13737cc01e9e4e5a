package drm

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// OwnerChange tells that a resource has another owner than before.
type OwnerChange struct {
	Resource string
	Before   string // the member that had the claim; empty: nobody
	Member   string // the member that has it; empty: nobody
	Token    int64  // of the new claim, or of the one that ended
	Revision int64  // etcd's, when it changed, or when it was noticed after a gap
	Fell     bool   // the token is not greater than that of an earlier claim: a violation
}

// FollowOwners calls f for each change of ownership from now on, in the order of revisions, until ctx ends, and returns
// its cause; or until etcd turns out to have been rewound: ErrStoreRewound. After a lost connection it tells what changed meanwhile; owners in between are not seen. Where the app does
// not exist yet it waits for it. f must not block for long.
func (c *Client) FollowOwners(ctx context.Context, f func(OwnerChange)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hub := follow.NewHub(c.client, follow.Options{
		ListTimeout: c.cfg.Etcd.CommandTimeout, Probe: c.layout.Config(),
		OnRewound: func(err error) { cancel(fmt.Errorf("%w: %w", ErrStoreRewound, err)) },
	})
	defer hub.Close()
	hub.Follow(ctx, c.layout.Shards(), &ownerFollower{layout: c.layout, tell: f, owners: map[string]owner{}, highest: map[string]int64{}})
	return fmt.Errorf("follow the owners: %w", context.Cause(ctx))
}

// owner is who has a claim.
type owner struct {
	member string
	token  int64
}

// ownerFollower turns changes of claims into changes of owners.
type ownerFollower struct {
	layout  keys.Layout
	tell    func(OwnerChange)
	known   bool
	owners  map[string]owner
	highest map[string]int64 // tokens
}

// Reset implements follow.Sink. The first list is where it starts from, and is not told.
func (o *ownerFollower) Reset(kvs []*mvccpb.KeyValue, revision int64) {
	listed := map[string]bool{}
	for _, kv := range kvs {
		if id := o.put(kv, revision); id != "" {
			listed[id] = true
		}
	}
	for id := range o.owners {
		if !listed[id] {
			o.gone(id, revision)
		}
	}
	o.known = true
}

// Apply implements follow.Sink.
func (o *ownerFollower) Apply(events []*clientv3.Event, _ int64) {
	for _, ev := range events {
		if ev.Type != clientv3.EventTypeDelete {
			o.put(ev.Kv, ev.Kv.ModRevision)
		} else if key := o.layout.Parse(string(ev.Kv.Key)); key.Kind == keys.Claim {
			o.gone(key.ID, ev.Kv.ModRevision)
		}
	}
}

// put notes a claim as it is, and returns whose it is about; empty for any other key.
func (o *ownerFollower) put(kv *mvccpb.KeyValue, revision int64) string {
	key := o.layout.Parse(string(kv.Key))
	if key.Kind != keys.Claim {
		return ""
	}
	before := o.owners[key.ID]
	if before.token == kv.CreateRevision { // only its state changed
		return key.ID
	}
	r, err := claims.Decode(kv.Value)
	if err != nil { // a claim that is not understood is nobody's that could be named
		o.gone(key.ID, revision)
		return key.ID
	}
	now := owner{r.Member, kv.CreateRevision}
	fell := now.token <= o.highest[key.ID]
	o.owners[key.ID], o.highest[key.ID] = now, max(o.highest[key.ID], now.token)
	if o.known {
		o.tell(OwnerChange{Resource: key.ID, Before: before.member, Member: now.member, Token: now.token, Revision: revision, Fell: fell})
	}
	return key.ID
}

func (o *ownerFollower) gone(id string, revision int64) {
	before, had := o.owners[id]
	if !had {
		return
	}
	delete(o.owners, id)
	o.tell(OwnerChange{Resource: id, Before: before.member, Token: before.token, Revision: revision})
}
