package groupsim

import (
	"context"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/membership"
)

// stop begins to stop the member in order; with rejoin, its shards wait for so long.
func (m *member) stop(rejoin time.Duration) {
	if m.stage != joined || m.goes {
		if m.stage == joining {
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
		if m.rejoin > 0 && m.ownsAny() {
			if granted, err := m.leases.Grant(ctx, int64(m.rejoin/time.Second)); err == nil {
				r := membership.Reservation{
					Since: m.wall(), Until: m.wall().Add(m.rejoin), Keeps: m.view.Owned(m.id),
				}
				_, err = m.registrar().Leave(ctx, *m.reg, r, granted.ID)
				reserved = err == nil
			}
		}
		if !reserved {
			_, _ = m.registrar().SetState(ctx, *m.reg, membership.Leaving)
		}
	}
	m.in(m.w.UpTo(2*time.Second), m.end)
}

// ownsAny says whether the member owns a shard, as far as it knows.
func (m *member) ownsAny() bool {
	return m.view != nil && slices.Contains(m.view.Owned(m.id), true) &&
		(m.reg.Record.State != membership.Unready || m.view.UnreadyIgnored())
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
	m.w.Tracef("%s dies", m.id)
	m.w.died = append(m.w.died, m.id)
	m.leaveOffice()
	m.stage, m.cut = off, false
	m.life++
	m.w.expire(m, m.lease)
	if back > 0 {
		m.w.after(back, m.begin)
	}
}

// expire lets a lease expire that nobody renews any more.
func (w *world) expire(m *member, lease int64) {
	w.after(ttl*3/5+w.UpTo(ttl*2/5), func() { w.endLease(m, lease) })
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
	m.w.Tracef("%s is cut off for %v", m.id, d)
	m.cut = true
	m.in(d, m.reconnect)
	lease := m.lease
	m.in(ttl*3/5+m.w.UpTo(ttl*2/5), func() {
		if m.cut {
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
