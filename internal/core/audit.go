package core

import (
	"errors"
	"fmt"
	"slices"
)

// Audit compares every count that a Core keeps with a new one, looks for resources whose next step was forgotten, and
// returns the first thing that is wrong. Tests and the simulation call it after each step. It goes through everything
// that is known.
func (c *Core) Audit() error {
	a := recount{keys: map[int64]int{}}
	for n, sh := range c.shards {
		if sh == nil {
			continue
		}
		if sh.number != n || len(sh.list) != len(sh.byID) {
			return fmt.Errorf("shard %d: number %d, %d in the list, %d in the map",
				n, sh.number, len(sh.list), len(sh.byID))
		}
		if err := c.auditShard(sh, &a); err != nil {
			return err
		}
	}
	if a.counts != c.counts {
		return fmt.Errorf("there are %+v; counted %+v", a.counts, c.counts)
	}
	if states := c.states.under; a.states != states || max(a.counts.claims, a.states) > c.cfg.WriteBacklog {
		return fmt.Errorf("on their way: %d claims, %d states; counted %d states, and %d of each are allowed",
			a.counts.claims, a.states, states, c.cfg.WriteBacklog)
	}
	if c.claims.first() != nil && c.counts.claims < c.cfg.WriteBacklog && !c.asked && len(c.out) == 0 {
		return fmt.Errorf("claims wait for nothing")
	}
	if g := c.ceiling; g != nil && g.fresh.first() != nil && g.used < g.most &&
		c.counts.claims < c.cfg.WriteBacklog && !c.asked && len(c.out) == 0 {
		return fmt.Errorf("claims wait for nothing, and there is room")
	}
	if err := errors.Join(c.budgets.audit(), c.ceiling.audit(a.room)); err != nil {
		return err
	}
	for r := range c.crowd.of {
		if r.sh == nil || !r.claimed() {
			return fmt.Errorf("resource %q is in a crowd, and has no claim", r.id)
		}
	}
	if t := &c.trails; a.trails != t.open || a.ahead != t.ahead || a.claiming != t.claiming {
		return fmt.Errorf("%d trails have %d resources that are to begin, and %d to claim; counted %d, %d, %d",
			a.trails, a.ahead, a.claiming, t.open, t.ahead, t.claiming)
	}
	return c.auditLeases(a.keys)
}

// recount is the result of Audit's count.
type recount struct {
	counts   counts
	states   int           // states and summaries on their way
	room     int           // resources that take room
	keys     map[int64]int // claims by lease
	trails   int
	ahead    int // resources that trails list, and that have a claim and have not begun
	claiming int // resources that trails list whose claims are on their way
}

// auditShard checks a shard and its resources, and adds them to a.
func (c *Core) auditShard(sh *shard, a *recount) error {
	busy, seen, unseen := 0, 0, 0
	for i, r := range sh.list {
		if int(r.index) != i || r.sh != sh || sh.byID[r.id] != r {
			return fmt.Errorf("resource %q is not where it should be", r.id)
		}
		if err := c.auditResource(r); err != nil {
			return err
		}
		if r.counted.busy {
			busy++
		}
		if r.seen.token != 0 {
			seen++
		}
		if r.counted.unseen {
			unseen++
		}
		a.add(r)
		if c.ceiling != nil && c.ceiling.takesRoom(r) {
			a.room++
		}
	}
	if busy != sh.busy || seen != sh.claims {
		return fmt.Errorf("shard %d: %d busy, %d claims; counted %d, %d", sh.number, busy, seen, sh.busy, sh.claims)
	}
	writing, err := sh.auditBundles(unseen)
	if err != nil {
		return err
	}
	a.states += writing
	if err := c.auditTrails(sh, a); err != nil {
		return err
	}
	needed := func(b *bundle) bool { return c.isLeaving(b) || b.trail != nil }
	if busy == 0 && !sh.isWanted() && !slices.ContainsFunc(sh.bundles, needed) {
		return fmt.Errorf("shard %d is followed for nothing", sh.number)
	}
	return nil
}

// auditResource checks one resource.
func (c *Core) auditResource(r *resource) error {
	if r.counted.busy != r.isBusy(c) {
		return fmt.Errorf("resource %q: busy is %v", r.id, r.counted.busy)
	}
	if !r.counted.busy && !r.seen.wanted && r.seen.token == 0 {
		return fmt.Errorf("resource %q is kept for nothing", r.id)
	}
	if err := c.auditStep(r); err != nil {
		return err
	}
	if r.claim.offered != 0 && (r.timerAt == 0 || r.timerAt > r.claim.offered) {
		return fmt.Errorf("resource %q: nothing will end its offer", r.id)
	}
	if b, t := r.standing(); b != r.counted.bundle || t != r.counted.tally {
		return fmt.Errorf("resource %q is counted as %v of bundle %+v, want %v of %+v",
			r.id, r.counted.tally, r.counted.bundle, t, b)
	}
	return nil
}

