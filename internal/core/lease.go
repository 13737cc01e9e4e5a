package core

import "time"

type leaseState struct {
	id     int64
	keys   int // claims on it, or on their way to it
	fenced bool
	empty  time.Duration // since when there are none
	timed  bool          // a timer will look whether it is empty still
}

// room returns a lease that a claim can go to; nil where there is none, which NeedLease then asks for.
func (c *Core) room() *leaseState {
	if l := c.fill; l != nil && !l.fenced && l.keys < c.cfg.KeysPerLease {
		return l
	}
	c.fill = nil
	for _, l := range c.leases { // the fullest that has room, so that few leases are needed
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
	c.leases[id] = l // pump does the rest
	c.emptied(l)
}

// LeaseFenced says that a lease is so near its deadline that everything on it must end, or that etcd does not know it.
// It is final: claims go to other leases from now on.
func (c *Core) LeaseFenced(now time.Duration, id int64) {
	c.now = now
	c.fence(id)
}

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
		c.unwatchIfDone(sh) // a summary on the lease need not be deleted any more
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

// leaveLease takes a claim off its lease's count.
func (c *Core) leaveLease(lease int64) {
	if l := c.leases[lease]; l != nil {
		l.keys--
		c.retire(l)
		c.emptied(l)
	}
}

// emptied has a lease looked at again once nothing has been on it for a while. Claims come and go, so it is kept for some
// time, and as long as another one could not take what comes; but a member that had a million claims once must not renew
// the leases of a million for ever.
func (c *Core) emptied(l *leaseState) {
	if l.keys > 0 || l.fenced || c.cfg.LeaseIdle <= 0 {
		return
	}
	if l.empty = c.now; !l.timed {
		l.timed = true
		c.timers.addLease(l, c.now+c.cfg.LeaseIdle)
	}
}

// giveBack revokes a lease that has been empty for LeaseIdle, where another one has room. Nothing of this member's can be on
// it then but claims whose answers were lost, which nobody handles and nothing is begun under any more: they go with it.
func (c *Core) giveBack(l *leaseState) {
	l.timed = false
	if l.keys > 0 || l.fenced || c.leases[l.id] != l {
		return // it is looked at when it is empty the next time
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
		if g := sh.findBundle(l.id); g != nil {
			c.prune(sh, g)
		}
		if sh.busy > 0 {
			sh.each(func(r *resource) {
				if r.seen.lease == l.id {
					c.reconcile(r)
				}
			})
		}
		c.unwatchIfDone(sh) // a summary on the lease need not be deleted any more
	}
}

// retire lets go of a fenced lease once nothing is on it, so that etcd gives its claims away at once and not only when
// it expires.
func (c *Core) retire(l *leaseState) {
	if l.fenced && l.keys == 0 && c.leases[l.id] == l {
		delete(c.leases, l.id)
		c.emit(Action{Kind: Revoke, Lease: l.id})
	}
}
