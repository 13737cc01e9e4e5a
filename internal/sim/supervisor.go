package sim

import (
	"time"

	"github.com/distributed-resource-manager/drm/internal/groupsim"
)

// child is something that a handler has started outside of its member's process, and that outlives the process.
type child struct {
	r     int
	token int64
	over  bool
}

const (
	// childLife is how long a child outlives its member's process at most. Its guard ends it before the claim's
	// deadline, whatever happens.
	childLife = 3 * time.Second
	// notices is how long the supervisor takes at most to see that nothing is left.
	notices = 20 * time.Millisecond
)

// die is crash for a process that does not end in order. What it has started may outlive it. If there is a supervisor,
// that revokes the process's leases when nothing is left of it.
func (m *member) die(why string) {
	w := m.w
	var leases []int64
	for _, k := range m.keepers {
		if !k.closed {
			leases = append(leases, k.id)
		}
	}
	for r := range m.handlings {
		h := m.handlingOf(r)
		if w.plan.Receivers == NoReceivers && h.valid() && h.keeper.sure() && w.Rand.IntN(3) == 0 {
			m.leave(h, r)
		}
	}
	m.crash(why)
	w.inGroup(func(g *groupsim.Group) { g.Lose(m.index) })
	m.orphaned = nil
	if w.plan.Supervised {
		m.orphaned = leases
		m.collect()
	}
}

// leave lets what a handling has started outlive the process.
func (m *member) leave(h *handling, r int) {
	w, c := m.w, &child{r: r, token: h.token}
	m.children = append(m.children, c)
	w.count(Orphaned)
	rest := m.worldAt(h.keeper.deadline) - w.Now - time.Microsecond
	w.after(min(w.UpTo(childLife), max(0, rest)), func() {
		w.Tracef("%s: nothing is left of %s, token %d", m.name, w.ids[r], c.token)
		c.over = true
		m.collect()
	})
}

// isSurvived says whether anything is left of what a former process of the member has started.
func (m *member) isSurvived() bool {
	for _, c := range m.children {
		if !c.over {
			return true
		}
	}
	m.children = nil
	return false
}

// collect makes the supervisor revoke the leases of a process of which nothing is left. The supervisor may be dead too,
// and its requests may be lost; then the leases expire.
func (m *member) collect() {
	w, leases := m.w, m.orphaned
	if m.isSurvived() || len(leases) == 0 {
		return
	}
	m.orphaned = nil
	if w.Chance(10) {
		return
	}
	noticed := w.UpTo(notices)
	for _, id := range leases {
		w.after(noticed+w.delay(), func() {
			if !m.cut && w.leaderless == 0 && !w.Chance(w.plan.Lossy) && w.store.leases[id].alive {
				w.count(RevokedDead)
				w.Tracef("%s: the supervisor revokes lease %d", m.name, id)
				w.store.revoke(id)
			}
		})
	}
	if w.group != nil {
		w.after(noticed+w.delay(), func() {
			if !m.cut && w.leaderless == 0 {
				w.inGroup(func(g *groupsim.Group) { g.Revoke(m.index) })
			}
		})
	}
	w.after(noticed+2*requestTimeout, w.reassign)
}

// startAgain starts the process, which a supervisor does only when nothing is left of the one before.
func (m *member) startAgain() {
	if m.w.plan.Supervised && m.isSurvived() {
		m.w.after(notices, m.startAgain)
		return
	}
	m.start()
}

// checkChildren looks for a resource of which something is left at one member while another one handles it, or this one
// does again under another claim.
func (w *world) checkChildren(r int, first *handling) {
	if first == nil {
		return
	}
	for _, m := range w.members {
		for _, c := range m.children {
			if c.r == r && !c.over && !w.store.wasDeletedByHand(c.token) {
				w.Failf("%s is handled by %s (token %d), and something of its handling by %s (token %d) is left",
					w.ids[r], first.m.name, first.token, m.name, c.token)
			}
		}
	}
}
