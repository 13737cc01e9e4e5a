package sim

import (
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/groupsim"
)

// befall makes a fault of the plan happen, if it can.
func (w *world) befall(f Fault) {
	w.Tracef("fault: %v %d for %v", f.Kind, f.Who, f.For)
	switch f.Kind {
	case Pause, Busy, Miss:
		w.pardon() // a process that stands still lives longer than a young resource is young
	case Deafen, Stall, Silence:
		if w.plan.Supervised { // the next member may be faster than the news of the death, or of a change before it
			w.pardon()
		}
	default:
	}
	if w.strike(f) || w.change(f) {
		w.count(befell(f.Kind))
	}
}

// strike makes a fault of a member, of its network or of etcd happen.
func (w *world) strike(f Fault) bool {
	m := w.members[f.Who%len(w.members)]
	switch f.Kind {
	case Crash:
		if !m.up {
			return false
		}
		m.die("crash")
		w.after(f.For, m.startAgain)
	case Pause:
		if !m.up || m.paused {
			return false
		}
		m.paused, m.pausedAt = true, w.Now
		w.inGroup(func(g *groupsim.Group) { g.Pause(m.index, true) })
		w.touch()
		w.after(f.For, m.resume)
	case Cut:
		if m.cut {
			return false
		}
		m.cut, m.cutAt = true, w.Now
		w.touch()
		w.after(f.For, func() {
			w.Tracef("%s: network is back", m.name)
			m.cut = false
			w.reassign()
		})
	case Deafen:
		w.raiseFor(&m.deaf, f.For)
	case Stall:
		w.raiseFor(&m.stalls, f.For)
	case Busy:
		return m.block(&m.busy, f.For, m.flush)
	case BlockLog:
		return m.block(&m.blocked, f.For, func() {})
	case Silence:
		w.raiseFor(&w.store.logs[w.shardOf(f.Who%w.plan.Resources)].silent, f.For)
	case Miss:
		return w.miss(w.shardOf(f.Who % w.plan.Resources))
	case Break:
		if !m.up {
			return false
		}
		m.after(0, m.breakWatches)
	case Compact:
		w.store.compact()
	case Elect:
		w.leaderless++
		w.inGroup(func(g *groupsim.Group) { g.Leaderless(true) })
		w.touch()
		w.after(f.For, w.elect)
	case LoseKey:
		w.keyless(m, f.For)
	case RestartService:
		return m.restartService(f.For)
	case RevokeLease: // what a failed Terminate leaves then may kill the member when no trail names it any more
		w.pardon()
		return m.loseLease()
	default:
		return false
	}
	if f.Kind == Pause || f.Kind == Cut || f.Kind == Crash {
		w.after(ttl, w.reassign) // by then its member key has expired, unless it is back
	}
	return true
}

// change makes a change by an operator or the source happen.
func (w *world) change(f Fault) bool {
	m := w.members[f.Who%len(w.members)]
	r := f.Who % w.plan.Resources
	switch f.Kind {
	case Change, Remove, Suspend, Free, DeleteClaim: // a claim that is deleted by hand is free before the others go
		if w.isPoison(r) {
			w.pardon()
		}
	default:
	}
	switch f.Kind {
	case Drain:
		m.drain(f)
	case Unready:
		m.cannotWork(1)
		w.after(f.For, func() { m.cannotWork(-1) })
	case Leave:
		if !m.up || m.stopping || m.paused {
			return false
		}
		m.leaveGroup(f)
	case Move:
		w.moved[w.shardOf(r)]++
		w.inGroup(func(g *groupsim.Group) { g.Move(w.shardOf(r), w.Rand.IntN(len(w.members))) })
		w.reassign()
	case Give:
		w.give(r, w.members[w.Rand.IntN(len(w.members))].index)
		if f.For > 0 {
			w.after(f.For, func() { w.give(r, -1) })
		}
	case Change:
		w.entries[r].version++
		w.putEntry(r)
	case Touch:
		w.putEntry(r)
	case Remove:
		w.entries[r].exists = false
		w.putEntry(r)
		if f.For > 0 {
			w.after(f.For, func() { w.entries[r].exists = true; w.putEntry(r) })
		}
	case Suspend:
		w.entries[r].suspended = true
		w.putEntry(r)
		if f.For > 0 {
			w.after(f.For, func() { w.entries[r].suspended = false; w.putEntry(r) })
		}
	case Free:
		return w.store.free(r)
	case DeleteClaim:
		return w.store.deleteByHand(r)
	case DeleteSummary:
		return w.store.deleteSummariesByHand(w.shardOf(r))
	default:
		return false
	}
	return true
}

