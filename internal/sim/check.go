package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/groupsim"
)

// valid reports whether the resource is handled, as far as anyone outside can tell: from the call of Handle to the end
// of Terminate, and no longer than the member's own clock allows.
func (h *handling) valid() bool {
	return h != nil && !h.over && !h.byHand && h.keeper.valid()
}

// hasContext reports whether the context that Handle was given is alive, in a process that runs and so could have ended
// it.
func (h *handling) hasContext() bool {
	const moment = 3 * time.Millisecond // until everything has happened that waited in a paused process
	m := h.m
	return !h.ctxEnded && !h.byHand && !m.paused && (m.resumedAt == 0 || m.w.Now-m.resumedAt > moment)
}

// handlingOf returns what a member has of a resource, even if a call that was given up is all that is left of it.
func (m *member) handlingOf(r int) *handling {
	if h := m.handlings[r]; h != nil {
		return h
	}
	if c := m.calls[r]; c != nil {
		return c.h
	}
	return nil
}

// lookAround notes who is out of touch with etcd.
func (w *world) lookAround() {
	for _, m := range w.members {
		was := m.apart
		m.apart = m.cut || m.paused || m.deaf > 0 || m.busy > 0 || w.leaderless > 0
		if m.apart || was {
			m.apartAt = w.Now
		}
	}
}

// excused reports whether a lease's time has passed, as KeepOnOutage allows, and no keepalive can have told the member
// that the lease is gone: the member is out of touch with etcd, or was a moment ago, or its keepalives get lost.
func (k *keeper) excused() bool {
	const moment = ttl/5 + requestTimeout + 100*time.Millisecond // until the next keepalive and its answer
	return k.outlasts() && !k.sure() && (k.unheard > 0 || k.m.w.Now-k.m.apartAt <= moment)
}

// checkSafety looks for a resource that two members handle. Under KeepOnOutage a member that is out of touch for longer
// than its lease may be one of them.
func (w *world) checkSafety() {
	w.lookAround()
	w.checkCeilings()
	for r := range w.ids {
		var first, alive *handling // one that is valid; one whose context has not ended
		handled, excused := 0, 0
		for _, m := range w.members {
			if !m.up {
				continue
			}
			h := m.handlingOf(r)
			if h == nil {
				continue
			}
			if !h.byHand && w.store.wasDeletedByHand(h.token) {
				h.byHand = true
			}
			if h.keeper.excused() {
				handled++
				excused++
				continue
			}
			if !h.valid() {
				if h.hasContext() {
					alive = h
				}
				continue
			}
			handled++
			if first != nil {
				w.Failf("%s is handled by %s (token %d) and %s (token %d) at once",
					w.ids[r], first.m.name, first.token, m.name, h.token)
				return
			}
			first = h
		}
		w.checkChildren(r, first)
		if handled > 1 && excused > 0 {
			w.count(Doubled)
		}
		if first != nil && alive != nil {
			w.Failf("%s is handled by %s (token %d), and the context of its handling by %s (token %d) has not ended",
				w.ids[r], first.m.name, first.token, alive.m.name, alive.token)
			return
		}
	}
	w.checkReceivers()
}

// claimNews is what a member hears of a claim.
type claimNews struct {
	r          int
	rev, token int64 // token is the claim of r at rev; 0: there was none
}

// checkNews looks for a handling that goes on although its member has been told that the claim is gone.
func (m *member) checkNews() {
	for _, n := range m.news {
		h := m.handlingOf(n.r)
		if h == nil || h.token == n.token || h.token >= n.rev {
			continue
		}
		if !h.ctxEnded || !h.over && !h.disowned {
			m.w.Failf("%s: has heard that the claim %d of %s is gone, and its handling goes on", m.name, h.token,
				m.w.ids[n.r])
		}
	}
	m.news = m.news[:0]
}

// checkHandle looks at the claim under which Handle is called.
func (m *member) checkHandle(r int, h *handling) {
	w := m.w
	c := w.store.claims[r]
	own := m.tokens[r]
	if h.token < own {
		w.Failf("%s: Handle of %s under token %d after one under %d of its own", m.name, w.ids[r], h.token, own)
	}
	m.tokens[r] = h.token
	if w.store.wasDeletedByHand(h.token) || h.keeper.excused() {
		return
	}
	if c.token != h.token || c.lease != h.keeper.id {
		w.Failf("%s: Handle of %s under token %d and lease %d, but the claim is %+v",
			m.name, w.ids[r], h.token, h.keeper.id, c)
	}
	last := &w.tokens[r]
	if h.token < last.token || h.token == last.token && (last.m != m || last.gen != m.gen) {
		w.Failf("%s: Handle of %s under token %d after one under %d by %s", m.name, w.ids[r], h.token, last.token,
			last.m.name)
	}
	*last = lastToken{h.token, m, m.gen}
}

