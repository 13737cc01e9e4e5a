package membership

import (
	"maps"
	"slices"
	"strconv"

	"github.com/distributed-resource-manager/drm/shard"
)

// Members of Schema 1 do not know some of the keys that decide who owns a shard. While such a member lives, the members
// of Schema 2 compute the owners by both sets of rules. Where these differ, the owner by the newer rules counts only if
// both owners know these rules; otherwise one that does not would not take what the others leave to it.

// assign returns the owner of each shard.
func (v *View) assign() []string {
	rules := newRules(v, true)
	v.holds = rules.stances
	owners := rules.assign()
	if !v.HasOlder() {
		return owners
	}
	older := newRules(v, false)
	v.older = older.stances
	for n, owner := range older.assign() {
		if owner != owners[n] && !(v.knows(owner) && v.knows(owners[n])) {
			owners[n] = owner
		}
	}
	return owners
}

// HasOlder says whether a member lives whose program knows only Schema 1.
func (v *View) HasOlder() bool {
	for id := range v.Members {
		if !v.knows(id) {
			return true
		}
	}
	return false
}

// knows says whether a member's program knows Schema 2. One that is gone counts as one that does.
func (v *View) knows(id string) bool {
	m, live := v.Members[id]
	return !live || m.Schema >= Schema
}

// HasGuide says whether there is a coordinator that places shards.
func (v *View) HasGuide() bool {
	m, live := v.Members[v.Coordinator.ID]
	return live && m.Schema >= Schema
}

// isGuided says whether somebody lets go of what drained members keep, now or in a moment: a coordinator that places
// shards or, while the office is free, a member that places shards once it has the office. So nothing moves to and fro
// when a coordinator dies.
func (v *View) isGuided() bool {
	if v.Coordinator.CreateRevision != 0 {
		return v.HasGuide()
	}
	for id, m := range v.Members {
		if m.HasJoined() && v.knows(id) {
			return true
		}
	}
	return false
}

// stance says which shards a member may own.
type stance struct {
	drained  bool   // it owns no shards but those that it keeps
	cordoned bool   // it owns no shards but those that it keeps, unless nobody else can own one
	keeps    []bool // by shard; nil: none
	declines []bool // by shard: it owns these only if nobody else can; nil: none
}

// free says whether the member may own all shards.
func (s *stance) free() bool { return !s.drained && !s.cordoned && s.declines == nil }

// may says whether the member may own a shard at all.
func (s *stance) may(n int) bool { return !s.drained || s.kept(n) }

// takes says whether the member takes a shard that others could take as well.
func (s *stance) takes(n int) bool {
	return (!s.drained && !s.cordoned || s.kept(n)) && !(n < len(s.declines) && s.declines[n])
}

func (s *stance) kept(n int) bool { return n < len(s.keeps) && s.keeps[n] }

// rules finds the owners of shards as one version of the schema does.
type rules struct {
	view    *View
	current bool // Schema 2; otherwise Schema 1
	stances map[string]*stance
	free    bool // the stances of all members are free
	ring    *shard.Ring
}

func newRules(v *View, current bool) *rules {
	r := &rules{view: v, current: current, stances: map[string]*stance{}, free: true}
	for id := range v.Members {
		if s := r.stanceOf(id); s != nil {
			r.admit(id, s)
		}
	}
	accepted := func(id string) bool { return r.stances[id] != nil }
	awaited := map[string]bool{}
	if current && len(v.Reservations) > 0 {
		for id := range v.holders() {
			if awaited[id] = v.awaited(id); awaited[id] && r.stances[id] == nil {
				r.admit(id, v.Reservations[id].stance())
			}
		}
	}
	ring := v.ringOf(accepted, func(id string) bool { return awaited[id] }, current)
	r.ring, v.probes = ring.WithProbes(v.probes, v.Shards)
	return r
}

func (r *rules) admit(id string, s *stance) {
	r.stances[id] = s
	r.free = r.free && s.free()
}

// stanceOf returns which shards a live member may own; nil: none.
func (r *rules) stanceOf(id string) *stance {
	v := r.view
	m := v.Members[id]
	unreadyIgnored := v.unreadyIgnored
	if !r.current {
		unreadyIgnored = v.olderUnreadyIgnored
	}
	if m.State != Active && !(m.State == Unready && unreadyIgnored) {
		return nil
	}
	s := &stance{declines: v.declines[id].Shards}
	drain, drained := v.Drains[id]
	cordon, cordoned := v.Cordons[id]
	switch {
	case !r.current:
		if drained && !v.olderAllDrained {
			return nil
		}
	case drained && !v.ignored:
		return s.keepsOnly(drain.Keeps, v.isGuided())
	case v.WeightOf(id) == 0:
		return s.keepsOnly(v.Weights[id].Keeps, v.isGuided())
	case cordoned:
		s.cordoned, s.keeps = true, cordon.Keeps
	}
	return s
}

// keepsOnly makes the stance that of a member which keeps some shards, as long as a coordinator takes these away bit by
// bit; nil: it owns none.
func (s *stance) keepsOnly(keeps []bool, guided bool) *stance {
	if keeps == nil || !guided {
		return nil
	}
	s.drained, s.keeps = true, keeps
	return s
}