// drain orders that a member be drained, for some time.
func (m *member) drain(f Fault) {
	w := m.w
	m.drains++
	if m.drains == 1 {
		w.inGroup(func(g *groupsim.Group) { g.Drain(m.index, f.Who%2 == 0) })
	}
	w.reassign()
	w.after(f.For, func() {
		m.drains--
		if m.drains == 0 {
			w.inGroup(func(g *groupsim.Group) { g.Undrain(m.index) })
		}
		w.reassign()
	})
}

// cannotWork changes the number of reasons why a member cannot work.
func (m *member) cannotWork(by int) {
	m.unready += by
	m.w.inGroup(func(g *groupsim.Group) { g.SetBroken(m.index, m.unready > 0) })
	m.w.reassign()
}

// leaveGroup makes a member stop in order. In a group, it sometimes says that it will be back.
func (m *member) leaveGroup(f Fault) {
	if m.w.group == nil {
		m.stop(f.For)
		m.w.reassign()
		return
	}
	m.back = f.For
	rejoin := time.Duration(0)
	if f.Who%2 == 1 && f.For > 0 {
		rejoin = 10 * time.Second
	}
	m.w.inGroup(func(g *groupsim.Group) { g.Leave(m.index, rejoin) })
}

// raiseFor raises a count of reasons, and lowers it again after some time.
func (w *world) raiseFor(reasons *int, d time.Duration) {
	*reasons++
	w.after(d, func() { *reasons-- })
}

// block raises, for some time, a count of reasons why something in a member's process waits. It calls then afterwards.
func (m *member) block(reasons *int, d time.Duration, then func()) bool {
	if !m.up {
		return false
	}
	*reasons++
	gen := m.gen
	m.w.after(d, func() {
		if m.gen == gen {
			*reasons--
			m.after(0, then)
		}
	})
	return true
}

// miss makes some watches of a shard lose the next event.
func (w *world) miss(shard int) (any bool) {
	for _, f := range w.store.logs[shard].followers {
		if !f.dead && f.gen == f.m.gen && w.Rand.IntN(2) == 0 {
			f.missing++
			any = true
		}
	}
	return any
}

// elect ends one reason why etcd has no leader. A new leader does not know how old leases are, so each gets its whole
// TTL.
func (w *world) elect() {
	w.leaderless--
	if w.leaderless == 0 {
		w.Tracef("etcd: has a leader")
		w.store.promote()
		w.inGroup(func(g *groupsim.Group) { g.Leaderless(false) })
		w.touch()
	}
}

// keyless takes a running member out of the view until it has registered again.
func (w *world) keyless(m *member, d time.Duration) {
	if w.group != nil {
		w.inGroup(func(g *groupsim.Group) { g.LoseKey(m.index) })
		return
	}
	m.keyless++
	w.reassign()
	w.after(d, func() { m.keyless--; w.reassign() })
}

// putEntry writes what the catalogue should say of a resource.
func (w *world) putEntry(r int) { w.store.putEntry(r, w.entries[r]) }

// endFaults makes the surroundings good for ever. Faults that were to end later end as planned.
func (w *world) endFaults() {
	w.Tracef("calm from now on")
	w.Calm, w.calmAt = true, max(w.calmAt, w.Now)
	if w.plan.HandleAttempts > 0 { // resources that were given up are tried again only with new data
		for r := range w.entries {
			if w.isPoison(r) {
				w.pardon()
			}
			w.entries[r].version++
			w.putEntry(r)
		}
	}
	w.inGroup(func(g *groupsim.Group) { g.Settle() })
	w.reassign()
	w.after(100*time.Millisecond, w.observe)
}

