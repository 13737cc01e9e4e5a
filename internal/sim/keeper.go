package sim

import (
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
)

// keeper renews one lease of a member, and knows when it stops being safe.
type keeper struct {
	m        *member
	id       int64
	deadline time.Duration // in the time of the member's clock
	fenced   bool
	told     bool // whether the core knows that the lease is fenced
	closed   bool
	ended    bool // whether the contexts of all handlings on the lease have ended
	outlast  bool // whether the deadline may pass, because of KeepOnOutage
	unheard  int  // how many keepalives were sent since the last answer
}

func (m *member) keeper(id int64) *keeper {
	for _, k := range m.keepers {
		if k.id == id {
			return k
		}
	}
	return nil
}

// grant gets a lease, however long that takes.
func (m *member) grant() {
	sent := m.clock()
	var id int64
	m.request(granting, func() { id = m.w.store.grant(m) }, func(lost, failed bool) {
		if lost || failed {
			m.after(100*time.Millisecond, m.grant)
			return
		}
		k := &keeper{m: m, id: id, deadline: safeUntil(sent), outlast: m.w.plan.KeepOnOutage && !m.stopping}
		m.keepers = append(m.keepers, k)
		m.after(ttl/5, k.renew)
		k.guard()
		m.post(func() {
			m.granting = false
			m.core.LeaseReady(m.clock(), id)
			m.step()
		})
	})
}

// safeUntil returns the deadline that a request sent at that time gives a lease.
func safeUntil(sent time.Duration) time.Duration {
	return sent + ttl - margin
}

// valid reports whether the resources on the lease may be handled now.
func (k *keeper) valid() bool {
	return k != nil && !k.closed && (k.m.clock() < k.deadline || k.outlasts())
}

// sure reports whether nobody else can have what is on the lease.
func (k *keeper) sure() bool { return k.valid() && k.m.clock() < k.deadline }

// outlasts reports whether the lease's deadline may pass.
func (k *keeper) outlasts() bool { return k.outlast && !k.fenced }

// noLonger makes the lease end in time like any other, at once if its time has come.
func (k *keeper) noLonger() {
	if k.outlast {
		k.outlast = false
		k.guard()
	}
}

func (k *keeper) renew() {
	k.check()
	if k.fenced || k.closed {
		return
	}
	m, sent, alive := k.m, k.m.clock(), false
	if m.busy > 0 { // the loop does not answer
		k.unheard++
		m.after(ttl/15, k.renew)
		return
	}
	m.request(renewing, func() { alive = m.w.store.renew(k.id) }, func(lost, failed bool) {
		k.check()
		if k.outlasts() && !k.closed && !lost && !failed && !k.sure() {
			m.w.count(Outlasted)
		}
		switch {
		case k.fenced || k.closed:
		case lost || failed:
			k.unheard++
			m.after(ttl/15, k.renew)
		case !alive:
			k.gone()
		default:
			k.unheard = 0
			k.deadline = max(k.deadline, safeUntil(sent))
			m.after(max(0, sent+ttl/5-m.clock()), k.renew)
		}
	})
}

// guard fences the lease when its time has come. Each answered keepalive puts that off.
func (k *keeper) guard() {
	k.check()
	if !k.fenced && !k.closed && !k.outlast {
		k.m.atClock(k.deadline-fenceLead, k.guard)
	}
}

func (k *keeper) check() {
	if k.m.clock() >= k.deadline-fenceLead && !k.outlasts() {
		k.fence()
	}
}

func (k *keeper) fence() {
	if k.fenced || k.closed {
		return
	}
	m := k.m
	m.w.Tracef("%s: lease %d is fenced", m.name, k.id)
	m.w.count(Fenced)
	k.fenced = true
	m.after(m.w.UpTo(time.Millisecond), func() { // the loop may have other things to do first
		m.post(func() {
			k.told = true
			m.core.LeaseFenced(m.clock(), k.id)
			m.step()
		})
	})
	if m.clock() >= k.deadline {
		k.dead()
	} else {
		m.atClock(k.deadline, k.dead)
	}
}

// gone fences a lease that etcd does not know any more. Its contexts end at once.
func (k *keeper) gone() {
	k.deadline = min(k.deadline, k.m.clock())
	if k.fenced {
		k.dead()
	} else {
		k.fence()
	}
}

// dead ends the contexts of all that is handled under the lease.
func (k *keeper) dead() {
	k.m.w.Tracef("%s: lease %d is dead", k.m.name, k.id)
	k.ended = true
	for r := range k.m.handlings {
		h := k.m.handlingOf(r)
		if h == nil || h.keeper != k {
			continue
		}
		h.ctxEnded = true
		if c := k.m.calls[r]; c != nil && !c.late {
			c.cut = c.cut || c.a.Kind == core.Terminate && !c.timedOut
			c.end()
		}
	}
}

// noteGone tells the keeper of a write whose lease etcd does not know.
func (m *member) noteGone(a core.Action, res core.WriteResult) {
	if k := m.keeper(a.Lease); res.LeaseGone && k != nil {
		k.gone()
	}
}

// revoke lets go of the lease.
func (k *keeper) revoke() {
	m := k.m
	m.checkNothingOn(k)
	k.closed, k.told = true, true
	m.request(revoking, func() { m.w.store.revoke(k.id) }, func(bool, bool) {})
}

// loseLease revokes a lease of the member, as somebody does by hand.
func (m *member) loseLease() bool {
	for _, k := range m.keepers {
		if m.w.store.leases[k.id].alive {
			m.w.store.revokeByHand(k.id)
			return true
		}
	}
	return false
}