// checkWanted looks for a Handle that is called although the member knows that it should not be.
func (m *member) checkWanted(c *call) {
	switch {
	case m.stopped:
		m.w.Failf("%s: Handle of %s after Stop", m.name, c.a.ID)
	case !m.owns(c.a.Shard, c.a.ID):
		m.w.Failf("%s: Handle of %s, which it knows to be another's", m.name, c.a.ID)
	}
}

// lastToken is the newest token that Handle was called with.
type lastToken struct {
	token int64
	m     *member
	gen   int
}

// checkRelease looks for a handling that goes on although its claim is released.
func (m *member) checkRelease(r int, a core.Action) {
	h := m.handlingOf(r)
	if h == nil || a.Token == 0 || h.token != a.Token {
		return
	}
	if h.hasContext() {
		m.w.Failf("%s: Release of %s, whose context has not ended", m.name, a.ID)
	}
	if h.valid() {
		m.w.Failf("%s: Release of %s, which is handled", m.name, a.ID)
	}
}

// checkSummary looks for a claim that a summary would call active although its resource is not handled.
func (m *member) checkSummary(a core.Action) {
	for r, c := range m.w.store.claims {
		if m.w.shardOf(r) != a.Shard || c.token == 0 || c.lease != a.Lease {
			continue
		}
		if c.mod > a.Token || c.state != core.StateClaimed {
			continue
		}
		h, call := m.handlings[r], m.calls[r]
		if h == nil || h.token != c.token || call != nil && call.a.Kind == core.Handle && !call.stuck {
			m.w.Failf("%s: a summary up to %d says of %s that it is active, claimed at %d", m.name, a.Token, m.w.ids[r],
				c.token)
		}
	}
}

// checkNothingOn looks for a handling under a lease that is revoked, and for a context that is still alive.
func (m *member) checkNothingOn(k *keeper) {
	for r := range m.handlings {
		h := m.handlingOf(r)
		if h == nil || h.keeper != k {
			continue
		}
		if h.hasContext() || h.valid() && m.w.store.claims[r].token == h.token {
			m.w.Failf("%s: lease %d is revoked, but %s is handled under it", m.name, k.id, m.w.ids[r])
		}
	}
}

// observe waits, once it is calm, until everything is as it should be.
func (w *world) observe() {
	wrong := w.whatIsWrong()
	switch {
	case wrong == "" && !w.closing:
		w.Tracef("all is well")
		w.Result.Healed = max(0, w.Now-w.calmAt)
		w.calmAt = max(w.calmAt, w.Now) // ending the faults takes time, too
		w.closing = true
		for _, m := range w.members {
			m.stopForGood()
		}
	case wrong == "":
		w.done = true
		return
	case w.Now > w.calmAt+w.patience():
		w.Failf("%v after the last fault: %s", w.patience(), wrong)
		return
	}
	w.after(max(100*time.Millisecond, (w.calmAt-w.Now)/8), w.observe)
}

// stopForGood makes a member stop in order, if it is up.
func (m *member) stopForGood() {
	if m.w.group == nil {
		m.stop(0)
		return
	}
	if m.up && !m.stopping {
		m.w.inGroup(func(g *groupsim.Group) { g.Leave(m.index, 0) })
	}
}

// patience is how long it may take after the last fault until all is well.
func (w *world) patience() time.Duration {
	usual := patience + w.plan.Limits.slowness()
	if w.group != nil {
		usual += groupPatience
	}
	if w.plan.QuarantineAfter == 0 {
		return usual
	}
	alone := usual + uncertainFor + 10*youth // how long one resource may wait until it has been handled alone
	return usual + time.Duration(w.plan.Resources)*alone
}

