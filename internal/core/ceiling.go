package core

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// ceiling keeps the number of claims of this member at Config.MaxResources or below, and decides which shards the
// member declines to own, so that others take what does not fit.
//
// A resource takes room as soon as a claim of it is on its way, and until it is certain that etcd has none: a claim
// whose answer was lost takes room, and so does one on a lease that is gone, until its key is seen to be deleted.
//
// The member keeps whole shards as long as all that is wanted in them fits. It declines the others. If it still owns
// one that it declines, since all other members decline it too, it takes as much of that as fits (spare).
type ceiling struct {
	most   int
	used   int            // resources that take room
	leases map[int64]bool // all leases that this member has had
	fresh  queue          // claims of resources that take no room yet
	spare  queue          // the same, of shards that are declined: they get what the others leave

	declined []bool // by shard: this member declines to own it
	told     []bool // the same, by the last view
	lack     []int  // by shard that no member has room for: how many resources are wanted in it, by the last view
	lacks    []int  // by shard that this member declines and owns: how many are wanted, if it has no room for them
	sizes    []int  // by shard that is declined: how many resources were wanted in it last, as far as known

	stale  bool          // something may have changed since the last review
	next   time.Duration // not reviewed before
	easy   time.Duration // since when there has been room; 0: there is none
	short  time.Duration // since when what is to leave this member has taken room that is needed; 0: it does not
	pause  time.Duration // Config.RetakeAfter
	cursor int           // the shard with which the next look for what can be taken back begins
}

// reviewEvery is the least time between two changes of what is declined.
const reviewEvery = time.Second

func newCeiling(cfg *Config) *ceiling {
	if cfg.MaxResources <= 0 {
		return nil
	}
	return &ceiling{
		most: cfg.MaxResources, leases: map[int64]bool{}, fresh: queue{id: roomQueue}, spare: queue{id: spareQueue},
		pause: cfg.RetakeAfter,
	}
}

// lease notes that this member has a lease.
func (g *ceiling) lease(id int64) {
	if g != nil {
		g.leases[id] = true
	}
}

// touch notes that something has changed.
func (g *ceiling) touch() {
	if g != nil {
		g.stale = true
	}
}

// takesRoom says whether this member has a claim of the resource, or may have one.
func (g *ceiling) takesRoom(r *resource) bool {
	return r.claimed() || r.phase == claiming || r.claim.uncertain || r.seen.token != 0 && g.leases[r.seen.lease]
}

// countRoom brings the count of the room that is used up to date.
func (c *Core) countRoom(r *resource) {
	g := c.ceiling
	if g == nil {
		return
	}
	g.stale = true
	takes := g.takesRoom(r)
	if takes == r.counted.room {
		return
	}
	if r.counted.room = takes; takes {
		g.used++
	} else {
		g.used--
	}
}

// claimQueueFor says where a claim waits for its turn.
func (c *Core) claimQueueFor(r *resource) *queue {
	switch g := c.ceiling; {
	case g == nil || g.takesRoom(r):
		return &c.claims
	case g.declines(r.sh.number):
		return &g.spare
	default:
		return &g.fresh
	}
}

// declines says whether this member declines a shard.
func (g *ceiling) declines(shard int) bool { return shard < len(g.declined) && g.declined[shard] }

// nextClaim returns the resource whose claim may be sent, and the queue in which it waited; nil if there is none.
func (c *Core) nextClaim() (*resource, queueID) {
	q, g := &c.claims, c.ceiling
	if g != nil && q.first() == nil {
		if q = &g.fresh; q.first() == nil {
			q = &g.spare
		}
	}
	r := q.first()
	switch {
	case r == nil:
		return nil, noQueue
	case r.sh == nil || c.decide(r).step != doClaim || c.claimQueueFor(r) != q: // begin looks again
	case g != nil && !g.allows(r, q.id) || c.room() == nil:
		return nil, noQueue
	}
	return q.pop(), q.id
}

