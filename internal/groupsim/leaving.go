package groupsim

import (
	"context"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/outlook"
	"github.com/distributed-resource-manager/drm/membership"
)

// stop begins to stop the member in order; with rejoin, its shards wait for so long.
func (m *member) stop(rejoin time.Duration) {
	if m.stage != joined || m.goes {
		switch {
		case m.stage == joining && m.w.procs != nil:
			m.leave()
		case m.stage == joining:
			m.end()
		}
		return
	}
	m.w.Tracef("%s stops, rejoin %v", m.id, rejoin)
	if m.rejoin = rejoin; m.older {
		m.rejoin, rejoin = 0, 0
	}
	if v := m.view; rejoin > 0 || v == nil || !v.Members[m.id].HasJoined() || !v.HasGuide() || v.Alone(m.id) {
		m.leave()
		return
	}
	m.goes = true
	m.waits = m.w.Now + prepared
	m.in(prepared, func() {
		if m.stage == joined && m.goes {
			m.leave()
		}
	})
	m.heed()
}

// leave tells the others that the member leaves, and ends it.
func (m *member) leave() {
	m.leaveOffice()
	m.stage = leaving
	ctx := context.Background()
	if m.reg != nil {
		reserved := false
		if keeps := m.keeps(); m.rejoin > 0 && keeps != nil {
			if granted, err := m.leases.Grant(ctx, int64(m.rejoin/time.Second)); err == nil {
				r := membership.Reservation{Since: m.wall(), Until: m.wall().Add(m.rejoin), Keeps: keeps}
				_, err = m.registrar().Leave(ctx, *m.reg, r, granted.ID, m.view.Revision)
				reserved = err == nil
			}
		}
		if !reserved {
			_, _ = m.registrar().SetState(ctx, *m.reg, membership.Leaving)
		}
	}
	if m.w.procs != nil {
		m.w.procs.Stop(m.index)
		return
	}
	m.in(m.w.UpTo(2*time.Second), m.end)
}

// keeps returns the shards that wait for the member if it stops now with Rejoin; nil: there is none.
func (m *member) keeps() []bool {
	if m.view == nil || m.reg.Record.State == membership.Unready && !m.view.UnreadyIgnored() {
		return nil
	}
	keeps := outlook.Keeps(m.view, m.id, m.declines().Shards)
	if !slices.Contains(keeps, true) {
		return nil
	}
	return keeps
}

// end ends the member in order.
func (m *member) end() {
	m.w.Tracef("%s has stopped", m.id)
	lives, cut := m.lives, m.cut
	m.leaveOffice()
	m.stage = off
	m.life++
	if cut {
		m.w.expire(m, m.lease)
		return
	}
	m.w.endLease(m, m.lease)
	if lives != 0 {
		m.w.store.end(lives)
	}
}

// die ends the member's process. It comes back after a time, or never if that is 0.
func (m *member) die(back time.Duration) {
	if m.stage == off {
		return
	}
	if m.w.procs != nil {
		m.w.procs.Kill(m.index, back)
		return
	}
	m.lose()
	if back > 0 {
		m.w.after(back, m.begin)
	}
}

// lose notes that the member's process is gone.
func (m *member) lose() {
	if m.stage == off {
		return
	}
	m.w.Tracef("%s dies", m.id)
	m.w.died = append(m.w.died, m.id)
	m.leaveOffice()
	m.stage, m.cut = off, false
	m.life++
	m.w.expire(m, m.lease)
}

// expire lets a lease expire that nobody renews any more.
func (w *world) expire(m *member, lease int64) {
	w.whenDue(ttl*3/5, ttl*2/5, func() { w.endLease(m, lease) })
}

// whenDue calls f when a lease that nobody renews expires: after least, and at random up to more later. While there is
// no leader, no lease expires, and a new leader gives each its whole TTL again.
func (w *world) whenDue(least, more time.Duration, f func()) {
	begun, d := w.Now, least
	if more > 0 {
		d += w.UpTo(more)
	}
	w.after(d, func() {
		if w.leaderless || w.elected > begun {
			w.whenDue(least, more, f)
			return
		}
		f()
	})
}

// endLease ends the lease of a member's key, and those of its claims with it.
func (w *world) endLease(m *member, lease int64) {
	if w.store.leases[lease] == nil {
		return
	}
	for n, h := range w.holders {
		if h.m == m && (h.life != m.life || m.lease == lease) {
			w.holders[n] = holder{}
		}
	}
	w.store.end(lease)
	for _, other := range w.members {
		other.stirWork()
	}
}

// cutNetwork cuts the member off for a time. Its lease may expire meanwhile.
func (m *member) cutNetwork(d time.Duration) {
	if m.cutOff() {
		return
	}
	if m.w.procs != nil {
		m.w.procs.CutOff(m.index, d)
		return
	}
	m.w.Tracef("%s is cut off for %v", m.id, d)
	m.in(d, m.reconnect)
	m.loseTouch()
}

// loseTouch notes that nothing reaches the member, nor etcd from it. Its lease may expire meanwhile.
func (m *member) loseTouch() {
	m.cut = true
	m.cuts++
	lease, cuts, life := m.lease, m.cuts, m.life
	m.w.whenDue(ttl*3/5, ttl*2/5, func() {
		if m.cut && m.life == life && (m.cuts == cuts || m.w.procs == nil) {
			m.w.endLease(m, lease)
		}
	})
}

func (m *member) reconnect() {
	m.cut = false
	m.noteView()
	m.in(0, m.heed)
	m.stirWork()
	m.stirReport()
	m.poke(0)
}
