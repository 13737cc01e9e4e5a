package picture

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// Shard is one shard: who owns it, and how much is in it.
type Shard struct {
	Number    int
	Member    string // who owns it; "" if nobody does
	Pinned    string // to whom it is pinned; "" if it is not
	Resources int    // how many resources belong to its owner because they are in it
}

// Shard reads one shard: the members, and the shard's part of the catalogue.
func (r *Reader) Shard(ctx context.Context, n int) (Shard, error) {
	view, err := r.Group(ctx)
	if err != nil {
		return Shard{}, err
	}
	s := Shard{Number: n, Member: view.Owner(n), Pinned: view.Pins[n].Member}
	found, err := r.below(ctx, []string{r.Layout.Resource(n, "")})
	if err != nil {
		return Shard{}, fmt.Errorf("read shard %d: %w", n, err)
	}
	for _, kv := range found[0] {
		key := r.Layout.Parse(string(kv.Key))
		e, err := catalogue.DecodeOf(key.ID, kv.Value)
		if key.Kind != keys.Resource || shard.Of(key.ID, r.Shards) != n || err != nil || !e.Wanted() {
			continue
		}
		if _, owner := view.OwnerOf(key.ID); owner == s.Member {
			s.Resources++
		}
	}
	return s, nil
}

// WaitMoved returns when a member has each resource of a shard, active or failed. If ctx ends first, the error is a
// *WaitError.
func (r *Reader) WaitMoved(ctx context.Context, n int, member string) error {
	var view *membership.View
	s := &sweep{r: r, member: member, prefix: r.Layout.Shard}
	s.which = func(l *Roll) ([]int, string, error) {
		view = l.View
		if owner := view.Owner(n); owner != member {
			return nil, fmt.Sprintf("shard %d belongs to %q", n, owner), nil
		}
		return []int{n}, "", nil
	}
	s.missing = func(kvs []*mvccpb.KeyValue) string {
		_, what := r.missingOf(member, view, kvs)
		return what
	}
	return s.run(ctx)
}
