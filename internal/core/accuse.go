package core

import (
	"math"
	"slices"
	"strings"
	"time"
)

// Trail is what a trail's key says.
type Trail struct {
	Member string
	Life   string        // tells the lives of members with one id apart
	At     time.Duration // when it was written last, by the clock of the member that reads it
	IDs    []string

	// Returned is how many of IDs, from the first, had returned from Handle or Update. The others had not begun, or
	// were running, when the trail was written.
	Returned int

	// Alone says that nothing else began beside what the trail lists.
	Alone bool
}

// TrailKey is a trail's key as an event tells it.
type TrailKey struct {
	Lease       int64 // the lease of the claims that it is about; the key itself is on no lease
	ModRevision int64
	Read        func() Trail // reads the key's value; called for other members' trails only
}

// accuser is another member's trail. When none of that member's claims on the lease is left in the shard, and the trail
// is, then the member has died, or its lease has: the trail accuses what it lists. A member that leaves in order
// deletes its trail with the last claim.
type accuser struct {
	lease    int64
	mod      int64
	member   string
	life     string
	at       time.Duration
	order    []string // the resources that it lists, as it lists them: what began last comes last
	returned int      // Trail.Returned
	alone    bool     // Trail.Alone
	ids      []string // the same as order, sorted
	cleared  map[string]struct{}
	former   []string // what it listed before, as far as judge has not looked at that yet

	claims   int   // claims on the lease that etcd was seen to have in the shard
	writing  bool  // an edit is on its way
	sent     Trail // what that edit leaves
	timed    bool  // a timer is set for when it is old
	after    time.Duration
	failures uint16
}

// setOrder sets which resources the trail lists.
func (a *accuser) setOrder(said Trail) {
	a.order, a.returned, a.alone = said.IDs, said.Returned, said.Alone
	a.ids = slices.Sorted(slices.Values(said.IDs))
}

// accuses says whether the trail accuses a resource.
func (a *accuser) accuses(id string) bool {
	if a.claims > 0 {
		return false
	}
	if _, found := slices.BinarySearch(a.ids, id); !found {
		return false
	}
	_, cleared := a.cleared[id]
	return !cleared
}

// clear ends the accusation of a resource. The next edit tells etcd.
func (a *accuser) clear(id string) {
	if a.accuses(id) {
		a.forget(id)
	}
}

// clearAll ends all accusations of the trail, whose lease has ended: also where claims on it are not yet seen to be
// gone, so that it does not accuse anybody then.
func (a *accuser) clearAll() {
	for _, id := range a.ids {
		a.forget(id)
	}
}

func (a *accuser) forget(id string) {
	if a.cleared == nil {
		a.cleared = map[string]struct{}{}
	}
	a.cleared[id] = struct{}{}
}

// left returns a trail of those that the trail still accuses.
func (a *accuser) left() Trail {
	left := Trail{Member: a.member, Life: a.life, At: a.at, IDs: make([]string, 0, len(a.order)), Alone: a.alone}
	for i, id := range a.order {
		if !a.accuses(id) {
			continue
		}
		if left.IDs = append(left.IDs, id); i < a.returned {
			left.Returned++
		}
	}
	return left
}

// isOld says whether an accusation does not count any more.
func (c *Core) isOld(a *accuser) bool { return c.now-a.at >= c.cfg.QuarantineWindow }

// suspicion returns how many deaths a resource is accused of. A member that had several leases has died once.
func (c *Core) suspicion(r *resource) int {
	n := 0
	for i, a := range r.sh.accusers {
		counts := func(a *accuser) bool { return a.accuses(r.id) && !c.isOld(a) }
		same := func(other *accuser) bool {
			return other.member == a.member && other.life == a.life && counts(other)
		}
		if counts(a) && !slices.ContainsFunc(r.sh.accusers[:i], same) {
			n++
		}
	}
	return n
}

// Suspicion returns how many deaths a resource is accused of, for tests and the simulation.
func (c *Core) Suspicion(number int, id string) int {
	if r := c.find(c.now, number, id); r != nil {
		return c.suspicion(r)
	}
	return 0
}

// Alone says whether a resource is handled alone, for tests and the simulation.
func (c *Core) Alone(number int, id string) bool {
	r := c.find(c.now, number, id)
	return r != nil && c.isAlone(r, c.suspicion(r))
}