// assign returns the owner of each shard: the first that takes it of the member that a pin names, those that an
// exception names, and the one on the ring. If nobody takes it, it belongs to the first of these that may own it.
func (r *rules) assign() []string {
	owners := make([]string, r.view.Shards)
	if len(r.stances) == 0 {
		return owners
	}
	for n := range owners {
		takes := func(id string) bool { s := r.stances[id]; return s != nil && s.takes(n) }
		if owners[n] = r.first(n, takes); owners[n] == "" {
			owners[n] = r.first(n, func(id string) bool { s := r.stances[id]; return s != nil && s.may(n) })
		}
	}
	return owners
}

// first returns the first member that could own a shard, of those that are accepted; "" if there is none.
func (r *rules) first(n int, accepted func(id string) bool) string {
	v := r.view
	if p, ok := v.Pins[n]; ok && (r.current || p.plain) && accepted(p.Member) {
		return p.Member
	}
	if e, ok := v.Exceptions[n]; ok && r.current {
		if accepted(e.Member) {
			return e.Member
		}
		if e.Then != "" && accepted(e.Then) {
			return e.Then
		}
	}
	if id, ok := v.table[n]; ok && accepted(id) {
		return id
	}
	if r.free {
		return r.ring.Owner(n)
	}
	return r.ring.OwnerWithout(n, func(id string) bool { return !accepted(id) })
}

// awaited says whether a member has stopped, and its shards wait for it because it will be back soon.
func (v *View) awaited(id string) bool {
	if _, reserved := v.Reservations[id]; !reserved || v.WeightOf(id) == 0 || v.Ordered(id) && !v.ignored {
		return false
	}
	m, live := v.Members[id]
	return !live || m.State == Leaving || m.State == Joining
}

// Awaited returns the reservation of a member that has stopped, if it is in force: the member's shards belong to nobody
// else until it is back, or the reservation ends.
func (v *View) Awaited(id string) (r Reservation, awaited bool) {
	return v.Reservations[id], v.awaited(id)
}

// WeightOf returns a member's weight: what an operator has ordered, otherwise what the member's own key says. It is 0
// for a member of which nothing is known, unless an order is.
func (v *View) WeightOf(id string) int {
	m, live := v.Members[id]
	if _, reserved := v.Reservations[id]; !live && reserved {
		return v.WeightWith(id, 1)
	}
	return v.WeightWith(id, m.Weight)
}

// WeightWith is WeightOf for a member whose own weight is another one than the view says: a member asks with what it is
// about to write.
func (v *View) WeightWith(id string, own int) int {
	if w, ordered := v.Weights[id]; ordered {
		return w.Weight
	}
	return own
}

// Eligible says whether a member may be given shards: it is active, or unready where that is ignored, its weight is not
// 0, and it is not drained, or the drains are ignored. It owns none for as long as it has no slot. A member that is
// cordoned or full is eligible, since it takes a shard if nobody else does.
func (v *View) Eligible(id string) bool {
	s := v.holds[id]
	m := v.Members[id]
	return s != nil && !s.drained && (m.State == Active || m.State == Unready)
}

// Kept returns how many shards a member owns that is drained, or has the weight 0, since the coordinator has not yet
// placed them elsewhere. It is 0 for any other member.
func (v *View) Kept(id string) int {
	kept := 0
	if s := v.holds[id]; s != nil && s.drained {
		for _, owner := range v.owners {
			if owner == id {
				kept++
			}
		}
	}
	return kept
}

// Takes says whether a member takes a shard which others could take as well: it is eligible, neither full nor cordoned,
// or keeps the shard.
func (v *View) Takes(id string, n int) bool {
	s := v.holds[id]
	return s != nil && s.takes(n)
}

// NeedsSlots says whether a member should hold the slots of its weight: it takes whatever the ring gives it, or there
// are shards that belong to nobody, and it may own them although it is cordoned or full. While others own all shards,
// slots of a member that takes none would make the ring longer by what counts for nobody, which moves shards between
// the others.
func (v *View) NeedsSlots(id string) bool {
	s := (&rules{view: v, current: true}).stanceOf(id)
	return s != nil && (s.free() || !s.drained && slices.Contains(v.owners, ""))
}

// withWeight returns the view as far as it depends on what a member says of its own weight.
func (v *View) withWeight(id string, weight int) *View {
	then := *v
	then.Members = maps.Clone(v.Members)
	m := v.Members[id]
	m.Weight = weight
	then.Members[id] = m
	return &then
}

// decodePrepared reads the value of the key that says for which revision of a member's key all is prepared.
func decodePrepared(value []byte) (modRevision int64, ok bool) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil && n > 0
}

// HoldsItsWeight says whether a member has as many slots on the ring as its weight says. One that has just been given
// another weight has not. One that owns nothing for now does not matter: it has joined no more, or has the weight 0.
func (v *View) HoldsItsWeight(id string) bool {
	m, weight := v.Members[id], v.WeightOf(id)
	return m.State != Active || weight == 0 || m.Holds() == weight
}
