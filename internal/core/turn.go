package core

import "fmt"

// waitsToBegin says where a resource waits for Handle or Update. What it needs before the call may begin comes in this
// order: its key is known, its budget admits it, what accuses it lets it begin, etcd's trail lists it, and its budget
// has a token.
func (c *Core) waitsToBegin(r *resource, s step) queueID {
	b := c.budgets
	if s == doUpdate {
		b = nil // only Handle is bounded
	}
	if b != nil && b.ration(r).gen != r.seen.dataGen {
		return keyQueue
	}
	begin := handleQueue
	if b != nil {
		begin = budgetQueue
	}
	if !c.keepsTrails() {
		return begin
	}
	untold := r.counted.line == unlisted || r.counted.line == young && !c.isListed(r)
	switch isolated := c.isolation.r == r && c.isolation.begun; {
	case isolated && !c.isolation.returned:
		begin = isolatedQueue
	case isolated: // nothing begins until it has survived, not even it
		return isolateQueue
	case s == doHandle:
		n := c.suspicion(r)
		_, onProbation := c.probation[r]
		suspected := n > 0 && !onProbation
		switch {
		case c.isAlone(r, n):
			return isolateQueue
		case b != nil && !b.rations[r].admitted: // also if the trail lists it still, or ever more would be listed
			return admitQueue
		case suspected:
			return suspectQueue
		}
	}
	switch {
	case untold:
		return freshQueue
	case r.counted.line == toList || r.counted.line == listing:
		return listedQueue
	}
	return begin
}

// await makes a resource wait for Handle or Update in the queue that waitsToBegin names.
func (c *Core) await(r *resource, s step) {
	if s == doHandle && len(r.sh.accusers) > 0 {
		c.judgeCrowd(r)
	}
	to, b := c.waitsToBegin(r, s), c.budgets
	switch {
	case to == isolateQueue:
		c.noteReason(r, fmt.Sprintf("Handle waits for its turn: it is called alone, since %d members have died while "+
			"it ran or soon after", c.suspicion(r)))
	case b != nil && s == doHandle:
		c.noteBudget(r, b.ration(r))
	}
	switch to {
	case keyQueue:
		c.age(r)
		b.awaitKey(r)
	case admitQueue:
		c.ageInQueue(r)
		b.await(&b.admit, r, c.now)
	case suspectQueue, isolateQueue, freshQueue:
		if b != nil && to == isolateQueue { // that may take long, and needs no admission
			b.expel(b.ration(r), c.now)
		}
		c.ageInQueue(r)
		c.queueOf(to).push(r)
	case listedQueue: // its trail's write brings it on
		r.queued = listedQueue
	case budgetQueue:
		c.isAhead(r)
		b.await(&b.begin, r, c.now)
	default:
		c.isAhead(r)
		c.queueOf(to).push(r)
	}
}

// noteReason makes the claim's key say what a Handle waits for, until the outcome of that Handle is written.
func (c *Core) noteReason(r *resource, reason string) {
	if _, noted := c.notes[r]; !noted && r.claimed() {
		c.note(r, reason)
	}
}

// queueOf returns the queue with an id, of those in which Handle and Update wait.
func (c *Core) queueOf(id queueID) *queue {
	switch id {
	case suspectQueue:
		return &c.suspects
	case isolateQueue:
		return &c.isolate
	case freshQueue:
		return &c.fresh
	case isolatedQueue:
		return &c.isolated
	default:
		return &c.handles
	}
}

// ageInQueue notes that a resource waits for something before the trail lists it.
func (c *Core) ageInQueue(r *resource) {
	c.age(r)
	if r.counted.line == young && !c.isListed(r) {
		c.strike(c.trailOf(r), r)
		c.leaveIsolation(r)
	}
}

// isAhead notes that a resource which the trail lists is about to begin.
func (c *Core) isAhead(r *resource) {
	if c.keepsTrails() && !r.counted.line.isAhead() {
		c.setLine(r, listed)
	}
}

// belongsIn says whether a resource, by what is known now, waits in a queue of those for Handle and Update.
func (c *Core) belongsIn(r *resource, id queueID) bool {
	if r.sh == nil || r.phase != idle {
		return false
	}
	d := c.decide(r)
	return d.step.begins() && c.waitsToBegin(r, d.step) == id
}

// stillWaits says whether a resource that was taken out of a queue belongs there. If not, it goes where it belongs.
func (c *Core) stillWaits(r *resource, from queueID) bool {
	belongs := c.belongsIn(r, from)
	if !belongs && r.phase == idle {
		c.reconcile(r)
	}
	return belongs
}