// add counts a resource.
func (a *recount) add(r *resource) {
	n := &a.counts
	if r.handling.stuck {
		n.stuck++
	}
	if r.isEngaged() {
		n.engaged++
	}
	if r.claim.offered != 0 {
		n.offers++
	}
	if r.counted.tardy {
		n.tardy++
	}
	switch r.phase {
	case idle:
	case claiming:
		n.claims++
	case releasing:
		n.releases++
	case callingHandle, callingUpdate:
		n.handles++
	case callingTerminate:
		n.terminates++
	}
	if r.told.writing != 0 {
		a.states++
	}
	switch {
	case !r.counted.line.isAhead():
	case r.phase == claiming:
		a.claiming++
	default:
		a.ahead++
	}
	if r.claimed() || r.phase == claiming {
		a.keys[r.claim.lease]++
	}
}

// auditLeases checks the leases, given how many claims are on each.
func (c *Core) auditLeases(keys map[int64]int) error {
	for id, l := range c.leases {
		if l.keys != keys[id] {
			return fmt.Errorf("lease %d: %d claims, counted %d", id, keys[id], l.keys)
		}
		if l.keys == 0 && !l.fenced && !l.timed && c.cfg.LeaseIdle > 0 {
			return fmt.Errorf("lease %d is empty, and nothing will look at it again", id)
		}
		if l.fenced && l.keys == 0 {
			return fmt.Errorf("lease %d is fenced and empty, and not revoked", id)
		}
	}
	return nil
}

// auditStep checks that the next step of a resource is under way, or that something will come back to it.
func (c *Core) auditStep(r *resource) error {
	if r.phase != idle || r.timerAt != 0 && r.timerAt <= c.now { // a step is under way, or due at the next Tick
		return nil
	}
	d := c.decide(r)
	ok := false
	switch d.step {
	case nothing:
		ok = true
	case doWait:
		ok = r.timerAt != 0 && r.timerAt <= d.until
	case doClaim, doHandle, doUpdate, doTerminate:
		ok = r.queued == c.waitsIn(r, d.step)
	default:
	}
	if !ok {
		return fmt.Errorf("resource %q: step %d is due, and nothing is going to take it", r.id, d.step)
	}
	return nil
}

// auditBundles compares the counts of the shard's bundles with new ones, and returns how many summaries are on their
// way.
func (sh *shard) auditBundles(unseen int) (writing int, err error) {
	if unseen != sh.unseen {
		return 0, fmt.Errorf("shard %d: %d resources may have a claim that is not seen, counted %d",
			sh.number, unseen, sh.unseen)
	}
	count := map[*bundle]bundle{}
	for _, r := range sh.list {
		if r.counted.bundle != nil {
			n := count[r.counted.bundle]
			n.add(r.counted.tally, 1)
			count[r.counted.bundle] = n
		}
	}
	for _, b := range sh.bundles {
		n := count[b]
		delete(count, b)
		if n.claims != b.claims || n.pending != b.pending || n.ready != b.ready {
			return 0, fmt.Errorf("shard %d: a bundle has %+v, counted %+v", sh.number, n, *b)
		}
		if b.writing > 0 {
			writing++
		}
	}
	if len(count) > 0 {
		return 0, fmt.Errorf("shard %d: %d bundles are not known", sh.number, len(count))
	}
	return writing, nil
}

// auditTrails checks the trails of a shard, and counts them in a.
func (c *Core) auditTrails(sh *shard, a *recount) error {
	on := map[*resource]int{}
	for _, b := range sh.bundles {
		t := b.trail
		if t == nil {
			continue
		}
		a.trails++
		bytes, dropped := 0, 0
		for _, r := range t.lines {
			if !t.has(r) {
				dropped++
				continue
			}
			on[r]++
			bytes += len(r.id)
		}
		switch {
		case dropped != t.dropped || bytes != t.bytes:
			return fmt.Errorf("shard %d: a trail has %d dropped lines and %d bytes, counted %d, %d",
				sh.number, dropped, bytes, t.dropped, t.bytes)
		case (t.isEmpty() || t.stale) && !t.writing && !t.touched && c.now >= t.after && c.now >= t.certainAt:
			return fmt.Errorf("shard %d: a trail has to be written, and nothing will do it", sh.number)
		}
	}
	for _, r := range sh.list {
		if want := min(int(r.counted.line), 1); on[r] != want {
			return fmt.Errorf("resource %q is on %d lines of trails, want %d", r.id, on[r], want)
		}
		if call := r.phase == callingHandle || r.phase == callingUpdate; c.keepsTrails() &&
			call != (r.counted.line == running) {
			return fmt.Errorf("resource %q: a call is in progress: %v, and its line is %d", r.id, call, r.counted.line)
		}
	}
	return c.auditAccusers(sh)
}

// auditAccusers checks what is counted of other members' trails.
func (c *Core) auditAccusers(sh *shard) error {
	for _, a := range sh.accusers {
		claims := 0
		for _, r := range sh.list {
			if r.seen.token != 0 && r.seen.lease == a.lease {
				claims++
			}
		}
		if claims != a.claims {
			return fmt.Errorf("shard %d: %d claims on the lease of a trail, counted %d", sh.number, claims, a.claims)
		}
	}
	return nil
}
