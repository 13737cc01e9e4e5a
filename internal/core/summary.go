package core

import (
	"slices"
	"time"
)

// bundle is this member's claims of one shard on one lease: the claims that one summary can stand for. When all of them
// are handled, one key says so, the summary, instead of each claim's own key. The summary says that those claims are
// active which say claimed and were last modified at a given revision (through) or before. What happens to a claim
// afterwards is written to the claim's own key, at a later revision, and the claim's key counts then.
//
// So a summary is never wrong about a claim that came into the bundle after it was written. Which claims were in it
// before must be known for sure: no claim of the shard may be on its way, or uncertain.
type bundle struct {
	lease     int64
	claims    int           // how many claims there are
	pending   int           // of these: not active yet, or not to be active and the key does not say so yet
	ready     int           // of these: active, and neither a summary nor a state says so yet
	within    time.Duration // the longest time from a claim until its resource became active
	through   int64         // the revision in the summary that etcd has, as far as known; 0: etcd has none
	rev       int64         // the revision at which etcd had it; older news is ignored
	writing   int64         // through of the summary that is on its way, or deleting; 0: none is on its way
	uncertain bool          // the answer to a summary was lost: it may be there, or still appear until certainAt
	certainAt time.Duration // from then on, no such summary can appear any more
	after     time.Duration // no summary is written or deleted before this time
	armed     time.Duration // when the timer fires that was set to delete the summary
	trail     *trail        // nil if nothing in the bundle is young, running or about to begin
}

// deleting is what bundle.writing is while the summary is being deleted.
const deleting = -1

// tally says in which count of its bundle a resource is, besides claims.
type tally uint8

const (
	neither tally = iota
	pending
	ready
)

// findBundle returns the bundle of a lease; nil if there is none.
func (sh *shard) findBundle(lease int64) *bundle {
	for _, b := range sh.bundles {
		if b.lease == lease {
			return b
		}
	}
	return nil
}

// bundle returns the bundle of a lease, and makes it if there is none.
func (sh *shard) bundle(lease int64) *bundle {
	b := sh.findBundle(lease)
	if b == nil {
		b = &bundle{lease: lease}
		sh.bundles = append(sh.bundles, b)
	}
	return b
}

// countForSummary brings the counts up to date that decide whether a summary can be written.
func (c *Core) countForSummary(r *resource) {
	if unseen := r.phase == claiming || c.mayAppear(r); unseen != r.counted.unseen {
		r.counted.unseen = unseen
		if unseen {
			r.sh.unseen++
		} else {
			r.sh.unseen--
		}
	}
	b, t := r.standing()
	if b == r.counted.bundle && t == r.counted.tally {
		return
	}
	old := r.counted.bundle
	old.add(r.counted.tally, -1)
	r.counted.bundle, r.counted.tally = b, t
	b.add(t, 1)
	if old != nil && old != b {
		c.prune(r.sh, old)
	}
}

// mayAppear says whether there may be a claim of r that this member has not seen yet, or whether one may still appear.
// While this member has another claim there can be none, and after certainAt none can appear.
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

// standing returns the bundle in which r must be counted, and the tally.
func (r *resource) standing() (*bundle, tally) {
	if !r.claimed() {
		return nil, neither
	}
	b := r.counted.bundle
	if b == nil || b.lease != r.claim.lease {
		b = r.sh.bundle(r.claim.lease)
	}
	switch {
	case r.told.state == StateActive && r.told.plain && r.told.unsaved:
		return b, ready
	case r.told.state == StateClaimed,
		(r.told.state == StateFailed || r.told.state == StateQuarantined) &&
			(r.told.unsaved || r.told.writing != 0 || r.told.uncertain):
		return b, pending
	}
	return b, neither
}

// add adds n claims with this tally to the counts. A nil bundle counts nothing.
func (b *bundle) add(t tally, n int) {
	if b == nil {
		return
	}
	b.claims += n
	switch t {
	case pending:
		b.pending += n
	case ready:
		b.ready += n
	case neither:
	}
}

// prune forgets a bundle that is empty and whose lease has ended, or is fenced: the summary ends with the lease.
func (c *Core) prune(sh *shard, b *bundle) {
	if l := c.leases[b.lease]; b.claims > 0 || b.writing != 0 || b.trail != nil || l != nil && !l.fenced {
		return
	}
	if i := slices.Index(sh.bundles, b); i >= 0 {
		sh.bundles = slices.Delete(sh.bundles, i, i+1)
	}
}

// canSummarize says whether a summary can stand for the state of r, which must be written, and is worth a key.
func (c *Core) canSummarize(r *resource) bool {
	b := r.counted.bundle
	return r.counted.tally == ready && b.ready >= c.cfg.SummaryLeast && b.writing == 0 && c.now >= b.after &&
		b.pending == 0 && r.sh.unseen == 0
}

// mayBeSummarized says whether a summary cannot stand for the state of r yet, but could if more of its bundle were
// handled.
func (c *Core) mayBeSummarized(r *resource) bool {
	b := r.counted.bundle
	return r.sh != nil && r.counted.tally == ready && b.ready+b.pending >= c.cfg.SummaryLeast && !c.canSummarize(r)
}