// accuserOf returns the trail of another member's lease; nil if none is known.
func (sh *shard) accuserOf(lease int64) *accuser {
	for _, a := range sh.accusers {
		if a.lease == lease {
			return a
		}
	}
	return nil
}

// moveClaim takes note that a claim that was on one lease is on another one now; lease 0: there is none.
func (sh *shard) moveClaim(from, to int64) {
	for _, a := range sh.accusers {
		if a.lease == from {
			a.claims--
			sh.shaken = true
		}
		if a.lease == to {
			a.claims++
			sh.shaken = true
		}
	}
}

// ListTraces replaces what is known of a shard's trails and records of quarantine by a list of them at a revision. It
// is called right before Snapshot, with what the same list says.
func (c *Core) ListTraces(now time.Duration, number int, revision int64, trails []TrailKey, records []QuarantineKey) {
	sh := c.at(now, number)
	if sh == nil || !c.keepsTrails() {
		return
	}
	there := make(map[int64]int64, len(trails))
	for _, k := range trails {
		there[k.Lease] = k.ModRevision
		c.takeTrail(sh, k)
	}
	for _, b := range sh.bundles {
		if b.trail != nil {
			c.seeTrail(b.trail, there[b.lease], revision)
		}
	}
	sh.accusers = slices.DeleteFunc(sh.accusers, func(a *accuser) bool { return there[a.lease] == 0 })
	c.listQuarantines(sh, records)
	c.judgeLater(sh)
}

// TrailPut says that a trail's key was put, and how it is from now on.
func (c *Core) TrailPut(now time.Duration, number int, k TrailKey) {
	if sh := c.at(now, number); sh != nil && c.keepsTrails() {
		c.takeTrail(sh, k)
	}
}

// takeTrail takes over a trail's key.
func (c *Core) takeTrail(sh *shard, k TrailKey) {
	if b := sh.findBundle(k.Lease); b != nil && b.trail != nil {
		c.seeTrail(b.trail, k.ModRevision, k.ModRevision)
		return
	}
	if c.leases[k.Lease] != nil { // an answer was lost, and the write was applied after all
		b := sh.bundle(k.Lease)
		b.trail = &trail{sh: sh, b: b, mod: k.ModRevision, rev: k.ModRevision}
		c.trails.open++
		c.touch(b.trail)
		return
	}
	a := sh.accuserOf(k.Lease)
	if a == nil {
		a = &accuser{lease: k.Lease}
		for _, r := range sh.list {
			if r.seen.token != 0 && r.seen.lease == k.Lease {
				a.claims++
			}
		}
		sh.accusers = append(sh.accusers, a)
	}
	if k.ModRevision > a.mod {
		said := k.Read()
		a.former = append(a.former, a.ids...)
		a.mod, a.member, a.life, a.at = k.ModRevision, said.Member, said.Life, min(said.At, c.now)
		a.setOrder(said)
		a.failures, a.after = 0, 0
	}
	c.judgeLater(sh)
}

// TrailDeleted says that a trail's key was deleted at a revision.
func (c *Core) TrailDeleted(now time.Duration, number int, lease, revision int64) {
	sh := c.at(now, number)
	if sh == nil || !c.keepsTrails() {
		return
	}
	if b := sh.findBundle(lease); b != nil && b.trail != nil {
		c.seeTrail(b.trail, 0, revision)
		return
	}
	if a := sh.accuserOf(lease); a != nil && revision > a.mod {
		sh.accusers = slices.DeleteFunc(sh.accusers, func(other *accuser) bool { return other == a })
		c.reconsider(sh, a)
	}
}

// judgeLater makes judgeAll look at what the trails and records of a shard mean.
func (c *Core) judgeLater(sh *shard) {
	if c.keepsTrails() && !sh.unjudged {
		sh.unjudged = true
		c.unjudged = append(c.unjudged, sh)
	}
}

// judgeAll looks at the trails and records of the shards where something has changed about them.
func (c *Core) judgeAll() {
	for len(c.unjudged) > 0 {
		shards := c.unjudged
		c.unjudged = nil
		for _, sh := range shards {
			sh.unjudged = false
			if c.shards[sh.number] == sh {
				c.judge(sh)
			}
		}
	}
}

// judge clears what is certainly innocent, or does not matter any more, and looks again at everything else that is
// accused or quarantined.
func (c *Core) judge(sh *shard) {
	if sh.isWanted() && sh.gen > 0 {
		for _, a := range sh.accusers {
			c.clearInnocent(sh, a)
			sh.clearQuarantined(a)
		}
		c.edit(sh)
		c.sweepQuarantines(sh)
	}
	for _, a := range slices.Clone(sh.accusers) {
		c.reconsider(sh, a)
	}
}

