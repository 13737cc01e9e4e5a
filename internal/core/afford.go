package core

import "time"

// affords says whether the budget of a resource has a token; if not, when it may have one, as far as known.
func (c *Core) affords(r *resource) (at time.Duration, ok bool) {
	b := c.budgets
	if b == nil {
		return 0, true
	}
	l := b.laneOf(&b.begin, r)
	if l == nil || l.barred {
		return c.now + time.Second, false
	}
	w := max(wait(l.limiter, c.now), wait(b.begin.limiter, c.now))
	return c.now + w, w == 0
}

// keyHasToken says whether the key of a resource is known and has a token.
func (c *Core) keyHasToken(r *resource) bool {
	b := c.budgets
	if b == nil {
		return true
	}
	q := b.ration(r)
	if q.gen != r.seen.dataGen {
		return false
	}
	l := &q.budget.begin
	return !l.barred && wait(l.limiter, c.now) == 0
}

// reserves says whether the last token of a lane is kept for the resource that is to be handled alone. If others took
// it, nothing else in this member could begin while that resource waited for the next one.
func (c *Core) reserves(l *lane) bool {
	i := &c.isolation
	if i.r == nil || i.begun && i.returned || i.token == 0 && !i.writing {
		return false
	}
	q := c.budgets.rations[i.r]
	if q == nil || q.budget == nil || l != &q.budget.admit && l != &q.budget.begin {
		return false
	}
	tokens := q.budget.begin.limiter
	return tokens != nil && tokens.TokensAt(moment(c.now)) < 2
}

// nextIsolated returns the resource that is handled alone, if its Handle may begin now.
func (c *Core) nextIsolated() *resource {
	for r := c.isolated.first(); r != nil; r = c.isolated.first() {
		if !c.belongsIn(r, isolatedQueue) { // it may have gone away, and must not keep the next one waiting
			c.reconcile(c.isolated.pop())
			continue
		}
		if !c.keyHasToken(r) { // its key or the share has changed
			c.isolated.pop()
			c.age(r)
			c.leaveIsolation(r)
			c.reconcile(r)
			c.wake(c.now) // the key that allows it is given back
			continue
		}
		if b := c.budgets; b != nil {
			at, ok := c.affords(r)
			if !ok {
				c.wake(at)
				return nil
			}
			for _, g := range []*gate{&b.admit, &b.begin} {
				take(c.now, g.limiter, b.laneOf(g, r).limiter)
			}
		}
		return c.isolated.pop()
	}
	return nil
}