// covers says whether the bundle's summary stands for the state of r, or can.
func (b *bundle) covers(r *resource) bool {
	return r.counted.bundle == b && r.told.plain && r.told.state == StateActive
}

// summarize writes the summary of a bundle.
func (c *Core) summarize(sh *shard, b *bundle) {
	a := Action{Kind: WriteSummary, Shard: sh.number, Lease: b.lease, Within: b.within}
	for _, r := range sh.list {
		if b.covers(r) {
			a.Token = max(a.Token, r.claim.token)
			r.told.unsaved = false
			c.countForSummary(r)
		}
	}
	b.writing = a.Token
	c.states.under++
	c.emit(a)
}

// SummaryDone says what became of the WriteSummary whose Token was through, or of a DeleteSummary if through is 0.
func (c *Core) SummaryDone(now time.Duration, number int, lease, through int64, res WriteResult) {
	sh := c.at(now, number)
	if sh == nil {
		return
	}
	b := sh.findBundle(lease)
	switch {
	case b == nil || b.writing == 0:
		return
	case b.writing == deleting:
		if through != 0 {
			return
		}
		b.writing = 0
		if res.Applied {
			b.see(0, res.Revision)
			b.uncertain = false
		} else {
			b.after = now + c.backoff(1, c.cfg.RetryMin, c.cfg.RetryMax)
		}
	case b.writing == through:
		b.writing = 0
		c.states.under--
		switch {
		case res.Applied:
			b.see(through, res.Revision)
		case res.LeaseGone:
			c.fence(lease)
		default:
			b.after = now + c.backoff(1, c.cfg.RetryMin, c.cfg.RetryMax)
		}
		if res.Unknown {
			b.uncertain, b.certainAt = true, now+c.cfg.UncertainFor
		}
		c.uncover(sh, b)
	}
	c.prune(sh, b)
	c.unwatchIfDone(sh)
}

// SummaryPut says that a summary's key was put, and how it is from now on.
func (c *Core) SummaryPut(now time.Duration, number int, k SummaryKey) {
	c.seeSummary(now, number, k.Lease, k.Through, k.ModRevision)
}

// SummaryDeleted says that the summary of a lease was deleted, or expired with the lease, at a revision.
func (c *Core) SummaryDeleted(now time.Duration, number int, lease, revision int64) {
	c.seeSummary(now, number, lease, 0, revision)
}

// seeSummary takes over what etcd said of a summary, if it is on a lease of this member.
func (c *Core) seeSummary(now time.Duration, number int, lease, through, revision int64) {
	if sh := c.at(now, number); sh != nil && c.leases[lease] != nil {
		b := sh.bundle(lease)
		b.see(through, revision)
		c.uncover(sh, b)
		c.unwatchIfDone(sh)
	}
}

// listSummaries takes over a list of the summaries at a revision.
func (c *Core) listSummaries(sh *shard, revision int64, list []SummaryKey) {
	there := make(map[int64]int64, len(list))
	for _, k := range list {
		if there[k.Lease] = k.Through; c.leases[k.Lease] != nil {
			sh.bundle(k.Lease)
		}
	}
	for _, b := range slices.Clone(sh.bundles) { // a clone, since prune may remove bundles
		b.see(there[b.lease], revision)
		c.uncover(sh, b)
		c.prune(sh, b)
	}
}

// see takes over what etcd said of the summary at a revision, unless something newer is known.
func (b *bundle) see(through, revision int64) {
	if revision >= b.rev {
		b.through, b.rev = through, revision
	}
}

// uncover makes the core write those states again that the bundle's summary should tell, and does not.
func (c *Core) uncover(sh *shard, b *bundle) {
	if b.writing != 0 {
		return // its answer calls uncover again
	}
	sh.each(func(r *resource) {
		if b.covers(r) && !r.told.unsaved && r.claim.token > b.through {
			r.told.unsaved, r.told.after = true, max(r.told.after, b.after)
			c.reconcile(r)
		}
	})
}

// isLeaving says whether a write of the summary is on its way, or it is too early to delete the summary.
func (c *Core) isLeaving(b *bundle) bool {
	return b.writing != 0 || (b.through != 0 || b.uncertain) && c.now < max(b.after, b.certainAt)
}

// clearSummaries deletes this member's summaries of a shard before the shard is no longer followed, and reports whether
// nothing is left to delete. A member that stops leaves them, because they end with their leases.
func (c *Core) clearSummaries(sh *shard) bool {
	done := true
	for _, b := range sh.bundles {
		l := c.leases[b.lease]
		switch {
		case c.stopping || l == nil || l.fenced:
			if b.writing > 0 {
				c.states.under--
			}
			b.writing = 0
		case c.isLeaving(b):
			if at := max(b.after, b.certainAt); b.writing == 0 && b.armed != at {
				b.armed = at
				c.timers.addShard(sh, at)
			}
			done = false
		case b.through != 0 || b.uncertain:
			b.writing, done = deleting, false
			c.emit(Action{Kind: DeleteSummary, Shard: sh.number, Lease: b.lease})
		}
	}
	return done
}