// reconsider takes the next step for everything that a trail lists.
func (c *Core) reconsider(sh *shard, a *accuser) {
	former := a.former
	a.former = nil
	for _, ids := range [][]string{a.ids, former} {
		for _, id := range ids {
			if r := sh.byID[id]; r != nil {
				c.reconcile(r)
			}
		}
	}
}

// clearInnocent clears what has left the catalogue, and what this member has handled for a while.
func (c *Core) clearInnocent(sh *shard, a *accuser) {
	if a.claims > 0 {
		return
	}
	if c.isOld(a) {
		a.clearAll()
		return
	}
	for _, id := range a.ids {
		if !sh.owns(id) { // its owner knows better
			continue
		}
		r := sh.byID[id]
		if r == nil || !r.seen.wanted || r.counted.line == unlisted && c.isHandled(r) {
			a.clear(id)
		}
	}
	if !a.timed {
		a.timed = true
		c.timers.addShard(sh, a.at+c.cfg.QuarantineWindow)
	}
}

// survived takes note that a resource is not young any more, and this process lives. If the resource is handled, it is
// innocent. If its Handle has failed, nobody knows.
func (c *Core) survived(r *resource) {
	if len(r.sh.accusers)+len(r.sh.quarantines) > 0 && c.isHandled(r) {
		for _, a := range r.sh.accusers {
			a.clear(r.id)
		}
		delete(c.crowd.of, r)
		c.judgeLater(r.sh)
	}
	c.leaveIsolation(r)
	c.reconcile(r)
}

// edit tells etcd which accusations have ended. Each edit compares the mod revision of the trail that this member has
// read, so that nothing newer is lost; and nothing is edited before the lease has ended, since a member that lives
// relies on its trail.
func (c *Core) edit(sh *shard) {
	for _, a := range sh.accusers {
		if a.claims > 0 || a.writing || len(a.cleared) == 0 {
			continue
		}
		if c.now < a.after {
			c.timers.addShard(sh, a.after)
			continue
		}
		left := a.left()
		switch {
		case len(left.IDs) == len(a.ids): // etcd has been told
			continue
		case len(left.IDs) == 0:
			c.emit(Action{
				Kind: DeleteTrail, Shard: sh.number, Lease: a.lease, Token: a.mod, Trail: &Trail{Member: a.member},
			})
		default:
			c.emit(Action{
				Kind: WriteTrail, Shard: sh.number, Lease: a.lease, Token: a.mod,
				Trail: &left,
			})
		}
		a.writing, a.sent = true, left
	}
}

// editDone takes note of what became of an edit of another member's trail. Where the edit was applied, or something
// else was there, the watch will tell.
func (c *Core) editDone(sh *shard, lease int64, res WriteResult) {
	a := sh.accuserOf(lease)
	if a == nil || !a.writing {
		return
	}
	a.writing = false
	a.failures = min(a.failures, math.MaxUint16-1) + 1
	a.after = c.now + c.backoff(a.failures, c.cfg.RetryMin, c.cfg.RetryMax)
	switch {
	case res.Applied:
		if len(a.sent.IDs) == 0 {
			sh.accusers = slices.DeleteFunc(sh.accusers, func(other *accuser) bool { return other == a })
			return
		}
		a.mod, a.failures, a.after = res.Revision, 0, 0
		a.setOrder(a.sent)
	case !res.errored() && res.FoundMod == 0:
		sh.accusers = slices.DeleteFunc(sh.accusers, func(other *accuser) bool { return other == a })
		c.reconsider(sh, a)
		return
	}
	c.judgeLater(sh)
}

// deaths returns what a resource is accused of, the earliest death first: one for each trail.
func (c *Core) deaths(r *resource) []Death {
	var all []Death
	for _, a := range r.sh.accusers {
		if a.accuses(r.id) && !c.isOld(a) {
			all = append(all, Death{Member: a.member, Life: a.life, At: a.at, Lease: a.lease})
		}
	}
	slices.SortFunc(all, func(a, b Death) int {
		if a.At != b.At {
			return int(min(max(a.At-b.At, -1), 1))
		}
		return strings.Compare(a.Member, b.Member)
	})
	return all
}
