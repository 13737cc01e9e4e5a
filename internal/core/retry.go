package core

import "time"

// RetryKey is the key of an operator's order to try a resource again, as an event tells it.
type RetryKey struct {
	ID          string
	ModRevision int64 // tells one order from the next
}

// retry is an order to try a resource again whose key is there.
type retry struct {
	mod    int64
	obeyed bool // this member has done what it asks for, and has had the key deleted
}

// ListRetries replaces what is known of a shard's orders to try resources again. It is called after Snapshot, so that
// the claims are known.
func (c *Core) ListRetries(now time.Duration, number int, orders []RetryKey) {
	sh := c.at(now, number)
	if sh == nil || len(orders)+len(sh.retries) == 0 {
		return
	}
	before := sh.retries
	sh.retries = make(map[string]*retry, len(orders))
	for _, k := range orders {
		o := before[k.ID]
		if o == nil || o.mod != k.ModRevision {
			o = &retry{mod: k.ModRevision}
		}
		sh.retries[k.ID] = o
		c.retry(sh, k.ID, o)
	}
}

// RetryPut says that an order's key was put.
func (c *Core) RetryPut(now time.Duration, number int, k RetryKey) {
	sh := c.at(now, number)
	if sh == nil {
		return
	}
	if sh.retries == nil {
		sh.retries = map[string]*retry{}
	}
	o := &retry{mod: k.ModRevision}
	sh.retries[k.ID] = o
	c.retry(sh, k.ID, o)
}

// RetryDeleted says that an order's key was deleted, or has expired, at a revision.
func (c *Core) RetryDeleted(now time.Duration, number int, id string, revision int64) {
	if sh := c.at(now, number); sh != nil && sh.retries[id] != nil && sh.retries[id].mod <= revision {
		delete(sh.retries, id)
	}
}

// retry obeys an order, if it is about what this member has to do. Only the member that has the claim knows how often
// Handle has failed, and how long it waits because of that. Where nobody has the claim there is nothing to do: whoever
// claims the resource tries at once. While another member has the claim the order waits: that member may obey it, or be
// of a version that does not know of such orders.
func (c *Core) retry(sh *shard, id string, o *retry) {
	r := sh.byID[id]
	switch {
	case o.obeyed:
		return
	case r != nil && r.claimed():
		c.tryAtOnce(r)
	case !sh.owns(id) || r != nil && r.seen.token != 0:
		return
	}
	c.endRetry(sh, id)
}

// tryAtOnce ends the pause after a failure, and begins to count failures anew. It leaves alone what works, and what a
// call is trying just now.
func (c *Core) tryAtOnce(r *resource) {
	h := &r.handling
	switch {
	case h.stuck || r.phase == callingHandle || r.phase == callingUpdate:
		return
	case r.phase != callingTerminate && h.terminateFailures > 0: // in progress, terminateAt says when it began
		h.terminateFailures, h.terminateAt = 0, 0
	case h.handleFailures == 0:
		return
	}
	h.retryHandleAtOnce()
	delete(c.relapses, r)
	c.reconcile(r)
}

// endRetry has the key of an order deleted that this member has obeyed, or that its claim has come after: the first try
// under a claim waits for nothing.
func (c *Core) endRetry(sh *shard, id string) {
	if o := sh.retries[id]; o != nil && !o.obeyed {
		o.obeyed = true
		c.emit(Action{Kind: DeleteRetry, Shard: sh.number, ID: id, Token: o.mod})
	}
}
