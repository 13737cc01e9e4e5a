package picture

import (
	"cmp"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/membership"
)

// OrderKind says what an operator's order is.
type OrderKind string

// The kinds of orders that stand until they are taken back, or expire.
const (
	OrderDrain  OrderKind = "drain"  // the member must own no shards
	OrderCordon OrderKind = "cordon" // the member must take no further shards
	OrderWeight OrderKind = "weight" // the member has another weight than it says itself
	OrderPin    OrderKind = "pin"    // the shard belongs to the member whenever it can own shards
	OrderMove   OrderKind = "move"   // the shard was moved to the member
)

// Standing is an operator's order that stands.
type Standing struct {
	Kind   OrderKind
	Member string // may be gone
	Shard  int    // of a pin or a move
	Weight int    // of a weight
	By     string // who gave it; "" if that is not known
	Why    string
	Since  time.Time // by the clock of whoever gave it; zero if that is not known
	Until  time.Time // when it ends by itself, by the same clock; zero if it does not
	Live   bool      // the member is live
	// Ignored says that the order has no effect for now: nobody would be left who takes shards, or the member cannot
	// own the shard.
	Ignored bool
}

// Orders lists the orders that stand, also those about members that are not live, sorted by kind, member and shard. It
// never returns nil.
func (l *Roll) Orders() []Standing { return standing(l.View) }

func standing(v *membership.View) []Standing {
	all := []Standing{}
	add := func(s Standing, o membership.Order) {
		s.By, s.Why, s.Since = o.By, o.Why, o.Since
		_, s.Live = v.Members[s.Member]
		all = append(all, s)
	}
	for id, r := range v.Drains {
		add(Standing{Kind: OrderDrain, Member: id, Until: r.Until, Ignored: v.DrainsIgnored()}, r.Order)
	}
	inVain := cordonsIgnored(v)
	for id, r := range v.Cordons {
		add(Standing{Kind: OrderCordon, Member: id, Until: r.Until, Ignored: inVain}, r.Order)
	}
	for id, w := range v.Weights {
		add(Standing{Kind: OrderWeight, Member: id, Weight: w.Weight}, w.Order)
	}
	for n, p := range v.Pins {
		add(Standing{Kind: OrderPin, Member: p.Member, Shard: n, Ignored: v.Owner(n) != p.Member}, p.Order)
	}
	for n, e := range v.Exceptions {
		if e.Why == membership.WhyMove {
			s := Standing{Kind: OrderMove, Member: e.Member, Shard: n, Ignored: v.Owner(n) != e.Member}
			add(s, membership.Order{By: e.By, Why: e.Reason, Since: e.Since})
		}
	}
	slices.SortFunc(all, func(a, b Standing) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Member, b.Member), cmp.Compare(a.Shard, b.Shard))
	})
	return all
}

// cordonsIgnored says whether every member that may be given shards is cordoned. Then they take what nobody keeps.
func cordonsIgnored(v *membership.View) bool {
	some := false
	for id := range v.Members {
		if !v.Eligible(id) {
			continue
		}
		if _, cordoned := v.Cordons[id]; !cordoned {
			return false
		}
		some = true
	}
	return some
}

// CordonOf returns whether a member is cordoned: DrainOrdered, DrainIgnored, or "" if it is not.
func CordonOf(v *membership.View, member string) string {
	_, cordoned := v.Cordons[member]
	switch {
	case !cordoned:
		return ""
	case cordonsIgnored(v):
		return DrainIgnored
	default:
		return DrainOrdered
	}
}
