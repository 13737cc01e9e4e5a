package core

import (
	"fmt"
	"math"
	"time"
)

// claim sends a claim. There must be a lease with room for it.
func (c *Core) claim(r *resource) {
	l := c.room()
	l.keys++
	c.counts.claims++
	r.phase, r.told.since = claiming, c.now
	r.claim.lease, r.claim.conclusive = l.id, c.now >= r.certainAt
	c.listWithClaim(r)
	c.emit(Action{Kind: Claim, Shard: r.sh.number, ID: r.id, Lease: l.id, Since: c.now})
}

// ClaimDone says what became of a Claim.
func (c *Core) ClaimDone(now time.Duration, number int, id string, res WriteResult) {
	r := c.find(now, number, id)
	if r == nil || r.phase != claiming {
		return
	}
	c.endClaiming(r)
	c.counts.claims--
	lease := r.claim.lease
	if res.Applied {
		r.claim.answered()
		c.pace.answered(now - r.told.since)
		r.setClaim(res.Revision, lease)
		c.endRetry(r.sh, r.id)
		r.seeClaim(res.Revision, lease, res.Revision) // no effect if the watch was faster and showed the claim's end
		c.reconcile(r)
		return
	}
	c.unlist(r, lease)
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
	c.counts.releases--
	if res.errored() {
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

// offer notes that a resource was released to its next owner. The shard is followed until the next owner is seen to
// claim it, so that this member terminates no more than the others can claim: nobody handles what waits in their
// queues.
func (c *Core) offer(r *resource) {
	if c.cfg.Handover <= 0 || !r.claimed() || !r.seen.wanted || r.sh.owns(r.id) || r.seen.token != 0 ||
		r.claim.offered != 0 {
		return
	}
	r.claim.offered = c.now + c.cfg.Handover
	c.counts.offers++
	c.wakeAt(r, r.claim.offered)
}

// endOffer ends an offer that somebody took, that nobody took in time, or that means nothing any more.
func (c *Core) endOffer(r *resource) {
	taken, late := r.seen.token != 0, c.now >= r.claim.offered
	switch {
	case r.claim.offered == 0:
		return
	case !taken && !late && r.seen.wanted && !r.sh.owns(r.id):
		c.wakeAt(r, r.claim.offered) // again, since an earlier timer may have replaced the one that offer has set
		return
	}
	r.claim.offered = 0
	c.counts.offers--
	c.timed(r, taken || !late)
	c.untaken = late && !taken
}

// retryLater makes the next claim or release wait, longer with each failure.
func (c *Core) retryLater(r *resource) {
	r.claim.failures = min(r.claim.failures, math.MaxUint16-1) + 1
	r.claim.writeAfter = c.now + c.backoff(r.claim.failures, c.cfg.RetryMin, c.cfg.RetryMax)
}

// CallDone says how a call ended. It is also called for a call that was given up (CallStuck), if that ever returns.
func (c *Core) CallDone(now time.Duration, number int, id string, out Outcome, message string) {
	r := c.find(now, number, id)
	if r == nil {
		return
	}
	if r.handling.stuck { // the call was given up, and has returned after all
		r.handling.stuck = false
		c.counts.stuck--
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
		if out != OK || r.handling.cancelled || r.handling.broken {
			r.handling.dirty = true // nobody knows which data the handler has: terminate and handle anew
		}
	case callingTerminate:
		c.terminateDone(r, out, message)
	}
	if h := &r.handling; h.lapsed && h.started && r.claimed() &&
		(call == callingUpdate || !h.dirty && !c.isVoid(r)) {
		c.lapse(r)
	}
	c.reconcile(r)
}

// endCall takes r out of the calls in progress, and returns which call it was.
func (c *Core) endCall(r *resource) (call phase) {
	call = r.phase
	if call == callingTerminate {
		c.counts.terminates--
		if r.counted.tardy {
			r.counted.tardy = false
			c.counts.tardy--
		}
	} else {
		c.counts.handles--
		c.returned(r)
	}
	r.phase = idle
	c.endNote(r)
	return call
}

// handleDone takes note of how a call of Handle ended.
func (c *Core) handleDone(r *resource, out Outcome, message string) {
	switch {
	case out == Refused: // Handle was not called
		r.handling.dirty = r.handling.started // what it should have replaced is still there
		if !r.handling.cancelled {
			c.fence(r.claim.lease)
		}
	case r.handling.cancelled || out == Cut:
		// Whatever Handle returned, the handler may have the resource, under a context that has ended.
		r.handling.leaveDirty()
	case out == OK && r.handling.broken: // it failed before the core heard that Handle returned
		r.handling.leaveDirty()
		c.broke(r, r.told.err)
	case out == OK:
		r.handling.started = true
		r.handling.retryHandleAtOnce()
		if !r.handling.ailing { // an ailing one failed before the core heard that Handle returned
			c.setState(r, StateActive, "")
		}
	default:
		// Terminate follows a Handle that panicked, timed out, was cut off, or may have started something in spite of
		// its error.
		r.handling.started = out != Error
		r.handling.dirty = r.handling.started
		c.handleFailed(r, message)
	}
}

// handleFailed takes note of a failure of Handle. If the data have changed meanwhile, it does not count, because the
// new data get all of their attempts.
func (c *Core) handleFailed(r *resource, message string) {
	if r.isUpToDate() {
		r.handling.handleFailures = min(r.handling.handleFailures, math.MaxUint16-1) + 1
		r.handling.handleAfter = c.now + c.backoff(r.handling.handleFailures, c.cfg.Backoff, c.cfg.BackoffMax)
	}
	c.setState(r, StateFailed, message)
	if c.cfg.MoveAfter > 0 && int(r.handling.handleFailures) >= c.cfg.MoveAfter {
		c.giveAway(r, message)
	}
}

// giveAway asks for another member that takes the resource, since it does not work here.
func (c *Core) giveAway(r *resource, why string) {
	if !c.alone && !c.stopping && r.seen.wanted && r.sh.owns(r.id) && !c.isVoid(r) {
		c.emit(Action{Kind: GiveAway, Shard: r.sh.number, ID: r.id, Token: r.claim.token, Err: why})
	}
}

// terminateDone takes note of how a call of Terminate ended. If the end of its lease cut the call off, another one
// follows, which no lease can cut off.
func (c *Core) terminateDone(r *resource, out Outcome, message string) {
	if out == Cut {
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
	if r.handling.handleFailures == 0 { // if Handle failed, the claim goes on saying so
		c.setState(r, StateClaimed, "")
	}
}

// CallStuck says that a call was given up: its context ended long ago, and it has not returned. Another call may take
// its place. The resource gets no other call before CallDone says that this one has returned after all.
func (c *Core) CallStuck(now time.Duration, number int, id string, message string) {
	r := c.find(now, number, id)
	if r == nil || !r.phase.isCall() {
		return
	}
	call := c.endCall(r)
	r.handling.stuck = true
	c.counts.stuck++
	// When the call returns, Terminate follows, because the call may have left something. It does not follow a
	// Terminate that was given up, unless the policy holds the claim.
	r.handling.started = call != callingTerminate || c.cfg.HoldUntilTerminated
	r.handling.dirty = r.handling.started
	if call == callingHandle {
		c.handleFailed(r, message)
	} else {
		c.setState(r, StateFailed, message)
	}
	if c.cfg.MoveAfter > 0 && !c.cfg.HoldUntilTerminated { // nothing more can be done here before the call returns
		c.giveAway(r, message)
	}
	c.reconcile(r)
}

// CallRuns says that a call in progress takes long; message says since when it runs. Until the call ends, the claim's
// key has that message, together with the error of the try before. Nothing else follows from it.
func (c *Core) CallRuns(now time.Duration, number int, id string, message string) {
	r := c.find(now, number, id)
	if r == nil || !r.phase.isCall() || !r.claimed() {
		return
	}
	c.note(r, message)
	c.reconcile(r)
}

// note makes the claim's key have a message until the outcome of a call is written, together with the error of the try
// before.
func (c *Core) note(r *resource, message string) {
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
	r.told.mustWrite()
}

// endNote notes that the claim's key must no longer say that a call takes long.
func (c *Core) endNote(r *resource) {
	if _, noted := c.notes[r]; noted {
		delete(c.notes, r)
		r.told.unsaved = true
	}
}

// CallFailing says that a call in progress has failed. The claim's key says so at once. The call goes on until the
// handler has been told of the failure, which may take long too; then CallDone follows.
func (c *Core) CallFailing(now time.Duration, number int, id string, message string) {
	r := c.find(now, number, id)
	if r == nil || r.handling.cancelled {
		return // the failure of a call that was cancelled says nothing about the resource
	}
	if r.phase != callingHandle && !(r.phase == callingTerminate && c.holdsUntilTerminated(r)) {
		return // the failure of another call does not make the claim say failed
	}
	c.endNote(r)
	c.setState(r, StateFailed, message)
	c.reconcile(r)
}

// setState sets the state and the error that the claim's key must have. reconcile writes them.
func (c *Core) setState(r *resource, s State, message string) {
	if r.told.state != s || r.told.err != message {
		if b := r.counted.bundle; b != nil && r.told.plain && s == StateActive {
			b.within = max(b.within, c.now-r.told.since)
		}
		r.told.state, r.told.err, r.told.since, r.told.unsaved = s, message, c.now, true
	}
}

// writeState queues r if its state must be written now.
func (c *Core) writeState(r *resource) {
	if c.stateIsDue(r) {
		c.states.push(r, c.now)
	}
}

// stateIsDue says whether the state of r must be written to its claim's key now.
func (c *Core) stateIsDue(r *resource) bool {
	if r.claimed() && r.told.writing == 0 && r.seen.token == r.claim.token && r.seen.lease != r.claim.lease {
		r.told.mustWrite() // somebody has overwritten the claim by hand, and it must not outlive this member's lease
	}
	if !r.told.unsaved && !r.told.uncertain || r.told.writing != 0 {
		return false
	}
	if !r.claimed() || r.phase == releasing || c.isVoid(r) {
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

// pumpStates writes states, as far as there is room for them. Claims and releases go first: they decide whether a
// member handles a resource at all, while states are for people. A state for which a summary may soon stand, together
// with others, waits for the answers to the states that are on their way.
func (c *Core) pumpStates() {
	gathering := c.states.under > 0
	for c.states.under < c.cfg.WriteBacklog && c.states.waiting() > 0 {
		if until := c.states.since + c.stateDelay(); c.now < until {
			c.wake(until)
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

// stateDelay is how long states let claims and releases go first: up to Config.StateDelay if there are many of those,
// and not at all if there are only a few. In between it is a hundredth of that; so it is if many states have come at
// once, as in a takeover, since then other members have claims to write too.
func (c *Core) stateDelay() time.Duration {
	const few, manyStates = 8, 64
	switch first := c.counts.claims + c.counts.releases + c.claims.waiting(); {
	case first >= max(1, c.cfg.WriteBacklog/64):
		return c.cfg.StateDelay
	case first >= few || c.states.waiting() >= manyStates:
		return c.cfg.StateDelay / 100
	}
	return 0
}

// sendState writes the state of r to its claim's key.
func (c *Core) sendState(r *resource) {
	c.states.under++
	r.told.sent(r.claim.token, c.now >= r.certainAt)
	c.countForSummary(r)
	c.emit(Action{
		Kind: WriteState, Shard: r.sh.number, ID: r.id, Token: r.claim.token, Lease: r.claim.lease,
		State: r.told.state, Since: r.told.since, Err: c.says(r),
	})
}

// says returns the text that the claim's key must have: that a call takes long, or else the last failure.
func (c *Core) says(r *resource) string {
	if note, noted := c.notes[r]; noted {
		return note
	}
	return r.told.err
}

// endWriting notes that no state of r is on its way any more, or that its answer makes no difference.
func (c *Core) endWriting(r *resource) {
	if r.told.writing != 0 {
		r.told.writing = 0
		c.states.under--
	}
}

// StateDone says what became of a WriteState to the claim with that token.
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
		r.told.unsaved = true // if it was applied after all, writing it again does no harm
		r.told.after = now + c.backoff(1, c.cfg.RetryMin, c.cfg.RetryMax)
	default:
		r.seeClaim(res.FoundToken, res.FoundLease, res.Revision)
	}
	c.reconcile(r)
}
