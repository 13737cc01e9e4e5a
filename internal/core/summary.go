package core

import (
	"slices"
	"time"
)

// bundle is what this member has of one shard on one lease. When all of it is handled, one key says so, the bundle's summary,
// instead of each claim: that those which say claimed, and were written last at a revision or before, are active. What happens
// to a claim afterwards is written to the claim itself, at a later revision, and counts there.
//
// So a summary is never wrong about a claim that was not in the bundle when it was written; which ones were must be known for
// sure: none of the shard may be on its way, or have got no answer.
type bundle struct {
	lease     int64
	claims    int           // of resources
	pending   int           // of them: those that are not active, or failed for all to see
	ready     int           // of them: those that are active, and only a summary or a state would tell
	within    time.Duration // how long after it was claimed any of them became active
	through   int64         // of the summary that etcd has, as far as known; 0: it has none
	rev       int64         // the revision at which that was so; older news is ignored
	writing   int64         // through of the summary that is on its way, or deleting; 0: none is
	uncertain bool          // one got no answer: it may be there unknown, or still appear until settleAt
	certainAt time.Duration //
	after     time.Duration // none is written or deleted before
	armed     time.Duration // the timer for that
}

// deleting is what group.writing is while the summary is being deleted.
const deleting = -1

// tally says how a resource is counted in its group, besides in claims.
type tally uint8

const (
	neither tally = iota
	pending
	ready
)

// findBundle returns the group of a lease; nil where there is none.
func (sh *shard) findBundle(lease int64) *bundle {
	for _, g := range sh.bundles {
		if g.lease == lease {
			return g
		}
	}
	return nil
}

// bundle returns the bundle of a lease, made if need be.
func (sh *shard) bundle(lease int64) *bundle {
	g := sh.findBundle(lease)
	if g == nil {
		g = &bundle{lease: lease}
		sh.bundles = append(sh.bundles, g)
	}
	return g
}

// count keeps the counts that say when a summary can be written.
func (c *Core) count(r *resource) {
	if unseen := r.phase == claiming || c.mayAppear(r); unseen != r.counted.unseen {
		r.counted.unseen = unseen
		if unseen {
			r.sh.unseen++
		} else {
			r.sh.unseen--
		}
	}
	g, t := r.standing()
	if g == r.counted.bundle && t == r.counted.tally {
		return
	}
	old := r.counted.bundle
	old.add(r.counted.tally, -1)
	r.counted.bundle, r.counted.tally = g, t
	g.add(t, 1)
	if old != nil && old != g {
		c.prune(r.sh, old)
	}
}

// mayAppear says whether a claim of r may be there, or still appear, that is not known. While another one is held none can
// be there, and after settleAt none can appear.
func (c *Core) mayAppear(r *resource) bool {
	if !r.claim.uncertain || !r.claimed() || r.gone() {
		return r.claim.uncertain
	}
	if c.now >= r.certainAt {
		return false
	}
	c.wakeAt(r, r.certainAt)
	return true
}

// standing says how a resource is to be counted.
func (r *resource) standing() (*bundle, tally) {
	if !r.claimed() {
		return nil, neither
	}
	g := r.counted.bundle
	if g == nil || g.lease != r.claim.lease {
		g = r.sh.bundle(r.claim.lease)
	}
	switch {
	case r.told.state == StateActive && r.told.plain && r.told.unsaved:
		return g, ready
	case r.told.state == StateClaimed, r.told.state == StateFailed && (r.told.unsaved || r.told.writing != 0 || r.told.uncertain):
		return g, pending
	}
	return g, neither
}

func (g *bundle) add(t tally, n int) {
	if g == nil {
		return
	}
	g.claims += n
	switch t {
	case pending:
		g.pending += n
	case ready:
		g.ready += n
	case neither:
	}
}

// prune forgets a group that is empty, and whose lease is at its end, and the summary with it.
func (c *Core) prune(sh *shard, g *bundle) {
	if l := c.leases[g.lease]; g.claims > 0 || g.writing != 0 || l != nil && !l.fenced {
		return
	}
	if i := slices.Index(sh.bundles, g); i >= 0 {
		sh.bundles = slices.Delete(sh.bundles, i, i+1)
	}
}

// canSummarize says whether a summary can stand for the state of r, which is to be written, and is worth it.
func (c *Core) canSummarize(r *resource) bool {
	g := r.counted.bundle
	return r.counted.tally == ready && g.ready >= c.cfg.SummaryLeast && g.writing == 0 && c.now >= g.after &&
		g.pending == 0 && r.sh.unseen == 0
}

// mayBeSummarized says whether a summary cannot stand for the state of r, and could if more of its group were handled.
func (c *Core) mayBeSummarized(r *resource) bool {
	g := r.counted.bundle
	return r.sh != nil && r.counted.tally == ready && g.ready+g.pending >= c.cfg.SummaryLeast && !c.canSummarize(r)
}

