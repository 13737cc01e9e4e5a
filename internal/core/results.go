package core

import (
	"fmt"
	"math"
	"time"
)

// claim sends a claim. There is a lease with room for it.
func (c *Core) claim(r *resource) {
	l := c.room()
	l.keys++
	c.claiming++
	r.phase, r.claim.lease, r.claim.conclusive, r.told.since = claiming, l.id, c.now >= r.certainAt, c.now
	c.emit(Action{Kind: Claim, Shard: r.sh.number, ID: r.id, Lease: l.id, Since: c.now})
}

// ClaimDone says what became of a Claim.
func (c *Core) ClaimDone(now time.Duration, number int, id string, res WriteResult) {
	r := c.find(now, number, id)
	if r == nil || r.phase != claiming {
		return
	}
	r.phase = idle
	c.claiming--
	lease := r.claim.lease
	if res.Applied {
		r.claim.answered()
		c.pace.answered(now - r.told.since)
		r.setClaim(res.Revision, lease)
		r.seeClaim(res.Revision, lease, res.Revision) // the watch may have been faster, and have told of the claim's end already
		c.reconcile(r)
		return
	}
	r.claim.lease = 0
	switch {
	case res.LeaseGone:
		c.fence(lease)
	case res.Unknown:
		r.claim.uncertain, r.certainAt = true, now+c.cfg.UncertainFor
		c.retryLater(r)
	case res.Failed:
		c.retryLater(r)
	default:
		r.claim.answered()
		r.seeClaim(res.FoundToken, res.FoundLease, res.Revision)
	}
	c.leaveLease(lease)
	c.reconcile(r)
}

// ReleaseDone says what became of a Release.
func (c *Core) ReleaseDone(now time.Duration, number int, id string, res WriteResult) {
	r := c.find(now, number, id)
	if r == nil || r.phase != releasing {
		return
	}
	r.phase = idle
	c.releases--
	if res.Unknown || res.Failed || res.LeaseGone {
		c.timed(r, false)
		r.claim.doomed = r.claimed() && (r.claim.doomed || res.Unknown)
		c.retryLater(r)
		c.reconcile(r)
		return
	}
	r.claim.answered()
	if c.pace.timed == r {
		c.pace.answered(now - c.pace.sent)
	}
	if res.Applied {
		r.seeClaim(0, 0, res.Revision)
		c.offer(r)
	} else {
		r.seeClaim(res.FoundToken, res.FoundLease, res.Revision)
	}
	if r.claim.offered == 0 {
		c.timed(r, true)
	}
	c.reconcile(r)
}

// offer notes that a resource is on its way to its next owner. The shard is followed until that one is seen to claim it:
// were more terminated than the others claim, the rest would be handled by nobody while it waits in their queue.
func (c *Core) offer(r *resource) {
	if c.cfg.Handover <= 0 || !r.claimed() || !r.seen.wanted || r.sh.owned || r.seen.token != 0 || r.claim.offered != 0 {
		return
	}
	r.claim.offered = c.now + c.cfg.Handover
	c.offers++
	c.wakeAt(r, r.claim.offered)
}

// endOffer looks whether an offer was taken, or is over.
func (c *Core) endOffer(r *resource) {
	taken, late := r.seen.token != 0, c.now >= r.claim.offered
	switch {
	case r.claim.offered == 0:
		return
	case !taken && !late && r.seen.wanted && !r.sh.owned:
		c.wakeAt(r, r.claim.offered) // again: an earlier timer may have taken its place
		return
	}
	r.claim.offered = 0
	c.offers--
	c.timed(r, taken || !late)
	c.untaken = late && !taken
}

func (c *Core) retryLater(r *resource) {
	r.claim.failures = min(r.claim.failures, math.MaxUint16-1) + 1
	r.claim.writeAfter = c.now + c.backoff(r.claim.failures, c.cfg.RetryMin, c.cfg.RetryMax)
}

// CallDone says how a call ended. A call that CallStuck was told of ends with this too, if it ever does.
func (c *Core) CallDone(now time.Duration, number int, id string, out Outcome, message string) {
	r := c.find(now, number, id)
	if r == nil {
		return
	}
	if r.handling.stuck { // a call that was given up came back
		r.handling.stuck = false
		c.stuck--
		c.reconcile(r)
		return
	}
	if !r.phase.isCall() {
		return
	}
	call := c.endCall(r)
	switch call {
	case callingHandle:
		c.handleDone(r, out, message)
	case callingUpdate:
		if out == Refused && !r.handling.cancelled {
			c.fence(r.claim.lease)
		}
		if out != OK || r.handling.cancelled { // it may have the new data or not: terminate and handle anew
			r.handling.dirty = true
		}
	case callingTerminate:
		c.terminateDone(r, out, message)
	}
	c.reconcile(r)
}