// whatIsWrong says what is not yet as it should be. It returns "" where all is well.
func (w *world) whatIsWrong() string {
	if w.closing {
		return w.leftovers()
	}
	up := 0
	for _, m := range w.members {
		if !m.up && w.group != nil { // the group goes on without it
			continue
		}
		if !m.up || m.stopping {
			return m.name + " is not up"
		}
		up++
		if s := m.core.Stats(); s.Calls+s.Stuck-m.endless(-1)+s.Waiting+m.receiver.flying > 0 {
			return m.name + " is busy"
		}
		for s, f := range m.followers {
			if (f != nil) != w.hasIn(m, s) && m.endless(s) == 0 {
				return m.name + " follows what it does not own, or not what it owns"
			}
		}
		if wrong := m.whatIsWrong(); wrong != "" {
			return m.name + " " + wrong
		}
	}
	if up == 0 {
		w.members[0].startAgain()
		return "nobody is up"
	}
	for r, c := range w.store.claims {
		if w.isPinned(r) {
			continue
		}
		if wanted := w.entries[r].exists && !w.entries[r].suspended; wanted != (c.token != 0) {
			if wanted && w.mayLack(r) {
				continue
			}
			return w.ids[r] + " has no claim, or one that nobody wants"
		}
		want := core.StateActive
		if w.store.records[r].token != 0 {
			want = core.StateQuarantined
		}
		if c.token != 0 && w.store.says(r) != want {
			return w.ids[r] + " does not say that it is active"
		}
	}
	for shard, trails := range w.store.trails {
		for _, t := range trails { // what nobody can handle stays accused
			handled := func(id string) bool {
				r := slices.Index(w.ids, id)
				left := w.isPinned(r) || w.store.records[r].token != 0 // it is left alone
				return !left && (w.store.claims[r].token != 0 || !w.mayLack(r))
			}
			if slices.ContainsFunc(t.ids, handled) {
				return fmt.Sprintf("shard %d has the trail %+v still", shard, t)
			}
		}
	}
	for id, l := range w.store.leases {
		if l.alive && (l.gen != l.owner.gen || l.owner.keeper(int64(id)) == nil || l.owner.keeper(int64(id)).fenced) {
			return "a lease is alive that nobody needs"
		}
	}
	for shard, list := range w.store.sums {
		for _, n := range list {
			if m := w.store.leases[n.lease].owner; !w.hasIn(m, shard) && m.endless(shard) == 0 {
				return fmt.Sprintf("there is a summary of shard %d by %s, which does not have it", shard, m.name)
			}
		}
	}
	return ""
}

// whatIsWrong says what a member handles although it should not, or does not handle although it should. It returns ""
// where all is well.
func (m *member) whatIsWrong() string {
	w, handled := m.w, 0
	for r, h := range m.handlings {
		id := w.ids[r]
		wanted := w.entries[r].exists && !w.entries[r].suspended && w.ownerOf(r) == m.index
		switch {
		case w.isPinned(r): // nobody can handle it
		case w.store.records[r].token != 0 && (h == nil || h.over || h.tried || h.lapsed): // it is left alone
		case wanted && (h == nil || h.over || h.tried) && w.store.claims[r].token == 0 && w.mayLack(r):
		case wanted && (h == nil || h.tried || h.over):
			return "does not handle " + id
		case h == nil, h.over, h.tried && !h.valid(): // nothing is left, or nothing more can be done
		case !wanted:
			return "handles " + id
		case h.broken:
			return "handles " + id + ", which has broken"
		case h.ctxEnded || !h.must || h.byHand:
			return "does not really handle " + id
		case h.version != string(w.entries[r].data()):
			return "handles old data of " + id
		case h.token != w.store.claims[r].token || !h.keeper.sure():
			return "handles " + id + " without its claim"
		default:
			if wrong := m.receiver.whatIsWrong(r, h); wrong != "" {
				return wrong
			}
			handled++
		}
	}
	if len(m.core.Handled()) != handled {
		return "does not know what it handles"
	}
	return ""
}

// endless counts the calls of a shard, or of all shards for -1, that have been given up and never return.
func (m *member) endless(shard int) int {
	n := 0
	for r, c := range m.calls {
		if c != nil && c.endless && c.stuck && (shard < 0 || m.w.shardOf(r) == shard) {
			n++
		}
	}
	return n
}

// isPinned reports whether nobody can handle a resource: its owner has a call for it that never returns, or another
// member has such a call and the claim.
func (w *world) isPinned(r int) bool {
	for _, m := range w.members {
		claimant := w.store.leases[w.store.claims[r].lease].owner // nobody owns lease 0
		if !m.up {
			continue
		}
		if c := m.calls[r]; c != nil && c.endless && (w.ownerOf(r) == m.index || claimant == m) {
			return true
		}
	}
	return false
}

// leftovers says what is left behind when all members have stopped.
func (w *world) leftovers() string {
	for _, m := range w.members {
		if m.up {
			return m.name + " does not stop"
		}
	}
	for r, c := range w.store.claims {
		if c.token != 0 {
			return w.ids[r] + " has a claim still"
		}
	}
	for _, l := range w.store.leases {
		if l.alive {
			return "a lease is left behind"
		}
	}
	return ""
}