// allows says whether the claim of a resource that waits in a queue keeps within the ceiling.
func (g *ceiling) allows(r *resource, from queueID) bool {
	switch n := r.sh.number; {
	case from == claimQueue: // it takes room already
		return true
	case from == spareQueue && (n >= len(g.told) || !g.told[n]): // others may own it as soon as they are told
		return false
	}
	return g.used < g.most
}

// SetDeclined says which shards this member declines by the newest view, and for which ones no member has room: how
// many resources are wanted in these, and 0 for others. Each slice has one element for each shard, or none if there are
// no such shards.
func (c *Core) SetDeclined(now time.Duration, declined []bool, lack []int) {
	c.now = now
	if g := c.ceiling; g != nil {
		g.told, g.lack, g.stale = declined, lack, true
	}
}

// Declined returns the shards that this member declines to own, and for those of them that it owns all the same, and
// has no room for, how many resources are wanted in them. Each slice has one element for each shard, or is nil if there
// are no such shards. The slices are the caller's.
func (c *Core) Declined() (shards []bool, lacks []int) {
	g := c.ceiling
	if g == nil || !slices.Contains(g.declined, true) {
		return nil, nil
	}
	return slices.Clone(g.declined), slices.Clone(g.lacks)
}

// nextReview returns when the next review is due; ok is false if nothing has changed.
func (c *Core) nextReview() (at time.Duration, ok bool) {
	g := c.ceiling
	if g == nil || c.stopping {
		return 0, false
	}
	if g.stale {
		at, ok = g.next, true
	}
	for _, since := range []time.Duration{g.easy, g.short} {
		if again := max(g.next, since+g.pause); since != 0 && (!ok || again < at) {
			at, ok = again, true
		}
	}
	return max(at, c.now), ok
}

// shardRoom is how many resources are wanted in a shard, and how many of these take room.
type shardRoom struct{ shard, wanted, held int }

// review decides what is declined from now on, at most once in reviewEvery.
func (c *Core) review() {
	g := c.ceiling
	if at, ok := c.nextReview(); !ok || c.now < at {
		return
	}
	g.stale, g.next = false, c.now+reviewEvery
	for len(g.declined) < len(c.shards) {
		g.declined, g.sizes = append(g.declined, false), append(g.sizes, 0)
	}
	kept, spare, largest := c.shardRooms()
	wanted, spared, leaving := 0, 0, g.used
	for _, k := range kept {
		wanted += k.wanted
		leaving -= k.held
	}
	for _, k := range spare {
		spared += k.held
		leaving -= k.held
		g.sizes[k.shard] = k.wanted
	}
	changed, needed := false, wanted+spared+leaving
	if needed <= g.most || wanted+spared > g.most {
		g.short = 0
	} else if g.short == 0 {
		g.short = c.now
	}
	switch {
	case wanted > g.most:
		changed = c.decline(kept)
	case wanted+spared > g.most && !slices.Equal(g.told, g.declined): // others may take what this member declines
		g.easy = 0
	case wanted+spared > g.most, g.short != 0 && c.now >= g.short+g.pause:
		g.short = 0
		changed = c.declineUnfinished(kept, needed)
	case g.short == 0:
		changed = c.retake(spare, g.most-needed, largest)
	}
	if lacks := c.lacking(spare); changed || !slices.Equal(lacks, g.lacks) {
		g.lacks = lacks
		c.emit(Action{Kind: Decline})
	}
}

// lacking returns how many resources are wanted in the shards that this member declines and owns, if it has no room for
// all of these; nil if there are no such shards.
func (c *Core) lacking(spare []shardRoom) (lacks []int) {
	for _, k := range spare {
		if k.wanted > k.held && c.ceiling.declined[k.shard] {
			if lacks == nil {
				lacks = make([]int, len(c.shards))
			}
			lacks[k.shard] = k.wanted
		}
	}
	return lacks
}

