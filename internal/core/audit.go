package core

import (
	"fmt"
	"slices"
)

// Audit counts again what a Core counts as it goes, looks for resources whose next step was forgotten, and returns the
// first thing that is wrong. Tests and the simulation call it after each step; it costs a pass over everything known.
func (c *Core) Audit() error {
	keys := map[int64]int{}
	engaged := 0
	var handling, ending, tardy, claims, releases, states, stuck, offers int
	for n, sh := range c.shards {
		if sh == nil {
			continue
		}
		if sh.number != n || len(sh.list) != len(sh.byID) {
			return fmt.Errorf("shard %d: number %d, %d in the list, %d in the map", n, sh.number, len(sh.list), len(sh.byID))
		}
		busy, seen, unseen := 0, 0, 0
		for i, r := range sh.list {
			if int(r.index) != i || r.sh != sh || sh.byID[r.id] != r {
				return fmt.Errorf("resource %q is not where it should be", r.id)
			}
			if r.counted.busy != r.isBusy(c) {
				return fmt.Errorf("resource %q: busy is %v", r.id, r.counted.busy)
			}
			if !r.counted.busy && !r.seen.wanted && r.seen.token == 0 {
				return fmt.Errorf("resource %q is kept for nothing", r.id)
			}
			if err := c.auditStep(r); err != nil {
				return err
			}
			if r.counted.busy {
				busy++
			}
			if r.seen.token != 0 {
				seen++
			}
			if r.handling.stuck {
				stuck++
			}
			if r.isEngaged() {
				engaged++
			}
			if r.claim.offered != 0 {
				if r.timerAt == 0 || r.timerAt > r.claim.offered {
					return fmt.Errorf("resource %q: nothing will end its offer", r.id)
				}
				offers++
			}
			switch {
			case r.phase == callingTerminate:
				ending++
				if r.counted.tardy {
					tardy++
				}
			case r.phase.isCall():
				handling++
			case r.phase == claiming:
				claims++
			case r.phase == releasing:
				releases++
			}
			if r.told.writing != 0 {
				states++
			}
			if g, t := r.standing(); g != r.counted.bundle || t != r.counted.tally {
				return fmt.Errorf("resource %q is counted as %v of group %+v, want %v of %+v", r.id, r.counted.tally, r.counted.bundle, t, g)
			}
			if r.counted.unseen {
				unseen++
			}
			if r.claimed() || r.phase == claiming {
				keys[r.claim.lease]++
			}
		}
		if busy != sh.busy || seen != sh.claims {
			return fmt.Errorf("shard %d: %d busy, %d claims; counted %d, %d", n, busy, seen, sh.busy, sh.claims)
		}
		writing, err := sh.auditBundles(unseen)
		if err != nil {
			return err
		}
		states += writing
		if busy == 0 && !sh.owned && !slices.ContainsFunc(sh.bundles, c.isLeaving) {
			return fmt.Errorf("shard %d is followed for nothing", n)
		}
	}
	if tardy != c.tardy {
		return fmt.Errorf("%d calls of Terminate have taken long; counted %d", tardy, c.tardy)
	}
	if handling != c.handling || ending != c.ending || releases != c.releases || stuck != c.stuck || offers != c.offers {
		return fmt.Errorf("in progress: handling %d, ending %d, releases %d, stuck %d, offers %d; counted %d, %d, %d, %d, %d",
			handling, ending, releases, stuck, offers, c.handling, c.ending, c.releases, c.stuck, c.offers)
	}
	if claims != c.claiming || states != c.states.under || max(claims, c.states.under) > c.cfg.WriteBacklog {
		return fmt.Errorf("on their way: %d claims, %d states; counted %d, %d, and %d of each are allowed", claims, states, c.claiming, c.states.under, c.cfg.WriteBacklog)
	}
	if c.claims.first() != nil && c.claiming < c.cfg.WriteBacklog && !c.asked && len(c.out) == 0 {
		return fmt.Errorf("claims wait for nothing")
	}
	if engaged != c.engaged {
		return fmt.Errorf("%d resources are engaged, counted %d", engaged, c.engaged)
	}
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

// auditStep says whether what a resource needs next is under way, or something will come back to it.
func (c *Core) auditStep(r *resource) error {
	if r.phase != idle || r.timerAt != 0 && r.timerAt <= c.now { // under way, or due at the next Tick
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
		ok = r.queued == c.queueFor(r, d.step).id
	default:
	}
	if !ok {
		return fmt.Errorf("resource %q: step %d is due, and nothing is going to take it", r.id, d.step)
	}
	return nil
}

// auditBundles counts again what is counted of groups, and returns how many summaries are on their way.
func (sh *shard) auditBundles(unseen int) (writing int, err error) {
	if unseen != sh.unseen {
		return 0, fmt.Errorf("shard %d: %d resources may have a claim that is not seen, counted %d", sh.number, unseen, sh.unseen)
	}
	count := map[*bundle]bundle{}
	for _, r := range sh.list {
		if r.counted.bundle != nil {
			n := count[r.counted.bundle]
			n.add(r.counted.tally, 1)
			count[r.counted.bundle] = n
		}
	}
	for _, g := range sh.bundles {
		n := count[g]
		delete(count, g)
		if n.claims != g.claims || n.pending != g.pending || n.ready != g.ready {
			return 0, fmt.Errorf("shard %d: a group has %+v, counted %+v", sh.number, n, *g)
		}
		if g.writing > 0 {
			writing++
		}
	}
	if len(count) > 0 {
		return 0, fmt.Errorf("shard %d: %d groups are not known", sh.number, len(count))
	}
	return writing, nil
}
