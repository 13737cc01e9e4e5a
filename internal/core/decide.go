package core

import "time"

// step is the next thing to do for a resource.
type step uint8

const (
	nothing      step = iota
	doClaim           // send a claim
	doAdopt           // take over a claim of this member whose answer was lost, and that etcd has
	doForget          // drop the claim, which is void, since the handler does not have the resource
	doRelease         // send a release
	doProbe           // ask etcd whether a claim whose answer was lost is there
	doHandle          // call Handle
	doUpdate          // call Update
	doTerminate       // call Terminate
	doWait            // look again at a given time
	doQuarantine      // write a record of quarantine
	doTell            // let the claim's key say whether the resource is quarantined
)

// takesTurns says whether the step waits in a queue, since a limit bounds how many of its kind are under way at once.
func (s step) takesTurns() bool {
	return s == doClaim || s == doTerminate || s.begins()
}

// begins says whether the step is a call that begins something: the trail lists the resource before.
func (s step) begins() bool { return s == doHandle || s == doUpdate }

// shouldHandle says whether this member should handle the resource.
func (c *Core) shouldHandle(r *resource) bool {
	return r.sh.owns(r.id) && r.seen.wanted && !r.handling.stuck
}

// isVoid says whether this member's claim can no longer be relied on: its key is gone, or its lease is fenced or gone.
func (c *Core) isVoid(r *resource) bool {
	l := c.leases[r.claim.lease]
	return r.gone() || l == nil || l.fenced
}

// holdsUntilTerminated says whether the policy holds the claim until Terminate has succeeded. Then the claim's lease is
// not revoked when it is fenced: it expires, and the contexts of all that is handled under it have ended by then.
func (c *Core) holdsUntilTerminated(r *resource) bool {
	return c.cfg.HoldUntilTerminated && r.handling.started && r.claimed() && !r.gone()
}

// decision is the next step for a resource.
type decision struct {
	step  step
	cause Cause         // why the claim ends; NoCause if it does not
	until time.Duration // for doWait: when to look again
}

// decide names the next step for a resource that has nothing in progress.
func (c *Core) decide(r *resource) decision {
	if !r.claimed() {
		return c.decideUnclaimed(r)
	}
	cause, has := c.endingCause(r), r.handling.started && !r.handling.awaitsHandle()
	switch {
	case c.holdsUntilTerminated(r) && r.handling.stuck:
		return decision{} // nothing to do until the call returns, or the claim is gone
	case r.handling.started && !r.handling.stuck && (cause != NoCause || r.handling.dirty):
		if cause == NoCause {
			cause = Failure
		}
		if r.gone() {
			return decision{step: doTerminate, cause: cause}
		}
		return c.notBefore(r.handling.terminateAt, decision{step: doTerminate, cause: cause})
	case c.isVoid(r):
		return decision{step: doForget, cause: cause}
	case cause != NoCause || r.claim.doomed:
		return c.notBefore(r.claim.writeAfter, decision{step: doRelease, cause: cause})
	case has && r.isUpToDate():
		return decision{}
	case has && c.cfg.CanUpdate:
		return decision{step: doUpdate}
	case has:
		return c.notBefore(r.handling.terminateAt, decision{step: doTerminate, cause: Changed})
	case c.tellsQuarantine(r):
		return decision{step: doTell}
	case c.isQuarantined(r):
		return decision{}
	case c.isGuilty(r):
		return c.notBefore(r.handling.handleAfter, decision{step: doQuarantine})
	case c.cfg.HandleAttempts > 0 && int(r.handling.handleFailures) >= c.cfg.HandleAttempts:
		return decision{}
	default:
		return c.notBefore(r.handling.handleAfter, decision{step: doHandle})
	}
}

// endingCause says why the claim has to end; NoCause if it has not.
func (c *Core) endingCause(r *resource) Cause {
	switch {
	case r.gone():
		return ClaimLost
	case c.isVoid(r):
		return Fenced
	case c.stopping:
		return Stopped
	case !r.seen.wanted:
		return Removed
	case !r.sh.owns(r.id):
		return Moved
	case r.handling.stuck:
		return Failure
	}
	return NoCause
}

// decideUnclaimed is decide for a resource of which this member has no claim.
func (c *Core) decideUnclaimed(r *resource) decision {
	switch {
	case r.handling.started && !r.handling.stuck: // the claim ended while a call was stuck, which has returned now
		return decision{step: doTerminate, cause: ClaimLost}
	case c.seesOurs(r):
		return decision{step: doAdopt}
	case r.seen.token == 0 && c.shouldHandle(r) && !c.paused:
		return c.notBefore(r.claim.writeAfter, decision{step: doClaim})
	case r.claim.uncertain && !c.stopping:
		// That the watch has not shown the claim yet proves nothing, since it may lag. A member that stops need not
		// ask: if the claim is there, it ends with its lease.
		return c.notBefore(max(r.certainAt, r.claim.writeAfter), decision{step: doProbe})
	}
	return decision{} // another member has the claim, or its lease has ended: an event will tell that it is deleted
}

