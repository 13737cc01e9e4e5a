package core

import "time"

// trails is what the core knows of all its trails together, and of how long calls of Handle and Update take.
type trails struct {
	open     int // how many there are
	ahead    int // how many resources they list that have a claim, and have not begun
	claiming int // how many resources they list whose claim is on its way

	busy  time.Duration // how long calls have taken, all together
	calls int           // how many calls these were
	at    time.Duration // up to when busy counts
}

// pass counts the time that n calls have run until now.
func (t *trails) pass(now time.Duration, n int) {
	t.busy += time.Duration(n) * (now - t.at)
	t.at = now
}

// returned counts a call that has returned. Old calls weigh less and less.
func (t *trails) returned() {
	const most = 2048
	if t.calls++; t.calls > most {
		t.calls, t.busy = t.calls/2, t.busy/2
	}
}

const (
	// soon is how long it may take, about, until something begins that a trail lists.
	soon = 200 * time.Millisecond
	// mostAhead is how many resources trails list that have not begun, at most.
	mostAhead = 8192
)

// lookAhead is how many resources trails list that have not begun yet, at most: as many as begin soon, by how long
// calls take, and in any case as many as may run at once.
func (c *Core) lookAhead() int {
	n := c.cfg.HandleConcurrency
	if t := &c.trails; t.calls > 0 {
		each := max(t.busy/time.Duration(t.calls), time.Microsecond)
		n = max(n, int(min(time.Duration(n)*soon/each, mostAhead)))
	}
	return n
}

// listWithClaim lists a resource together with its claim, if it will begin about as soon as the claim is there, so that
// no time is lost.
func (c *Core) listWithClaim(r *resource) {
	if c.keepsTrails() && c.budgets == nil && c.trails.claiming < c.lookAhead() && !c.holdsBack() &&
		c.suspicion(r) == 0 && r.sh.quarantines[r.id] == nil {
		c.list(r)
	}
}

// pumpTrails lists what will begin soon, and writes the trails that have to be written.
func (c *Core) pumpTrails() {
	if !c.keepsTrails() {
		return
	}
	c.judgeAll()
	c.judgeAgain()
	c.pumpIsolation()
	if most := c.lookAhead(); c.trails.ahead <= most/2 && !c.holdsBack() && !c.halted {
		c.listFresh(most)
		c.listSuspects(most)
	}
	for len(c.touched) > 0 {
		touched := c.touched
		c.touched = nil
		for _, t := range touched {
			t.touched = false
			c.flush(t)
		}
	}
}

// listFresh lists resources that nobody suspects.
func (c *Core) listFresh(most int) {
	for c.trails.ahead < most {
		r := c.fresh.pop()
		if r == nil {
			return
		}
		if !c.stillWaits(r, freshQueue) {
			continue
		}
		if !c.list(r) {
			c.fresh.push(r)
			return
		}
		r.queued = listedQueue
	}
}

// countAhead counts a resource that the trail lists before it begins, or counts it no more.
func (c *Core) countAhead(r *resource, is bool) {
	n := &c.trails.ahead
	if r.phase == claiming {
		n = &c.trails.claiming
	}
	if is {
		*n++
	} else {
		*n--
	}
}

// endClaiming notes that the claim of r is not on its way any more.
func (c *Core) endClaiming(r *resource) {
	if r.counted.line.isAhead() {
		c.trails.claiming--
		c.trails.ahead++
	}
	r.phase = idle
}