// endCall takes r out of the calls in progress, and returns which call it was.
func (c *Core) endCall(r *resource) (call phase) {
	call = r.phase
	if call == callingTerminate {
		c.ending--
		if r.counted.tardy {
			r.counted.tardy = false
			c.tardy--
		}
	} else {
		c.handling--
	}
	r.phase = idle
	c.endNote(r)
	return call
}

func (c *Core) handleDone(r *resource, out Outcome, message string) {
	switch {
	case out == Refused && r.handling.cancelled: // it was not called, and why is known
	case out == Refused:
		c.fence(r.claim.lease)
	case r.handling.cancelled || out == Cut: // whatever it returned, the handler may have it, under a context that has ended
		r.handling.leaveDirty()
	case out == OK:
		r.handling.started = true
		r.handling.retryHandleAtOnce()
		if !r.handling.ailing { // else it failed as soon as it was started
			c.setState(r, StateActive, "")
		}
	default:
		// Terminate follows a Handle that panicked, timed out, was cut off, or may have begun in spite of its error.
		r.handling.started = out != Error
		r.handling.dirty = r.handling.started
		c.handleFailed(r, message)
	}
}

func (c *Core) handleFailed(r *resource, message string) {
	if r.isUpToDate() { // else it failed with data that have changed since: the new ones have all their attempts
		r.handling.handleFailures = min(r.handling.handleFailures, math.MaxUint16-1) + 1
		r.handling.handleAfter = c.now + c.backoff(r.handling.handleFailures, c.cfg.Backoff, c.cfg.BackoffMax)
	}
	c.setState(r, StateFailed, message)
}

func (c *Core) terminateDone(r *resource, out Outcome, message string) {
	if out == Cut { // the next one has its time: nothing is left that could end it
		r.handling.dirty = true
		c.fence(r.claim.lease)
		return
	}
	if out != OK && c.holdsUntilTerminated(r) {
		r.handling.dirty = true
		r.handling.terminateFailures = min(r.handling.terminateFailures, math.MaxUint16-1) + 1
		r.handling.terminateAt = c.now + c.backoff(r.handling.terminateFailures, c.cfg.Backoff, c.cfg.BackoffMax)
		c.setState(r, StateFailed, message)
		return
	}
	r.handling.end()
	if r.handling.handleFailures == 0 { // else it is failed still
		c.setState(r, StateClaimed, "")
	}
}

// CallStuck says that a call was given up: its context ended long ago and it has not returned. Its place is free for
// others; the resource is not called again before CallDone tells that it returned after all.
func (c *Core) CallStuck(now time.Duration, number int, id string, message string) {
	r := c.find(now, number, id)
	if r == nil || !r.phase.isCall() {
		return
	}
	call := c.endCall(r)
	r.handling.stuck = true
	c.stuck++
	// What is left to clean up when it returns: a Terminate that was let go of has had its chance.
	r.handling.started = call != callingTerminate || c.cfg.HoldUntilTerminated
	r.handling.dirty = r.handling.started
	if call == callingHandle {
		c.handleFailed(r, message)
	} else {
		c.setState(r, StateFailed, message)
	}
	c.reconcile(r)
}

// CallRuns says of a call in progress that takes long since when it runs. The claim's key says so, and what came of the try
// before, until the call ends; nothing else follows from it.
func (c *Core) CallRuns(now time.Duration, number int, id string, message string) {
	r := c.find(now, number, id)
	if r == nil || !r.phase.isCall() || !r.claimed() {
		return
	}
	tries := r.handling.handleFailures
	if r.phase == callingTerminate {
		tries = r.handling.terminateFailures
	}
	switch {
	case r.told.err == "":
	case tries > 0 && r.phase != callingUpdate:
		message = fmt.Sprintf("%s; try %d; the last one: %s", message, int(tries)+1, r.told.err)
	default:
		message += "; before that: " + r.told.err
	}
	c.notes[r] = message
	r.told.mustWrite() // a summary cannot say it
	c.reconcile(r)
}

// endNote has the claim's key say no longer that a call takes long.
func (c *Core) endNote(r *resource) {
	if _, noted := c.notes[r]; noted {
		delete(c.notes, r)
		r.told.unsaved = true
	}
}

// CallFailing says of a call in progress that it has failed already: what is left of it is to tell the handler so, which may
// take its time too. CallDone is to follow. The claim's key says it at once.
func (c *Core) CallFailing(now time.Duration, number int, id string, message string) {
	r := c.find(now, number, id)
	if r == nil || !r.phase.isCall() || r.handling.cancelled || r.phase == callingUpdate || r.phase == callingTerminate && !c.holdsUntilTerminated(r) {
		return // its end does not make it failed
	}
	c.endNote(r)
	c.setState(r, StateFailed, message)
	c.reconcile(r)
}