// seesOurs says whether the claim that etcd was seen to have is on a lease of this member that is not fenced.
func (c *Core) seesOurs(r *resource) bool {
	l := c.leases[r.seen.lease]
	return r.seen.token != 0 && l != nil && !l.fenced
}

// notBefore returns d if the time for it has come, and otherwise the decision to wait until then.
func (c *Core) notBefore(at time.Duration, d decision) decision {
	if c.now < at {
		return decision{step: doWait, cause: d.cause, until: at}
	}
	return d
}

// reconcile takes the next step for r, unless something is in progress, and brings states and counts up to date.
func (c *Core) reconcile(r *resource) {
	if r.sh == nil { // it was dropped, or its shard is no longer followed
		return
	}
	c.endOffer(r)
	switch {
	case r.phase.isCall():
		c.cancelIfEnding(r)
		c.wakeTardy(r)
	case r.phase == idle:
		for c.takeStep(r) {
		}
	}
	c.writeState(r)
	c.account(r)
}

// takeStep takes one step, and reports whether another one may follow at once.
func (c *Core) takeStep(r *resource) bool {
	d := c.decide(r)
	if !d.step.begins() {
		c.age(r)
		c.budgets.dismiss(r, c.now)
	}
	switch d.step {
	case doAdopt:
		c.leases[r.seen.lease].keys++
		r.told.since = c.now
		r.setClaim(r.seen.token, r.seen.lease)
		c.endRetry(r.sh, r.id)
		return true
	case doForget:
		c.forgetClaim(r)
		return true
	case doRelease, doProbe:
		c.unlist(r, r.claim.lease)
		r.phase, r.claim.conclusive = releasing, c.now >= r.certainAt
		c.counts.releases++
		c.timeRelease(r)
		c.emit(Action{Kind: Release, Shard: r.sh.number, ID: r.id, Token: r.claim.token, Lease: r.claim.lease})
	case doQuarantine:
		c.quarantine(r)
	case doTell:
		c.tellQuarantine(r)
		return true
	case doHandle, doUpdate:
		c.await(r, d.step)
	case doClaim:
		c.queueFor(r, d.step).push(r)
	case doTerminate: // the cause may have changed when its turn comes
		if d.cause == ClaimLost {
			c.disown(r) // the context ends now: it must not wait for that turn
		}
		c.queueFor(r, d.step).push(r)
	case doWait:
		c.wakeAt(r, d.until)
	case nothing:
	}
	return false
}

// wakeAt makes Tick look at r again at a given time, at the latest.
func (c *Core) wakeAt(r *resource, at time.Duration) {
	if r.timerAt == 0 || at < r.timerAt {
		r.timerAt = at
		c.timers.add(r, at)
	}
}

// wake makes Tick wake the core up at a given time, at the latest.
func (c *Core) wake(at time.Duration) {
	if c.woken <= c.now || at < c.woken {
		c.woken = at
		c.timers.addWake(at)
	}
}

// cancelIfEnding ends the context of a Handle or Update in progress that must not go on. Unless the claim is lost, it
// cuts off neither a Terminate, nor, with Config.FinishCalls, a call whose outcome the core waits for.
func (c *Core) cancelIfEnding(r *resource) {
	cause := c.endingCause(r)
	if cause == ClaimLost {
		c.disown(r)
		return
	}
	if cause == NoCause || r.phase == callingTerminate || r.handling.cancelled ||
		c.cfg.FinishCalls && !c.hasty {
		return
	}
	r.handling.cancelled = true
	c.emit(Action{Kind: Cancel, Shard: r.sh.number, ID: r.id, Token: r.claim.token, Cause: cause})
}

// disown ends the context of a handling whose claim is lost, whatever is in progress, since another member may have the
// claim already.
func (c *Core) disown(r *resource) {
	if r.handling.disowned {
		return
	}
	r.handling.disowned = true
	if r.phase == callingHandle || r.phase == callingUpdate {
		r.handling.cancelled = true
	}
	c.emit(Action{Kind: Cancel, Shard: r.sh.number, ID: r.id, Token: r.handling.token, Cause: ClaimLost})
}

