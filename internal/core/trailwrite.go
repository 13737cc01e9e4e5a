package core

import (
	"math"
	"time"
)

// flush writes a trail, or deletes one that is empty, unless a write is on its way.
func (c *Core) flush(t *trail) {
	if t.writing || t.b.trail != t {
		return
	}
	empty := t.isEmpty()
	switch {
	case empty && c.stopping && (t.mod == 0 || t.deletes && t.failures > 0):
		c.closeTrail(t) // a stop does not wait for it: what it accuses wrongly is handled soon all the same
		return
	case empty && t.mod == 0 && !t.uncertain:
		c.closeTrail(t)
		return
	}
	after := t.after
	if empty && t.mod == 0 { // a watch may show before that the key is there, so that it can be deleted
		after = max(after, t.certainAt)
	}
	switch {
	case !empty && !t.stale:
	case c.now < after:
		c.timers.addTrail(t, after)
	case empty:
		c.deleteTrail(t)
	default:
		c.writeTrail(t)
	}
}

// deleteTrail deletes the key of a trail that is empty. Where no key is known, the comparison finds out whether there
// is one. (A deletion without a comparison, whose answer was lost, might be applied to a later trail.)
func (c *Core) deleteTrail(t *trail) {
	t.writing, t.deletes, t.stale, t.conclusive = true, true, false, c.now >= t.certainAt
	c.emit(Action{Kind: DeleteTrail, Shard: t.sh.number, Lease: t.b.lease, Token: t.mod})
}

// writeTrail writes a trail that lists something.
func (c *Core) writeTrail(t *trail) {
	c.expire(t)
	if t.dropped > 0 {
		t.compact()
	}
	if len(t.lines) == 0 {
		c.touch(t)
		return
	}
	said := &Trail{At: c.now, IDs: make([]string, 0, len(t.lines))}
	for _, r := range t.lines {
		if r.counted.line == young {
			said.IDs = append(said.IDs, r.id)
		}
	}
	said.Returned = len(said.IDs)
	for _, r := range t.lines {
		if r.counted.line == young {
			continue
		}
		if said.IDs = append(said.IDs, r.id); r.counted.line == toList {
			r.counted.line = listing
		}
	}
	i := &c.isolation
	said.Alone = i.begun && len(t.lines) == 1 && t.lines[0] == i.r
	t.writing, t.deletes, t.stale, t.conclusive = true, false, false, c.now >= t.certainAt
	c.emit(Action{
		Kind: WriteTrail, Shard: t.sh.number, Lease: t.b.lease, Token: t.mod, Trail: said,
	})
}

// closeTrail forgets a trail that is empty.
func (c *Core) closeTrail(t *trail) {
	c.trails.open--
	t.b.trail = nil
	c.prune(t.sh, t.b)
	c.unwatchIfDone(t.sh)
}

// TrailDone says what became of a WriteTrail or a DeleteTrail.
func (c *Core) TrailDone(now time.Duration, number int, lease int64, res WriteResult) {
	sh := c.at(now, number)
	if sh == nil {
		return
	}
	b := sh.findBundle(lease)
	switch {
	case b == nil || b.trail == nil:
		c.editDone(sh, lease, res)
	case b.trail.writing:
		c.wrote(b.trail, res)
	}
}

// wrote takes note of what became of the write of a trail.
func (c *Core) wrote(t *trail, res WriteResult) {
	t.writing = false
	switch {
	case res.Applied:
		t.failures, t.after = 0, 0
		t.rev, t.mod = res.Revision, res.Revision
		if t.deletes {
			t.mod = 0
		}
	case res.errored():
		t.failures = min(t.failures, math.MaxUint16-1) + 1
		t.after = c.now + c.backoff(t.failures, c.cfg.RetryMin, c.cfg.RetryMax)
		if res.Unknown {
			t.uncertain, t.certainAt = true, c.now+c.cfg.UncertainFor
		}
		t.stale = true
	default:
		c.changed(t, res.FoundMod, res.Revision)
	}
	if res.Applied && !t.deletes {
		t.foreign = false
	}
	if t.conclusive && !res.errored() {
		t.uncertain = false
	}
	c.settle(t, res.Applied && !t.deletes)
	if at, mod := t.newsAt, t.news; at > t.rev {
		c.changed(t, mod, at)
	}
	t.newsAt = 0
	c.touch(t)
}

// settle lets what the last write of a trail listed begin, if etcd has applied the write.
func (c *Core) settle(t *trail, applied bool) {
	for _, r := range t.lines {
		if r.counted.line != listing || !t.has(r) {
			continue
		}
		if r.counted.line = toList; applied {
			r.counted.line = listed
			if r.queued == listedQueue {
				r.queued = noQueue
				c.reconcile(r)
			}
		}
	}
}

// changed takes note that somebody else has written or deleted a trail of this member. Nobody knows what it lists now,
// so it is written again before anything begins.
func (c *Core) changed(t *trail, mod, rev int64) {
	t.mod, t.rev, t.stale, t.foreign = mod, rev, true, true
	for _, r := range t.lines {
		if r.counted.line == listed && t.has(r) {
			r.counted.line = toList
			if r.queued != noQueue {
				r.queued = listedQueue
			}
		}
	}
	c.touch(t)
}

// seeTrail takes over what a watch told of a trail of this member.
func (c *Core) seeTrail(t *trail, mod, rev int64) {
	switch {
	case rev <= t.rev:
	case t.writing: // perhaps it is that write
		if rev > t.newsAt {
			t.news, t.newsAt = mod, rev
		}
	case mod != t.mod:
		c.changed(t, mod, rev)
	}
}
