package core

import "time"

// leaseState is what is known of one of this member's leases.
type leaseState struct {
	id     int64
	keys   int           // how many claims are on it, or on their way to it
	fenced bool          // everything on it must end
	empty  time.Duration // since when it has had no claims
	timed  bool          // a timer is set that will check whether it is still empty
}

// room returns a lease that a claim can go to. If there is none it returns nil, and has asked for a lease with
// NeedLease.
func (c *Core) room() *leaseState {
	if l := c.fill; l != nil && !l.fenced && l.keys < c.cfg.KeysPerLease {
		return l
	}
	c.fill = nil
	for _, l := range c.leases { // take the fullest one that has room, so that few leases are needed
		if !l.fenced && l.keys < c.cfg.KeysPerLease &&
			(c.fill == nil || l.keys > c.fill.keys || l.keys == c.fill.keys && l.id < c.fill.id) {
			c.fill = l
		}
	}
	if c.fill == nil && !c.asked {
		c.asked = true
		c.emit(Action{Kind: NeedLease})
	}
	return c.fill
}

// LeaseReady says that a lease was granted.
func (c *Core) LeaseReady(now time.Duration, id int64) {
	c.now = now
	c.asked = false
	l := &leaseState{id: id}
	c.ceiling.lease(id)
	c.leases[id] = l // pump sends the claims that have waited for a lease
	c.emptied(l)
}

// LeaseFenced says that a lease is so near its deadline that everything on it must end, or that etcd does not know it.
// This is final: claims go to other leases from now on.
func (c *Core) LeaseFenced(now time.Duration, id int64) {
	c.now = now
	c.fence(id)
}

// fence ends everything on a lease.
func (c *Core) fence(id int64) {
	l := c.leases[id]
	if l == nil || l.fenced {
		return
	}
	l.fenced = true
	if c.fill == l {
		c.fill = nil
	}
	for _, sh := range c.shards {
		if sh == nil {
			continue
		}
		c.unwatchIfDone(sh) // a summary on the lease no longer has to be deleted
		if sh.busy == 0 {
			continue
		}
		sh.each(func(r *resource) {
			if r.claim.lease == id || r.seen.lease == id {
				c.reconcile(r)
			}
		})
	}
	c.retire(l)
}

// leaveLease takes note that a claim has left its lease.
func (c *Core) leaveLease(lease int64) {
	if l := c.leases[lease]; l != nil {
		l.keys--
		c.retire(l)
		c.emptied(l)
	}
}

// emptied sets a timer to look at a lease again when no claim has been on it for LeaseIdle. Claims come and go, so the
// lease is kept that long, and longer if no other lease could take new claims. But a member that once had a million
// claims must not renew all their leases for ever.
func (c *Core) emptied(l *leaseState) {
	if l.keys > 0 || l.fenced || c.cfg.LeaseIdle <= 0 {
		return
	}
	if l.empty = c.now; !l.timed {
		l.timed = true
		c.timers.addLease(l, c.now+c.cfg.LeaseIdle)
	}
}

// giveBack revokes a lease that has been empty for LeaseIdle, if another one has room. Only claims whose answers were
// lost can be on it then. Nobody handles those, and nothing is started under them any more, so they may go with the
// lease.
func (c *Core) giveBack(l *leaseState) {
	l.timed = false
	if l.keys > 0 || l.fenced || c.leases[l.id] != l {
		return // emptied sets the timer again
	}
	at := l.empty + c.cfg.LeaseIdle
	if c.now >= at {
		at = c.now + c.cfg.LeaseIdle
		for _, other := range c.leases {
			if other != l && !other.fenced && other.keys < c.cfg.KeysPerLease {
				c.revoke(l)
				return
			}
		}
	}
	l.timed = true
	c.timers.addLease(l, at)
}

// revoke gives up an empty lease that is not fenced, with the summaries that may be left on it.
func (c *Core) revoke(l *leaseState) {
	if c.fill == l {
		c.fill = nil
	}
	delete(c.leases, l.id)
	c.emit(Action{Kind: Revoke, Lease: l.id})
	for _, sh := range c.shards {
		if sh == nil {
			continue
		}
		if b := sh.findBundle(l.id); b != nil {
			c.prune(sh, b)
		}
		if sh.busy > 0 {
			sh.each(func(r *resource) {
				if r.seen.lease == l.id {
					c.reconcile(r)
				}
			})
		}
		c.unwatchIfDone(sh) // a summary on the lease no longer has to be deleted
	}
}

// retire revokes a fenced lease once this member has no claim on it any more, so that others can claim at once what
// is left on it in etcd, and not only when it expires.
func (c *Core) retire(l *leaseState) {
	if l.fenced && l.keys == 0 && c.leases[l.id] == l {
		delete(c.leases, l.id)
		c.emit(Action{Kind: Revoke, Lease: l.id})
	}
}
