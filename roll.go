package drm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// roll is the group at one revision, and what its members say of themselves. To read it costs as much as there are members, however
// many resources there are.
type roll struct {
	view    *membership.View
	figures map[string]claims.Figures // of those that have written some that are understood
}

func (r *reader) roll(ctx context.Context) (*roll, error) {
	asking, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	found, revision, err := r.getAll(asking,
		clientv3.OpGet(r.layout.Group(), clientv3.WithPrefix()), clientv3.OpGet(r.layout.Figures(), clientv3.WithPrefix()))
	if err != nil {
		return nil, fmt.Errorf("read the members: %w", etcd.Unreachable(ctx, err))
	}
	l := &roll{view: membership.NewView(r.layout.Root(), r.config.Shards, found[0], revision), figures: map[string]claims.Figures{}}
	for _, kv := range found[1] {
		key := r.layout.Parse(string(kv.Key))
		if s, err := claims.DecodeFigures(kv.Value); err == nil && key.Kind == keys.Stats {
			l.figures[key.ID] = s
		}
	}
	return l, nil
}

func (l *roll) isLive(member string) bool {
	_, live := l.view.Members[member]
	return live
}

// members lists the members by id.
func (l *roll) members() []MemberInfo {
	shards := map[string]int{}
	for _, owner := range l.view.Owners() {
		shards[owner]++
	}
	all := make([]MemberInfo, 0, len(l.view.Members))
	for id, m := range l.view.Members {
		all = append(all, MemberInfo{
			ID: id, State: string(l.view.StateOf(id)), Drain: drainOf(l.view, id), Weight: m.Weight, Slots: m.Slots, Address: m.Address,
			Version: m.Version, Started: m.Started, Shards: shards[id], Resources: l.figures[id].Claims,
		})
	}
	slices.SortFunc(all, func(a, b MemberInfo) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// below reads what is below each of some prefixes, all at one revision: at once as far as it fits into a page.
func (r *reader) below(ctx context.Context, prefixes []string) (found [][]*mvccpb.KeyValue, err error) {
	for range maxReads {
		if found, err = r.belowOnce(ctx, prefixes); !isCompacted(err) {
			break
		}
	}
	return found, err
}

func (r *reader) belowOnce(ctx context.Context, prefixes []string) ([][]*mvccpb.KeyValue, error) {
	limit := max(1, pageSize/len(prefixes))
	gets := make([]clientv3.Op, len(prefixes))
	for i, prefix := range prefixes {
		gets[i] = clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithLimit(int64(limit)))
	}
	asking, cancel := context.WithTimeout(ctx, r.timeout)
	found, revision, err := r.getAll(asking, gets...)
	cancel()
	if err != nil {
		return nil, etcd.Unreachable(ctx, err)
	}
	for i, prefix := range prefixes {
		if len(found[i]) < limit {
			continue
		}
		rest := string(found[i][limit-1].Key) + "\x00"
		err := r.between(ctx, rest, clientv3.GetPrefixRangeEnd(prefix), revision, func(kv *mvccpb.KeyValue) { found[i] = append(found[i], kv) })
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func isCompacted(err error) bool { return errors.Is(err, rpctypes.ErrCompacted) }