// shardOf gives each shard its share of the resources.
func (w *world) shardOf(r int) int { return r % w.plan.Shards }

// reassign makes a new view and sends it to everyone.
func (w *world) reassign() {
	if w.group != nil {
		w.touch()
		return
	}
	w.view++
	for i, m := range w.members {
		if !m.isMember() { // a decline ends with the member's key
			w.declines[i] = decline{}
		}
	}
	var live, ready []int
	for _, drained := range []bool{false, true} { // if nobody is eligible, drains are ignored
		for i, m := range w.members {
			if m.isMember() && (drained || m.drains == 0) {
				live = append(live, i)
				if m.unready == 0 {
					ready = append(ready, i)
				}
			}
		}
		if len(live) > 0 {
			break
		}
	}
	there := len(live)
	if 2*len(ready) >= len(live) { // otherwise, unreadiness is ignored
		live = ready
	}
	if there > 0 && len(live) == 0 {
		w.Failf("nobody owns anything, though %d members are there", there)
	}
	for s := range w.owners {
		w.owners[s] = -1
		if len(live) > 0 {
			w.owners[s] = live[(s*7+w.moved[s])%len(live)]
			w.passOn(s, live)
		}
	}
	w.live = make([]bool, len(w.members))
	for _, i := range live {
		w.live[i] = true
	}
	w.Tracef("view %d: %v, given %v", w.view, w.owners, w.given)
	for _, m := range w.members {
		m.sendView()
	}
}

// give moves a resource to a member without its shard; -1: it belongs to its shard's owner again.
func (w *world) give(r, member int) {
	if w.group != nil {
		w.inGroup(func(g *groupsim.Group) { g.Give(w.ids[r], member) })
		return
	}
	w.given[r] = member
	w.reassign()
}

// giveOn moves a resource that does not work at a member to the next one.
func (m *member) giveOn(r int) {
	w := m.w
	if w.group != nil {
		const tries = 60
		m.giveOnInGroup(r, tries)
		return
	}
	if w.ownerOf(r) != m.index {
		return
	}
	for i := range w.members {
		if to := (m.index + 1 + i) % len(w.members); to != m.index && w.live[to] && !w.hasDeclined(to, w.shardOf(r)) {
			w.count(GivenOn)
			w.give(r, to)
			return
		}
	}
}

// ownerOf returns the member that a resource belongs to; -1: none.
func (w *world) ownerOf(r int) int {
	if w.group != nil {
		return w.given[r]
	}
	if to := w.given[r]; to >= 0 && w.live[to] && !w.hasDeclined(to, w.shardOf(r)) {
		return to
	}
	return w.owners[w.shardOf(r)]
}

// hasIn says whether a shard, or any resource in it, belongs to a member.
func (w *world) hasIn(m *member, shard int) bool {
	for r := range w.given {
		if w.shardOf(r) == shard && w.ownerOf(r) == m.index {
			return true
		}
	}
	return w.owners[shard] == m.index
}

// exceptions returns the resources that concern a member, and do not belong to their shards' owners.
func (m *member) exceptions() core.Exceptions {
	w, all := m.w, core.Exceptions{}
	for r := range w.given {
		shard, owner := w.shardOf(r), w.ownerOf(r)
		if of := w.owners[shard]; owner == of || owner != m.index && of != m.index {
			continue
		}
		if all[shard] == nil {
			all[shard] = map[string]bool{}
		}
		all[shard][w.ids[r]] = owner == m.index
	}
	return all
}

// owns says whether a resource belongs to the member in the newest view that it was told of.
func (m *member) owns(shard int, id string) bool {
	if mine, moved := m.moved[shard][id]; moved {
		return mine
	}
	return m.owned[shard]
}

// isMember reports whether the view has m: it is live, or was until a moment ago.
func (m *member) isMember() bool {
	expired := m.cut && m.w.Now-m.cutAt >= ttl || m.paused && m.w.Now-m.pausedAt >= ttl
	return m.up && !m.stopping && m.keyless == 0 && !expired
}