// covers says whether a summary is what tells the state of r, or can be.
func (g *bundle) covers(r *resource) bool {
	return r.counted.bundle == g && r.told.plain && r.told.state == StateActive
}

// summarize has the summary of a group written.
func (c *Core) summarize(sh *shard, g *bundle) {
	a := Action{Kind: WriteSummary, Shard: sh.number, Lease: g.lease, Within: g.within}
	for _, r := range sh.list {
		if g.covers(r) {
			a.Token = max(a.Token, r.claim.token)
			r.told.unsaved = false
			c.count(r)
		}
	}
	g.writing = a.Token
	c.states.under++
	c.emit(a)
}

// SummaryDone says what became of a WriteSummary with that Token, or, where it is 0, of a DeleteSummary.
func (c *Core) SummaryDone(now time.Duration, number int, lease, through int64, res WriteResult) {
	sh := c.at(now, number)
	if sh == nil {
		return
	}
	g := sh.findBundle(lease)
	switch {
	case g == nil || g.writing == 0:
		return
	case g.writing == deleting:
		if through != 0 {
			return
		}
		g.writing = 0
		if res.Applied {
			g.see(0, res.Revision)
			g.uncertain = false
		} else {
			g.after = now + c.backoff(1, c.cfg.RetryMin, c.cfg.RetryMax)
		}
	case g.writing == through:
		g.writing = 0
		c.states.under--
		switch {
		case res.Applied:
			g.see(through, res.Revision)
		case res.LeaseGone:
			c.fence(lease)
		default:
			g.after = now + c.backoff(1, c.cfg.RetryMin, c.cfg.RetryMax)
		}
		if res.Unknown {
			g.uncertain, g.certainAt = true, now+c.cfg.UncertainFor
		}
		c.uncover(sh, g)
	}
	c.prune(sh, g)
	c.unwatchIfDone(sh)
}

// SummaryPut says that a summary's key is this now.
func (c *Core) SummaryPut(now time.Duration, number int, k SummaryKey) {
	c.seeSummary(now, number, k.Lease, k.Through, k.ModRevision)
}

// SummaryDeleted says that the summary of a lease was deleted, or expired, at a revision.
func (c *Core) SummaryDeleted(now time.Duration, number int, lease, revision int64) {
	c.seeSummary(now, number, lease, 0, revision)
}

// seeSummary takes over what etcd said of a summary, if it is one of this member's.
func (c *Core) seeSummary(now time.Duration, number int, lease, through, revision int64) {
	if sh := c.at(now, number); sh != nil && c.leases[lease] != nil {
		g := sh.bundle(lease)
		g.see(through, revision)
		c.uncover(sh, g)
		c.unwatchIfDone(sh)
	}
}

// listSummaries takes over which summaries there are.
func (c *Core) listSummaries(sh *shard, revision int64, list []SummaryKey) {
	there := make(map[int64]int64, len(list))
	for _, k := range list {
		if there[k.Lease] = k.Through; c.leases[k.Lease] != nil {
			sh.bundle(k.Lease)
		}
	}
	for _, g := range slices.Clone(sh.bundles) { // some of them may be forgotten on the way
		g.see(there[g.lease], revision)
		c.uncover(sh, g)
		c.prune(sh, g)
	}
}

func (g *bundle) see(through, revision int64) {
	if revision >= g.rev {
		g.through, g.rev = through, revision
	}
}

// uncover has that told again of which the summary was to tell, and does not.
func (c *Core) uncover(sh *shard, g *bundle) {
	if g.writing != 0 {
		return // its answer leads here
	}
	sh.each(func(r *resource) {
		if g.covers(r) && !r.told.unsaved && r.claim.token > g.through {
			r.told.unsaved, r.told.after = true, max(r.told.after, g.after)
			c.reconcile(r)
		}
	})
}

// isLeaving says whether something of the summary is on its way, or it is too early to delete it.
func (c *Core) isLeaving(g *bundle) bool {
	return g.writing != 0 || (g.through != 0 || g.uncertain) && c.now < max(g.after, g.certainAt)
}

// clearSummaries deletes what was said of a shard that is to be followed no longer, and says whether that is done. At the end
// the leases go, and take it along.
func (c *Core) clearSummaries(sh *shard) bool {
	done := true
	for _, g := range sh.bundles {
		l := c.leases[g.lease]
		switch {
		case c.stopping || l == nil || l.fenced:
			if g.writing > 0 {
				c.states.under--
			}
			g.writing = 0
		case c.isLeaving(g):
			if at := max(g.after, g.certainAt); g.writing == 0 && g.armed != at {
				g.armed = at
				c.timers.addShard(sh, at)
			}
			done = false
		case g.through != 0 || g.uncertain:
			g.writing, done = deleting, false
			c.emit(Action{Kind: DeleteSummary, Shard: sh.number, Lease: g.lease})
		}
	}
	return done
}
