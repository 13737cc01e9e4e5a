package core

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// probation has the suspects that the trail lists, and that have not returned. It is small: if another member dies,
// what ran is to blame most likely, and each of that is handled alone.
type probation map[*resource]struct{}

const (
	// aloneFrom is the number of deaths from which on what is accused of them is handled alone.
	aloneFrom = 2
	// mostOnProbation is how many resources are on probation at once, at most.
	mostOnProbation = 8
	// askPause is the part of Config.Young that passes until etcd is asked again: one in askPause.
	askPause = 10
)

// listSuspects lists suspects, as many as the square root of how many there are, so that few run at once also where
// there are few.
func (c *Core) listSuspects(most int) {
	p := c.probation
	for c.trails.ahead < most && c.suspects.first() != nil {
		all := c.suspects.waiting() + len(p)
		if len(p) >= min(mostOnProbation, int(math.Ceil(math.Sqrt(float64(all))))) {
			return
		}
		r := c.suspects.pop()
		if !c.stillWaits(r, suspectQueue) {
			continue
		}
		again := r.counted.line == young // the trail lists it still
		if again && !c.isListed(r) {
			c.strike(c.trailOf(r), r)
			again = false
		}
		if !again && !c.list(r) {
			c.suspects.push(r)
			return
		}
		p[r] = struct{}{}
		if again {
			c.rewrite(c.trailOf(r)) // it says that r has returned
			c.reconcile(r)
		} else {
			r.queued = listedQueue
		}
	}
}

// leaveProbation notes that a suspect has returned, or does not begin after all.
func (c *Core) leaveProbation(r *resource) { delete(c.probation, r) }

// isolation is what the core knows of the one resource that it handles alone, or wants to: nothing else in the member
// is young or begins meanwhile, and no other member handles another one alone. So a death accuses only this one.
type isolation struct {
	r       *resource
	lease   int64         // the lease of the key that only one member can have
	token   int64         // the key's create revision; 0: this member does not have it
	writing bool          // the key's creation or deletion is on its way
	after   time.Duration // no such write before this time

	certainAt time.Duration
	since     time.Duration // since when it has the key
	unsure    bool          // the answer to a creation was lost: the key may be there, or still appear until certainAt
	certain   bool          // the write on its way was sent after certainAt
	begun     bool          // the trail lists r, or soon will
	returned  bool          // its Handle has returned
}

// A resource with its turn waits until nothing else in the member is young. When it has waited for patience times
// Config.Young, nothing else begins for calm times Config.Young; then it waits again.
const (
	patience = 3
	calm     = 2
)

// holdsBack says whether nothing may begin but what is isolated.
func (c *Core) holdsBack() bool {
	i := &c.isolation
	return i.r != nil && i.token != 0 && (i.begun || c.now-i.since >= patience*c.cfg.Young)
}

// pumpIsolation takes the next step towards handling one resource alone.
func (c *Core) pumpIsolation() {
	i := &c.isolation
	if i.r != nil && !i.begun && (!c.belongsIn(i.r, isolateQueue) || c.isVoid(i.r) || !c.keyHasToken(i.r)) {
		i.r = nil
	}
	if i.token != 0 && c.leases[i.lease] == nil { // the key went with its lease
		i.token = 0
	}
	if i.r == nil && i.token == 0 && !c.stopping {
		i.r = c.nextToIsolate()
	}
	switch {
	case i.writing || i.begun || i.r == nil && i.token == 0 && !i.unsure || c.stopping && i.token == 0:
	case c.now < i.after:
		c.wake(i.after)
	case i.r == nil: // if the token is not known, the comparison finds out whether there is a key
		i.writing, i.certain = true, c.now >= i.certainAt
		c.emit(Action{Kind: FreeAlone, Lease: i.lease, Token: i.token})
	case i.token == 0:
		i.writing, i.lease = true, i.r.claim.lease
		c.emit(Action{Kind: TakeAlone, Shard: i.r.sh.number, ID: i.r.id, Lease: i.lease})
	default:
		c.isolateNow()
	}
}

// nextToIsolate takes the resource that is to be handled alone next out of its queue: the one that is most likely to
// blame. It returns nil if none waits.
func (c *Core) nextToIsolate() *resource {
	var best *resource
	var most suspect
	for range c.isolate.waiting() {
		r := c.isolate.pop()
		if r == nil {
			break
		}
		if !c.stillWaits(r, isolateQueue) {
			continue
		}
		c.isolate.push(r)
		if at, ok := c.affords(r); !ok {
			c.wake(at)
			continue
		}
		if s := c.suspect(r); best == nil || s.before(most) {
			best, most = r, s
		}
	}
	return best
}