// account brings the counts that r is in up to date, and drops r if nothing is known of it any more.
func (c *Core) account(r *resource) {
	c.countForSummary(r)
	c.countRoom(r)
	if r.sh.shaken {
		r.sh.shaken = false
		c.judgeLater(r.sh)
	}
	if busy := r.isBusy(c); busy != r.counted.busy {
		r.counted.busy = busy
		if busy {
			r.sh.busy++
		} else {
			r.sh.busy--
		}
	}
	if engaged := r.isEngaged(); engaged != r.counted.engaged {
		r.counted.engaged = engaged
		if engaged {
			c.counts.engaged++
		} else {
			c.counts.engaged--
		}
	}
	if r.counted.busy {
		return
	}
	sh := r.sh
	if !r.seen.wanted && r.seen.token == 0 {
		c.endWriting(r)
		sh.drop(r)
	}
	c.unwatchIfDone(sh)
}

// pump starts calls, claims and writes of states, as far as there is room for them.
func (c *Core) pump() {
	c.pumpKeys()
	for again := true; again; {
		heldBack := c.holdsBack()
		c.admitNext()
		c.pumpTrails()
		r, from := c.next()
		again = r != nil || heldBack && !c.holdsBack()
		for ; r != nil; r, from = c.next() {
			c.begin(r, from)
		}
	}
	c.pumpStates()
}

// next takes the resource whose turn it is out of its queue; nil if nothing waits, or there is no room.
func (c *Core) next() (*resource, queueID) {
	if c.halted {
		return nil, noQueue
	}
	if c.counts.terminates < c.cfg.TerminateConcurrency {
		if r := c.urgent.pop(); r != nil {
			return r, urgentQueue
		}
		if c.mayTerminate() {
			if r := c.terminates.pop(); r != nil {
				return r, terminateQueue
			}
		}
	}
	if c.counts.handles < c.cfg.HandleConcurrency {
		if r, from := c.nextHandle(); r != nil {
			return r, from
		}
	}
	if c.counts.claims < c.cfg.WriteBacklog {
		return c.nextClaim()
	}
	return nil, noQueue
}

// mayTerminate says whether few enough resources are on their way to their next owners for another one to follow.
func (c *Core) mayTerminate() bool {
	under := c.counts.releases + c.counts.terminates
	switch {
	case c.alone:
		return under < c.cfg.WriteBacklog
	case !c.untaken:
		under += c.counts.offers
	}
	return under < c.cfg.ReleaseBacklog && under-c.counts.tardy < c.limit()
}

// waitsIn says which queue a resource waits in for its turn.
func (c *Core) waitsIn(r *resource, s step) queueID {
	if s.begins() {
		return c.waitsToBegin(r, s)
	}
	return c.queueFor(r, s).id
}

// queueFor says where a resource waits for its turn, unless its step begins something.
func (c *Core) queueFor(r *resource, s step) *queue {
	switch {
	case s == doClaim:
		return c.claimQueueFor(r)
	case !r.claimed() || c.isVoid(r): // another member may handle it soon
		return &c.urgent
	}
	return &c.terminates
}

// begin starts the step that r has waited for, if that is still its next step.
func (c *Core) begin(r *resource, from queueID) {
	if r.sh == nil || r.phase != idle {
		return
	}
	d := c.decide(r)
	if !d.step.takesTurns() || c.waitsIn(r, d.step) != from {
		c.reconcile(r)
		return
	}
	if d.step == doClaim {
		c.claim(r)
		c.account(r)
		return
	}
	a := Action{
		Shard: r.sh.number, ID: r.id, Token: r.claim.token, Lease: r.claim.lease, Data: r.seen.data, Cause: d.cause,
	}
	switch d.step {
	case doHandle:
		a.Kind = Handle
		r.phase = callingHandle
		r.handling.begin(r.claim.token, r.seen.dataGen)
		c.begins(r)
		c.counts.handles++
	case doUpdate:
		a.Kind = Update
		r.phase = callingUpdate
		r.handling.dataGen = r.seen.dataGen
		c.begins(r)
		c.counts.handles++
	default:
		a.Kind = Terminate
		a.Token = r.handling.token
		r.phase = callingTerminate
		r.handling.terminateAt = c.now
		c.counts.terminates++
	}
	r.handling.cancelled = false
	if from == terminateQueue {
		c.timeEnd(r)
	}
	c.wakeTardy(r)
	c.emit(a)
	c.account(r)
}

// backoff returns the pause after n failures in a row: least, doubled with each further failure, up to limit. A random
// part of up to a quarter is taken off, so that members that failed together do not try again together.
func (c *Core) backoff(n uint16, least, limit time.Duration) time.Duration {
	d := least
	for ; n > 1 && d < limit; n-- {
		d *= 2
	}
	d = min(d, limit)
	return d - time.Duration(c.cfg.Rand.Int64N(int64(d)/4+1))
}