// Reported says how the handler finds what it started to be doing: OK, or not. Only the claim's state follows from it; what
// belongs to whom, and which calls are due, does not.
func (c *Core) Reported(now time.Duration, number int, id string, out Outcome, message string) {
	r := c.find(now, number, id)
	handing := r != nil && r.phase == callingHandle
	if r == nil || r.handling.stuck || !handing && !c.isHandled(r) {
		return // it ends, or has ended: what is said of it then is older than that
	}
	r.handling.ailing = out != OK
	switch {
	case r.handling.ailing:
		c.setState(r, StateFailed, message)
	case !handing: // else its end tells
		c.setState(r, StateActive, "")
	}
	c.reconcile(r)
}

// setState notes what the claim's key should say; reconcile has it written.
func (c *Core) setState(r *resource, s State, message string) {
	if r.told.state != s || r.told.err != message {
		if g := r.counted.bundle; g != nil && r.told.plain && s == StateActive {
			g.within = max(g.within, c.now-r.told.since)
		}
		r.told.state, r.told.err, r.told.since, r.told.unsaved = s, message, c.now, true
	}
}

// writeState has what is unsaved written.
func (c *Core) writeState(r *resource) {
	if c.stateIsDue(r) {
		c.states.push(r, c.now)
	}
}

// stateIsDue says whether what the claim's key says is to be written now.
func (c *Core) stateIsDue(r *resource) bool {
	if r.claimed() && r.told.writing == 0 && r.seen.token == r.claim.token && r.seen.lease != r.claim.lease {
		r.told.mustWrite() // somebody has overwritten it by hand: it must not outlive its lease
	}
	if !r.told.unsaved && !r.told.uncertain || r.told.writing != 0 || !r.claimed() || r.phase == releasing || c.isVoid(r) {
		return false
	}
	after := r.told.after
	if !r.told.unsaved {
		after = r.certainAt
	}
	if c.now < after {
		c.wakeAt(r, after)
		return false
	}
	return true
}

// pumpStates writes states, while there is room for them. Claims and releases go first: what waits for those is that
// somebody handles a resource at all, and a state only tells of it. But not for ever. A state that may go in a summary with
// others soon waits for the answer to those that are on their way.
func (c *Core) pumpStates() {
	few, gathering := max(1, c.cfg.WriteBacklog/64), c.states.under > 0
	for c.states.under < c.cfg.WriteBacklog && c.states.waiting() > 0 {
		if c.claiming+c.releases+c.claims.waiting() >= few && c.now-c.states.since < c.cfg.StateDelay {
			return
		}
		if gathering && c.mayBeSummarized(c.states.first()) {
			return
		}
		switch r := c.states.pop(); {
		case r.sh == nil || !c.stateIsDue(r):
		case c.canSummarize(r):
			c.summarize(r.sh, r.counted.bundle)
		default:
			c.sendState(r)
		}
	}
}

func (c *Core) sendState(r *resource) {
	c.states.under++
	r.told.writing, r.told.unsaved, r.told.plain, r.told.uncertain = r.claim.token, false, false, r.told.uncertain && c.now < r.certainAt
	c.count(r)
	c.emit(Action{Kind: WriteState, Shard: r.sh.number, ID: r.id, Token: r.claim.token, Lease: r.claim.lease, State: r.told.state, Since: r.told.since, Err: c.says(r)})
}

// says is the text that the claim's key is to have: of a call that takes long, or of the last failure.
func (c *Core) says(r *resource) string {
	if note, noted := c.notes[r]; noted {
		return note
	}
	return r.told.err
}

// endWriting notes that nobody waits for a state of r to be written.
func (c *Core) endWriting(r *resource) {
	if r.told.writing != 0 {
		r.told.writing = 0
		c.states.under--
	}
}

// StateDone says what became of a WriteState of the claim with that token.
func (c *Core) StateDone(now time.Duration, number int, id string, token int64, res WriteResult) {
	r := c.find(now, number, id)
	if r == nil || r.told.writing != token {
		return
	}
	c.endWriting(r)
	switch {
	case r.claim.token != token:
	case res.Applied:
		r.seeClaim(token, r.claim.lease, res.Revision)
	case res.LeaseGone:
		c.fence(r.claim.lease)
	case res.Unknown || res.Failed:
		if res.Unknown {
			r.told.uncertain, r.certainAt = true, now+c.cfg.UncertainFor
		}
		r.told.unsaved = true // also if it was applied: writing it again does no harm
		r.told.after = now + c.backoff(1, c.cfg.RetryMin, c.cfg.RetryMax)
	default:
		r.seeClaim(res.FoundToken, res.FoundLease, res.Revision)
	}
	c.reconcile(r)
}