// shardRooms returns the room of the shards in which anything belongs to this member: of those that it keeps, and of
// those that it declines. It also returns how much the largest of them needs.
func (c *Core) shardRooms() (kept, spare []shardRoom, largest int) {
	for n, sh := range c.shards {
		if sh == nil || !sh.isWanted() {
			continue
		}
		k := shardRoom{shard: n}
		for _, r := range sh.list {
			if r.seen.wanted && sh.owns(r.id) {
				if k.wanted++; r.counted.room {
					k.held++
				}
			}
		}
		if largest = max(largest, k.wanted); c.ceiling.declined[n] {
			spare = append(spare, k)
		} else {
			kept = append(kept, k)
		}
	}
	return kept, spare, largest
}

// decline declines the shards that do not fit, those first of which this member has the least, and all that it does not
// own: it has no room for them either.
func (c *Core) decline(kept []shardRoom) (changed bool) {
	g := c.ceiling
	g.easy = 0
	slices.SortStableFunc(kept, func(a, b shardRoom) int { return cmp.Compare(b.held, a.held) })
	sum := 0
	for _, k := range kept {
		if sum+k.wanted <= g.most {
			sum += k.wanted
			continue
		}
		g.declined[k.shard], g.sizes[k.shard], changed = true, k.wanted, true
		c.reconcileShard(c.shards[k.shard])
	}
	for n, sh := range c.shards {
		if (sh == nil || !sh.isWanted()) && !g.declined[n] {
			g.declined[n], g.sizes[n], changed = true, 0, true
		}
	}
	return changed
}

// declineUnfinished declines shards of which this member does not have all, until what it needs for the rest fits
// beside what it has of shards that it declines already. If others have no room for them either, nothing moves.
func (c *Core) declineUnfinished(kept []shardRoom, sum int) (changed bool) {
	g := c.ceiling
	g.easy = 0
	slices.SortStableFunc(kept, func(a, b shardRoom) int { return cmp.Compare(a.held, b.held) })
	for _, k := range kept {
		if sum > g.most && k.held < k.wanted {
			g.declined[k.shard], g.sizes[k.shard], changed = true, k.wanted, true
			sum -= k.wanted - k.held
			c.reconcileShard(c.shards[k.shard])
		}
	}
	return changed
}

// retake takes shards back, after there has been room for a while: first those that it owns, since no other member
// takes them, then those for which their owners have no room, and then those that others have. Of the last it takes
// none that would make it nearly full again, and it takes them for as large as the largest of those that it owns, or as
// they were when it had them: so nothing goes to and fro.
func (c *Core) retake(spare []shardRoom, room, largest int) (changed bool) {
	g := c.ceiling
	if !slices.Contains(g.declined, true) {
		g.easy = 0
		return false
	}
	if g.easy == 0 {
		g.easy = c.now
	}
	if c.now < g.easy+g.pause {
		return false
	}
	take := func(n, size, free int) {
		if g.declined[n] && size <= room-free {
			g.declined[n], changed = false, true
			room -= size
		}
	}
	for _, k := range spare {
		take(k.shard, max(k.wanted-k.held, 0), 0)
	}
	for _, others := range []bool{false, true} {
		for i := range g.declined {
			n := (g.cursor + i) % len(g.declined)
			size := 0
			if n < len(g.lack) {
				size = g.lack[n]
			}
			if sh := c.shards[n]; sh != nil && sh.owned || others != (size == 0) {
				continue
			}
			if free := g.most / 10; others {
				take(n, max(g.sizes[n], largest, 1), free)
			} else {
				take(n, size, 0)
			}
		}
	}
	if changed {
		g.cursor++
		for _, k := range spare {
			if !g.declined[k.shard] {
				c.reconcileShard(c.shards[k.shard])
			}
		}
	}
	if !changed || !slices.Contains(g.declined, true) { // nothing more can be taken back before something changes
		g.easy = 0
	}
	return changed
}

// audit compares the count of the room that is used with a new one. Audit calls it.
func (g *ceiling) audit(used int) error {
	if g != nil && used != g.used {
		return fmt.Errorf("%d resources take room, counted %d", used, g.used)
	}
	return nil
}
