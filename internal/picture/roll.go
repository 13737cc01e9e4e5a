package picture

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// Roll is the members at one revision, and what they say of themselves. To read it costs as much as there are members,
// however many resources there are.
type Roll struct {
	View    *membership.View
	figures map[string]claims.Figures // of the members that have written some that are understood
}

// Roll reads the members and their figures.
func (r *Reader) Roll(ctx context.Context) (*Roll, error) {
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	found, revision, err := r.getAll(asking,
		clientv3.OpGet(r.Layout.Group(), clientv3.WithPrefix()),
		clientv3.OpGet(r.Layout.Figures(), clientv3.WithPrefix()),
	)
	if err != nil {
		return nil, fmt.Errorf("read the members: %w", etcd.Unreachable(ctx, err))
	}
	l := &Roll{
		View:    membership.NewView(r.Layout.Root(), r.Shards, found[0], revision),
		figures: map[string]claims.Figures{},
	}
	for _, kv := range found[1] {
		key := r.Layout.Parse(string(kv.Key))
		if s, err := claims.DecodeFigures(kv.Value); err == nil && key.Kind == keys.Stats {
			l.figures[key.ID] = s
		}
	}
	return l, nil
}

func (l *Roll) isLive(member string) bool {
	_, live := l.View.Members[member]
	return live
}

// Member tells of one live member.
type Member struct {
	ID        string
	State     string // a membership.State
	Drain     string // what DrainOf says
	Weight    int
	Slots     []int
	Address   string
	Version   string
	Started   time.Time
	Shards    int // how many the view gives it
	Resources int // how many claims it has, by its own figures; 0 before the first
}

// Members lists the members by id. It is never nil.
func (l *Roll) Members() []Member {
	shards := map[string]int{}
	for _, owner := range l.View.Owners() {
		shards[owner]++
	}
	all := make([]Member, 0, len(l.View.Members))
	for id, m := range l.View.Members {
		all = append(all, Member{
			ID: id, State: string(l.View.StateOf(id)), Drain: DrainOf(l.View, id), Weight: m.Weight, Slots: m.Slots,
			Address: m.Address, Version: m.Version, Started: m.Started,
			Shards: shards[id], Resources: l.figures[id].Claims,
		})
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// What DrainOf says of a member.
const (
	DrainOrdered = "ordered" // the member is to hold nothing
	DrainIgnored = "ignored" // that is ordered, and ignored, since nobody would be left
)

// DrainOf says whether a member is ordered to hold nothing: DrainOrdered, DrainIgnored, or "" where there is no such
// order.
func DrainOf(v *membership.View, member string) string {
	switch {
	case !v.Ordered(member):
		return ""
	case v.DrainsIgnored():
		return DrainIgnored
	default:
		return DrainOrdered
	}
}

// Drain is an order that a member hold nothing.
type Drain struct {
	Member  string
	Since   time.Time // by the clock of who gave it; zero where that is not known
	Live    bool      // the member is there
	Ignored bool      // nobody would be left, so that all such orders are ignored
}

// Drains lists the orders by member, of those too that are not there. It is never nil.
func (l *Roll) Drains() []Drain { return drains(l.View) }

func drains(v *membership.View) []Drain {
	all := make([]Drain, 0, len(v.Drains))
	for id, since := range v.Drains {
		_, live := v.Members[id]
		all = append(all, Drain{Member: id, Since: since, Live: live, Ignored: v.DrainsIgnored()})
	}
	slices.SortFunc(all, func(a, b Drain) int { return cmp.Compare(a.Member, b.Member) })
	return all
}
