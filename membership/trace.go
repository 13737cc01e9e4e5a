package membership

import (
	"maps"
	"slices"

	"github.com/distributed-resource-manager/drm/shard"
)

// Verdict says what a member is to a shard.
type Verdict string

// The verdicts about a member and a shard.
const (
	VerdictOwner    Verdict = "owner"    // the shard belongs to it
	VerdictTakes    Verdict = "takes"    // it could take the shard
	VerdictNoSlots  Verdict = "no-slots" // it could take the shard, but has no slot on the ring yet
	VerdictStray    Verdict = "stray"    // of a slot: the member does not say that it has this slot
	VerdictAwaited  Verdict = "awaited"  // it has stopped and is expected back; it did not have the shard
	VerdictGone     Verdict = "gone"     // there is no such member
	VerdictFree     Verdict = "free"     // of a slot: nobody has reserved it
	VerdictJoining  Verdict = "joining"  // it takes nothing yet
	VerdictLeaving  Verdict = "leaving"  // it is stopping
	VerdictUnready  Verdict = "unready"  // it says that it cannot work
	VerdictDraining Verdict = "draining" // it is drained, and does not keep the shard
	VerdictNoWeight Verdict = "weight-0" // it has the weight 0, and does not keep the shard
	VerdictFull     Verdict = "full"     // it declines the shard, since it has as many claims as it may have
	VerdictCordoned Verdict = "cordoned" // it takes nothing new
	VerdictOlder    Verdict = "older"    // a member of Schema 1 lives, which reckons otherwise
)

// StepKind says what names the member of a Step.
type StepKind string

// The kinds of steps, in the order in which they are asked.
const (
	StepPin       StepKind = "pin"       // an operator's pin
	StepException StepKind = "exception" // the coordinator's exception
	StepThen      StepKind = "then"      // the second member that an exception names
	StepTable     StepKind = "table"     // the table of exceptions that older versions know
	StepSlot      StepKind = "slot"      // a slot that the ring tries
	StepNearest   StepKind = "nearest"   // the slot that the ring takes if all tries were in vain
)

// Step is one candidate for a shard.
type Step struct {
	Kind    StepKind
	Slot    int    // of StepSlot and StepNearest
	Member  string // empty: the slot is free
	Verdict Verdict
	Taken   bool // the shard belongs to this candidate
}

// Trace tells how the owner of a shard is found.
type Trace struct {
	Shard int
	Owner string // what View.Owner returns
	Home  string // the member that the ring gives the shard to, without pins and exceptions; empty: nobody
	// Steps are the candidates in the order in which they were asked, up to the one that owns the shard.
	Steps []Step
	// LastResort says that nobody takes the shard. So it belongs to the first that may own it although it is full or
	// cordoned.
	LastResort bool
	// Older says that the rules of Schema 1 have decided, since one of the two owners is a member that knows no others.
	Older bool
}

// Trace tells how the owner of a shard is found: it asks whom View.Owner has asked, in the same order. It is zero if
// there is no such shard.
func (v *View) Trace(n int) Trace {
	if n < 0 || n >= v.Shards {
		return Trace{}
	}
	t := newRules(v, true).trace(n)
	t.Home = newRules(v.withoutOrders(), true).trace(n).owner()
	if owner := v.Owner(n); t.owner() != owner { // an older member has decided
		steps := newRules(v, false).trace(n)
		t.Steps, t.LastResort, t.Older = steps.Steps, steps.LastResort, true
	}
	t.Owner = t.owner()
	return t
}

// withoutOrders returns the view without pins and exceptions, as far as rules depend on them.
func (v *View) withoutOrders() *View {
	then := *v
	then.Pins, then.Exceptions, then.table = nil, nil, nil
	return &then
}

// owner returns the member of the step that was taken; "" if none was.
func (t Trace) owner() string {
	if i := len(t.Steps) - 1; i >= 0 && t.Steps[i].Taken {
		return t.Steps[i].Member
	}
	return ""
}

// trace is what assign does for one shard, with notes.
func (r *rules) trace(n int) Trace {
	t := Trace{Shard: n}
	t.Steps = r.steps(n, func(id string) bool { s := r.stances[id]; return s != nil && s.takes(n) })
	if t.owner() != "" || len(r.stances) == 0 {
		return t
	}
	last := r.steps(n, func(id string) bool { s := r.stances[id]; return s != nil && s.may(n) })
	if i := len(last) - 1; i >= 0 && last[i].Taken {
		t.Steps, t.LastResort = last, true
	}
	return t
}

