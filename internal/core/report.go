package core

import (
	"math"
	"time"
)

// Reported takes a report of the handler about what it started: OK if that goes on, another Outcome if it has failed.
// Only what the claim's key says depends on reports. Which member owns the resource, and which calls are due, does not.
func (c *Core) Reported(now time.Duration, number int, id string, out Outcome, message string) {
	r := c.find(now, number, id)
	if r == nil || !c.isGoingOn(r) {
		return // the handling is ending, or has ended: the report comes too late
	}
	r.handling.ailing = out != OK
	switch {
	case r.handling.ailing:
		c.setState(r, StateFailed, message)
	case r.phase != callingHandle: // while Handle is in progress, its outcome decides
		c.setState(r, StateActive, "")
	}
	c.reconcile(r)
}

// isGoingOn says whether the handler has the resource, or is about to, and nothing has ended that.
func (c *Core) isGoingOn(r *resource) bool {
	return !r.handling.stuck && (r.phase == callingHandle || c.isHandled(r))
}

// Takes says whether a report about the resource would be taken: the handler has it, or is about to.
func (c *Core) Takes(number int, id string) bool {
	r := c.find(c.now, number, id)
	return r != nil && c.isGoingOn(r)
}

// Broke says that what the handler started no longer works, and cannot help itself. It is terminated, and handled again
// after a pause, under the same claim. The pause grows while it goes on to break soon after it was handled again.
func (c *Core) Broke(now time.Duration, number int, id string, message string) {
	r := c.find(now, number, id)
	if r == nil || !c.isGoingOn(r) || r.handling.broken {
		return
	}
	if r.phase.isCall() { // the outcome of the call decides when Terminate may follow
		r.handling.broken = true
		if r.phase == callingUpdate {
			c.broke(r, message)
		} else {
			c.setState(r, StateFailed, message)
		}
	} else {
		r.handling.dirty = true
		c.broke(r, message)
	}
	c.reconcile(r)
}

// broke counts a failure of what Handle has begun, as if Handle had failed that often in a row.
func (c *Core) broke(r *resource, message string) {
	before := c.relapses[r]
	if r.told.state == StateActive && c.now-r.told.since >= c.cfg.BackoffMax {
		before = 0
	}
	r.handling.handleFailures = before
	c.relapses[r] = min(before, math.MaxUint16-1) + 1
	c.handleFailed(r, message)
}

// Lapsed says that what the handler started is gone with the process that had it. It is handled again at once, in its
// turn, under the same claim, without Terminate. If the claim has to end before that turn comes, Terminate is called
// after all: where nothing told that the process has ended but somebody's word, something of it may be left.
func (c *Core) Lapsed(now time.Duration, number int, id string) {
	r := c.find(now, number, id)
	if r == nil || r.handling.stuck || r.phase == callingTerminate {
		return
	}
	if r.phase == callingHandle || r.phase == callingUpdate {
		r.handling.lapsed = true // the outcome of the call decides whether there is anything that has lapsed
		return
	}
	if r.handling.started && r.claimed() && !r.handling.awaitsHandle() {
		c.lapse(r)
		c.reconcile(r)
	}
}

// lapse makes Handle replace what the handler has of a resource.
func (c *Core) lapse(r *resource) {
	c.emit(Action{Kind: Cancel, Shard: r.sh.number, ID: r.id, Token: r.handling.token, Cause: Gone})
	r.handling.lapse()
	r.handling.retryHandleAtOnce()
	c.setState(r, StateClaimed, "")
}

// Doubt says that what the handler started may be gone with the process that had it, and nobody knows. It is
// terminated, and handled again at once, under the same claim. No call may be in progress.
func (c *Core) Doubt(now time.Duration, number int, id string) {
	r := c.find(now, number, id)
	if r == nil || r.handling.stuck || r.phase.isCall() || !r.handling.started || !r.claimed() {
		return
	}
	r.handling.dirty = true
	c.setState(r, StateClaimed, "")
	c.reconcile(r)
}

// RetryHandles ends the pauses of all resources whose Handle has failed, and forgets how often it has failed: what they
// failed for may have passed.
func (c *Core) RetryHandles(now time.Duration) {
	c.now = now
	for r := range c.resources() {
		if r.handling.handleFailures > 0 {
			r.handling.retryHandleAtOnce()
			delete(c.relapses, r)
			c.reconcile(r)
		}
	}
}
