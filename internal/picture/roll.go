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
	"github.com/distributed-resource-manager/drm/membership"
)

// Roll is the members at one revision, and their figures. The cost of reading it grows with the number of members, not
// with that of resources.
type Roll struct {
	View    *membership.View
	figures map[string]claims.Figures // by member; without figures that cannot be decoded
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
	return &Roll{
		View:    membership.NewView(r.Layout.Root(), r.Shards, found[0], revision),
		figures: figuresOf(r.Layout, found[1]),
	}, nil
}

func (l *Roll) isLive(member string) bool {
	_, live := l.View.Members[member]
	return live
}

// StateAbsent is the state of a member that has stopped, and whose shards wait for its return.
const StateAbsent = "absent"

// Member is one live member, or one that is expected back.
type Member struct {
	ID        string
	State     string      // a membership.State, or StateAbsent
	Drain     string      // as DrainOf returns it
	Cordon    string      // as CordonOf returns it
	Reason    string      // why it says that it is not ready, even if ignored; until when it is expected back
	Weight    int         // its own
	Ordered   *int        // what an operator has ordered; nil: nothing
	Slots     []int       // that it has reserved by themselves
	Blocks    []SlotRange // that it has reserved together
	Address   string
	Version   string
	Started   time.Time
	Shards    int // how many shards it owns
	Resources int // how many claims it has by its own figures; 0 before it has written any
}

func (l *Roll) orderedWeight(id string) *int {
	if w, ordered := l.View.Weights[id]; ordered {
		return &w.Weight
	}
	return nil
}

// SlotRange is consecutive slots.
type SlotRange struct{ First, Last int }

// blocksOf returns the slots in blocks that count for a member.
func (l *Roll) blocksOf(id string) (all []SlotRange) {
	for _, b := range l.View.Blocks {
		if b.Member == id && b.Used > 0 {
			all = append(all, SlotRange{b.From, b.From + b.Used - 1})
		}
	}
	return all
}

// Members lists the members, sorted by id. It never returns nil.
func (l *Roll) Members() []Member {
	shards := map[string]int{}
	for _, owner := range l.View.Owners() {
		shards[owner]++
	}
	all := make([]Member, 0, len(l.View.Members))
	for id, m := range l.View.Members {
		all = append(all, Member{
			ID: id, State: string(l.View.StateOf(id)), Drain: DrainOf(l.View, id), Cordon: CordonOf(l.View, id),
			Weight: m.Weight, Ordered: l.orderedWeight(id), Slots: m.Slots, Blocks: l.blocksOf(id),
			Address: m.Address, Version: m.Version, Started: m.Started,
			Shards: shards[id], Resources: l.figures[id].Claims, Reason: reasonOf(m),
		})
	}
	all = append(all, l.awaited(shards)...)
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// awaited lists the members that have stopped and are expected back.
func (l *Roll) awaited(shards map[string]int) (all []Member) {
	for id := range l.View.Reservations {
		back, awaited := l.View.Awaited(id)
		if !awaited || l.isLive(id) {
			continue
		}
		m := Member{
			ID: id, State: StateAbsent, Drain: DrainOf(l.View, id), Weight: l.View.WeightOf(id), Shards: shards[id],
			Ordered: l.orderedWeight(id), Blocks: l.blocksOf(id),
			Reason: "it has stopped and is expected back " + until(back),
		}
		for n, holder := range l.View.Slots {
			if holder == id {
				m.Slots = append(m.Slots, n)
			}
		}
		all = append(all, m)
	}
	return all
}

// Unready is a member that says that it is not ready.
type Unready struct {
	Member  string
	Reason  string // never empty
	Ignored bool   // too few members are ready, so it counts as one that is
}

// reasonOf returns why a member says that it is not ready; "" if it does not say that.
func reasonOf(m membership.Member) string {
	if m.State == membership.Unready && m.Reason == "" { // another version may give no reason
		return "it gives no reason"
	}
	return m.Reason
}

func unready(v *membership.View) []Unready {
	all := []Unready{}
	for id, m := range v.Members {
		if m.State == membership.Unready {
			all = append(all, Unready{Member: id, Reason: reasonOf(m), Ignored: v.UnreadyIgnored()})
		}
	}
	slices.SortFunc(all, func(a, b Unready) int { return cmp.Compare(a.Member, b.Member) })
	return all
}

// The results of DrainOf.
const (
	DrainOrdered = "ordered" // the member is ordered to be drained: it must have no claims
	DrainIgnored = "ignored" // the order is ignored, since every member has one
)

// DrainOf returns whether a member is ordered to be drained: DrainOrdered, DrainIgnored, or "" if there is no such
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

// Drain is an order that drains a member.
type Drain struct {
	Member  string
	Since   time.Time // by the clock of whoever gave it; zero if that is not known
	Live    bool      // the member is live
	Ignored bool      // every member has such an order, so all of them are ignored
}

// Drains lists the orders, sorted by member, also those for members that are not live. It never returns nil.
func (l *Roll) Drains() []Drain { return drains(l.View) }

func drains(v *membership.View) []Drain {
	all := make([]Drain, 0, len(v.Drains))
	for id, order := range v.Drains {
		_, live := v.Members[id]
		all = append(all, Drain{Member: id, Since: order.Since, Live: live, Ignored: v.DrainsIgnored()})
	}
	slices.SortFunc(all, func(a, b Drain) int { return cmp.Compare(a.Member, b.Member) })
	return all
}