// steps is first with notes: the candidates up to the first that is accepted.
func (r *rules) steps(n int, accepted func(id string) bool) (all []Step) {
	v := r.view
	add := func(kind StepKind, slot int, id string, counts bool) (taken bool) {
		s := Step{Kind: kind, Slot: slot, Member: id, Verdict: v.Verdict(id, n), Taken: counts && accepted(id)}
		if !s.Taken && (s.Verdict == VerdictTakes || s.Verdict == VerdictOwner || s.Verdict == VerdictNoSlots) {
			switch {
			case kind == StepSlot && !counts:
				s.Verdict = VerdictStray
			case !r.current || v.older != nil:
				s.Verdict = VerdictOlder
			}
		}
		all = append(all, s)
		return s.Taken
	}
	if p, ok := v.Pins[n]; ok && add(StepPin, 0, p.Member, r.current || p.plain) {
		return all
	}
	if e, ok := v.Exceptions[n]; ok && r.current {
		if add(StepException, 0, e.Member, true) || e.Then != "" && add(StepThen, 0, e.Then, true) {
			return all
		}
	}
	if id, ok := v.table[n]; ok && add(StepTable, 0, id, true) {
		return all
	}
	reserved := v.Reserved()
	for _, try := range r.ring.Walk(n, accepted) {
		kind := StepSlot
		if try.Nearest {
			kind = StepNearest
		}
		id := try.Member
		if id == "" {
			id = reserved.Of(try.Slot)
		}
		if add(kind, try.Slot, id, try.Member != "") {
			break
		}
	}
	return all
}

// Verdict says what a member is to a shard: its owner, one that could take it, or why it does not. The first reason
// counts where there are several. VerdictFree is that of the empty id.
func (v *View) Verdict(id string, n int) Verdict {
	m, live := v.Members[id]
	s := v.holds[id]
	_, cordoned := v.Cordons[id]
	_, awaited := v.Awaited(id)
	switch {
	case id == "":
		return VerdictFree
	case v.Owner(n) == id:
		return VerdictOwner
	case awaited && (s == nil || !s.takes(n)):
		return VerdictAwaited
	case s != nil && s.takes(n) && (awaited || m.Holds() > 0):
		return VerdictTakes
	case s != nil && s.takes(n):
		return VerdictNoSlots
	case !live:
		return VerdictGone
	case m.State == Joining:
		return VerdictJoining
	case m.State == Leaving:
		return VerdictLeaving
	case m.State == Unready && !v.unreadyIgnored:
		return VerdictUnready
	case v.Ordered(id) && !v.ignored:
		return VerdictDraining
	case v.WeightOf(id) == 0:
		return VerdictNoWeight
	case v.Declines(id, n):
		return VerdictFull
	case cordoned:
		return VerdictCordoned
	default:
		return VerdictGone
	}
}

// Candidates returns all members that a key of the group names: those that are live, expected back, on a slot, or that
// an order is about; in order.
func (v *View) Candidates() []string {
	all := v.holders()
	for id := range v.Members {
		all[id] = true
	}
	for id := range v.Reservations {
		all[id] = true
	}
	for id := range v.Drains {
		all[id] = true
	}
	for id := range v.Cordons {
		all[id] = true
	}
	for id := range v.Weights {
		all[id] = true
	}
	for _, p := range v.Pins {
		all[p.Member] = true
	}
	delete(all, "")
	return slices.Sorted(maps.Keys(all))
}

// MoveOf returns the move of a resource, if there is one, and whether it is in force. A move to a member that takes the
// shard is not in force if the member was cordoned before it.
func (v *View) MoveOf(resource string) (m Move, moved, inForce bool) {
	m, moved = v.Moves[resource]
	return m, moved, moved && v.inForce(m, shard.Of(resource, v.Shards))
}

// SchemaOf returns the newest Schema that a live member's program knows, at least 1; 0 if there is no such member.
func (v *View) SchemaOf(id string) int {
	m, live := v.Members[id]
	if !live {
		return 0
	}
	return m.schema()
}