// suspect says how likely it is that a resource is to blame for the latest death that it is accused of. What kills
// mostly does so at once. So what ran at the latest death comes first, and then what had begun last before it.
type suspect struct {
	died     time.Duration // when the member that died wrote any trail last
	returned int           // 1: Handle or Update of the resource had returned; 0: it ran, or nobody knows
	since    int           // how many resources its trail lists behind the resource
	listed   time.Duration // when that trail was written last
}

// before says whether a suspect is handled alone before another one.
func (s suspect) before(other suspect) bool {
	return cmp.Or(cmp.Compare(other.died, s.died), cmp.Compare(s.returned, other.returned),
		cmp.Compare(s.since, other.since), cmp.Compare(other.listed, s.listed)) < 0
}

// suspect returns what is known of a resource that is accused.
func (c *Core) suspect(r *resource) (s suspect) {
	deaths := c.deaths(r)
	last := deaths[len(deaths)-1]
	s.listed = last.At
	for _, sh := range c.shards {
		if sh == nil {
			continue
		}
		for _, a := range sh.accusers {
			if a.member == last.Member && a.life == last.Life {
				s.died = max(s.died, a.at)
			}
		}
	}
	a := r.sh.accuserOf(last.Lease)
	place := slices.Index(a.order, r.id)
	if s.since = len(a.order) - place; place < a.returned {
		s.returned = 1
	}
	return s
}

// isolateNow lets the trail list the resource that has its turn, once no trail in etcd lists anything else of this
// member.
func (c *Core) isolateNow() {
	i := &c.isolation
	if c.now-i.since >= (patience+calm)*c.cfg.Young {
		i.since = c.now
	}
	if c.holdsBack() {
		c.retract()
	}
	own := 0
	if b := i.r.counted.bundle; b != nil && b.trail != nil && b.trail.isEmpty() { // the next write of it replaces all
		own = 1
	}
	if c.trails.open > own {
		wait := patience * c.cfg.Young
		if c.holdsBack() {
			wait += calm * c.cfg.Young
		}
		c.wake(i.since + wait)
		return
	}
	if c.list(i.r) {
		i.begun, i.returned = true, false
		i.r.queued = listedQueue
	}
}

// retract takes out of all trails what has not begun.
func (c *Core) retract() {
	if c.trails.ahead+c.trails.claiming == 0 {
		return
	}
	for _, sh := range c.shards {
		if sh == nil {
			continue
		}
		for _, b := range sh.bundles {
			if b.trail == nil {
				continue
			}
			for _, r := range slices.Clone(b.trail.lines) {
				if r.counted.line.isAhead() && b.trail != nil && b.trail.has(r) {
					c.unlist(r, b.lease)
					c.reconcile(r)
				}
			}
		}
	}
}

// leaveIsolation notes that a resource has survived being handled alone, or is handled no more.
func (c *Core) leaveIsolation(r *resource) {
	if c.isolation.r == r {
		c.isolation.r, c.isolation.begun = nil, false
	}
}

// AloneDone says what became of a TakeAlone or a FreeAlone; taken says which of them.
func (c *Core) AloneDone(now time.Duration, taken bool, res WriteResult) {
	c.now = now
	i := &c.isolation
	if !i.writing {
		return
	}
	i.writing = false
	switch {
	case res.errored():
		i.after = now + c.backoff(1, c.cfg.RetryMin, c.cfg.RetryMax)
		if taken && res.Unknown {
			i.unsure, i.certainAt = true, now+c.cfg.UncertainFor
		}
	case !taken && !res.Applied && c.leases[res.FoundLease] != nil:
		i.token, i.lease = res.FoundToken, res.FoundLease
	case !taken && i.unsure && !i.certain: // it may still appear
		i.token, i.after = 0, i.certainAt
	case !taken: // it is gone, or is not this member's any more
		i.token, i.unsure = 0, false
		i.after = now + c.backoff(1, c.cfg.Young/askPause, c.cfg.Young/askPause) // others wait for it too
	case res.Applied:
		i.token, i.since = res.Revision, now
	case c.leases[res.FoundLease] != nil: // an answer was lost, and the key was put after all
		i.token, i.lease, i.since = res.FoundToken, res.FoundLease, now
	default:
		i.after = now + c.backoff(1, c.cfg.Young/askPause, c.cfg.Young/askPause)
	}
}
