package core

import (
	"maps"
	"time"
)

// Core is the state machine of one member. New makes one.
type Core struct {
	cfg    Config
	now    time.Duration
	shards []*shard // by number; nil for a shard that is not followed
	leases map[int64]*leaseState
	fill   *leaseState // the lease that new claims go to
	asked  bool        // NeedLease is unanswered

	urgent, terminates, handles, claims queue
	fresh, suspects, isolate, isolated  queue
	states                              stateQueue
	timers                              timers
	out, spare                          []Action

	paused   bool // claims are paused: nothing new is claimed
	alone    bool // no other member could take over what this one releases
	stopping bool // Stop was called
	hasty    bool // Hasten was called: the core waits for no call's outcome any more
	halted   bool // Halt was called: no call begins any more

	budgets  *budgets // nil: no rate bounds Handle
	ceiling  *ceiling // nil: this member may have any number of claims
	counts   counts
	untaken  bool                 // nobody took the last offer in time, so that perhaps nobody is there to take any
	pace     pace                 // how many resources may be on their way to their next owners
	relapses map[*resource]uint16 // of what broke (Broke): how often it did so in a row, without a long time in between
	notes    map[*resource]string // of calls that take long, or that wait long: what the claim's key must say

	trails    trails
	touched   []*trail // those that may have to be written
	unjudged  []*shard // those about whose accusers something has changed
	probation probation
	isolation isolation
	crowd     crowd
	woken     time.Duration // when the timer fires that was set by wake
}

// counts are brought up to date with every change, so that no decision has to go through all resources.
type counts struct {
	engaged    int // resources that are engaged (resource.isEngaged)
	handles    int // calls of Handle and Update in progress
	terminates int // calls of Terminate in progress
	tardy      int // of these: calls that have taken long already
	stuck      int // calls that were given up and have not returned
	claims     int // claims on their way to etcd
	releases   int // releases on their way to etcd
	offers     int // resources that were released, and that nobody has claimed yet
}

// New makes a Core that owns nothing yet.
func New(cfg Config) *Core {
	return &Core{
		cfg: cfg, leases: map[int64]*leaseState{},
		urgent: queue{id: urgentQueue}, terminates: queue{id: terminateQueue}, handles: queue{id: handleQueue},
		claims: queue{id: claimQueue}, relapses: map[*resource]uint16{},
		fresh: queue{id: freshQueue}, suspects: queue{id: suspectQueue},
		isolate: queue{id: isolateQueue}, isolated: queue{id: isolatedQueue},
		notes: map[*resource]string{}, probation: probation{}, crowd: crowd{of: map[*resource]int{}},
		budgets: newBudgets(&cfg), ceiling: newCeiling(&cfg),
	}
}

// Actions returns the actions that were decided since the last call, in order. The caller may use the slice until the
// call after the next one: two slices take turns, since a member that starts has a hundred thousand actions in a
// second.
func (c *Core) Actions() []Action {
	c.pump()
	out := c.out
	for i := range out {
		// Vacant is decided as late as this, since a dead member's shard becomes vacant when its last claim is gone.
		if a := &out[i]; a.Kind == Claim {
			sh := c.shards[a.Shard]
			a.Vacant = sh != nil && sh.claims == 0
		}
	}
	c.out, c.spare = c.spare[:0], out
	if cap(c.out) > keepActions {
		c.out = nil
	}
	return out
}

// keepActions is the capacity, in actions, up to which a slice of actions is used again. A process may have hundreds of
// members that had much to do only once, when they started.
const keepActions = 256

// NextTimer returns when Tick is due; ok is false if nothing waits for time to pass.
func (c *Core) NextTimer() (at time.Duration, ok bool) {
	at, ok = c.timers.next()
	for _, next := range []func() (time.Duration, bool){c.nextBudget, c.nextReview} {
		if earlier, has := next(); has && (!ok || earlier < at) {
			at, ok = earlier, true
		}
	}
	return at, ok
}

// Tick takes the steps that are due at this moment.
func (c *Core) Tick(now time.Duration) {
	c.now = now
	c.budgets.grow(now)
	c.review()
	for {
		due, ok := c.timers.pop(now)
		switch {
		case !ok:
			return
		case due.sh != nil:
			c.judgeLater(due.sh)
			c.unwatchIfDone(due.sh)
		case due.t != nil:
			c.trailDue(due.t)
		case due.l != nil:
			c.giveBack(due.l)
		case due.r == nil: // pump looks what is due
		default:
			c.reconcile(due.r)
		}
	}
}

// SetAlone says whether no other member could take over what this one releases. Then the core releases as fast as it
// can, since nothing is gained by releasing slowly.
func (c *Core) SetAlone(now time.Duration, alone bool) { c.now, c.alone = now, alone }

// Exceptions says of resources that do not belong to the owners of their shards, by shard and id, whether they belong
// to this member.
type Exceptions map[int]map[string]bool

// SetOwned says which shards this member owns from now on: owned has one element for each shard. moved has exceptions
// from that; the Core keeps it, so the caller must not change it afterwards. After Stop both are ignored.
func (c *Core) SetOwned(now time.Duration, owned []bool, moved Exceptions) {
	c.now = now
	if c.stopping {
		return
	}
	for len(c.shards) < len(owned) {
		c.shards = append(c.shards, nil)
	}
	for n, mine := range owned {
		sh, exceptions := c.shards[n], moved[n]
		guests := hasAny(exceptions)
		switch {
		case sh == nil && !mine && !guests:
			continue
		case sh == nil:
			sh = &shard{number: n, byID: map[string]*resource{}}
			c.shards[n] = sh
			c.emit(Action{Kind: Watch, Shard: n})
		case mine == sh.owned && maps.Equal(exceptions, sh.moved):
			continue
		}
		sh.owned, sh.moved, sh.guests = mine, exceptions, guests
		c.ceiling.touch()
		if len(sh.accusers)+len(sh.quarantines) > 0 {
			c.judgeLater(sh)
		}
		c.reconcileShard(sh)
	}
}

// hasAny says whether any resource of a shard was moved to this member.
func hasAny(exceptions map[string]bool) bool {
	for _, mine := range exceptions {
		if mine {
			return true
		}
	}
	return false
}

// Knows says whether a shard is followed and anything is known of it: an entry, a claim, or something that this member
// still has to do.
func (c *Core) Knows(number int) bool {
	return number < len(c.shards) && c.shards[number] != nil && len(c.shards[number].list) > 0
}

// PauseClaims says whether claims are paused: then nothing new is claimed, but shards that are owned are followed, and
// what is claimed already is handled on.
func (c *Core) PauseClaims(now time.Duration, paused bool) {
	c.now = now
	if c.paused == paused {
		return
	}
	c.paused = paused
	for _, sh := range c.shards { // a pause concerns claims whose answers were lost: these are asked for now
		if sh != nil && sh.isWanted() {
			c.reconcileShard(sh)
		}
	}
}

// Stop begins to terminate and release everything. Nothing is claimed any more, and no shard is owned.
func (c *Core) Stop(now time.Duration) {
	c.now = now
	if c.stopping {
		return
	}
	c.stopping = true
	for _, sh := range c.shards {
		if sh != nil {
			sh.owned, sh.moved, sh.guests = false, nil, false
			c.reconcileShard(sh)
		}
	}
}

// Idle reports whether this member has no claim, no trail, nothing in progress, and no Terminate to call. After Stop it
// stays so, except that a claim whose answer was lost may still appear: it is released then, or goes with its lease.
// Calls that were given up do not count, since waiting for them is of no use.
func (c *Core) Idle() bool { return c.counts.engaged == 0 && c.trails.open == 0 }

// Hasten ends the wait of Config.FinishCalls for the outcomes of Handle and Update, because Terminate needs the rest of
// the member's time. It is called after Stop.
func (c *Core) Hasten(now time.Duration) {
	c.now = now
	if c.hasty {
		return
	}
	c.hasty = true
	for _, sh := range c.shards {
		if sh != nil {
			c.reconcileShard(sh)
		}
	}
}

// Halt lets no call begin any more. It is called after Stop, when the member's time is up: what has not been terminated
// is left behind.
func (c *Core) Halt() { c.halted = true }

// Quiet reports whether no call and no release is in progress; calls that were given up do not count. It is called
// after Halt.
func (c *Core) Quiet() bool { return c.counts.handles+c.counts.terminates+c.counts.releases == 0 }

// Snapshot replaces what is known of a shard by a list of its keys at a revision.
func (c *Core) Snapshot(
	now time.Duration, number int, revision int64, entries []Entry, claims []ClaimKey, summaries []SummaryKey,
) {
	sh := c.at(now, number)
	if sh == nil {
		return
	}
	sh.gen++
	if len(sh.list) == 0 {
		sh.byID = make(map[string]*resource, len(entries))
		sh.list = make([]*resource, 0, len(entries))
	}
	for _, e := range entries {
		c.putEntry(sh.get(e.ID), e)
	}
	for _, k := range claims {
		r := sh.get(k.ID)
		r.seen.claimGen = sh.gen
		r.seeClaim(k.Token, k.Lease, revision)
	}
	sh.each(func(r *resource) {
		if r.seen.entryGen != sh.gen {
			r.seen.wanted = false
		}
		if r.seen.claimGen != sh.gen {
			r.seeClaim(0, 0, revision)
		}
		c.reconcile(r)
	})
	c.listSummaries(sh, revision, summaries)
	c.unwatchIfDone(sh)
}

// EntryPut says that the catalogue has this entry from now on.
func (c *Core) EntryPut(now time.Duration, number int, e Entry) {
	if sh := c.at(now, number); sh != nil {
		r := sh.get(e.ID)
		c.putEntry(r, e)
		c.reconcile(r)
	}
}

// EntryDeleted says that the catalogue has no entry of that id any more.
func (c *Core) EntryDeleted(now time.Duration, number int, id string) {
	if r := c.find(now, number, id); r != nil {
		r.seen.wanted = false
		if len(r.sh.accusers)+len(r.sh.quarantines) > 0 {
			c.judgeLater(r.sh)
		}
		c.reconcile(r)
	}
}

// ClaimPut says that a claim's key was put, and how it is from now on.
func (c *Core) ClaimPut(now time.Duration, number int, k ClaimKey) {
	if sh := c.at(now, number); sh != nil {
		r := sh.get(k.ID)
		r.seeClaim(k.Token, k.Lease, k.ModRevision)
		c.reconcile(r)
	}
}

// ClaimDeleted says that a claim's key was deleted, or expired with its lease, at a revision.
func (c *Core) ClaimDeleted(now time.Duration, number int, id string, revision int64) {
	if r := c.find(now, number, id); r != nil {
		r.seeClaim(0, 0, revision)
		c.reconcile(r)
	}
}

// putEntry takes over an entry of the catalogue.
func (c *Core) putEntry(r *resource, e Entry) {
	if r.seen.takeEntry(e, r.sh.gen) {
		if r.sh.quarantines[r.id] != nil {
			c.judgeLater(r.sh)
		}
		r.handling.retryHandleAtOnce() // what failed with the old data may work with the new
		delete(c.relapses, r)
	}
}

// at sets the time, and returns a shard; nil if it is not followed.
func (c *Core) at(now time.Duration, number int) *shard {
	c.now = now
	if number < 0 || number >= len(c.shards) {
		return nil
	}
	return c.shards[number]
}

// find sets the time, and returns a resource; nil if it is not known.
func (c *Core) find(now time.Duration, number int, id string) *resource {
	if sh := c.at(now, number); sh != nil {
		return sh.byID[id]
	}
	return nil
}

func (c *Core) emit(a Action) { c.out = append(c.out, a) }

func (c *Core) reconcileShard(sh *shard) {
	sh.each(c.reconcile)
	c.unwatchIfDone(sh)
}

// unwatchIfDone stops following a shard in which this member owns nothing, and has nothing any more.
func (c *Core) unwatchIfDone(sh *shard) {
	if sh.isWanted() || sh.busy > 0 || c.shards[sh.number] != sh || !c.clearTrails(sh) || !c.clearSummaries(sh) {
		return
	}
	for _, r := range sh.list {
		c.endWriting(r)
		r.sh = nil
	}
	sh.list = nil
	c.shards[sh.number] = nil
	c.emit(Action{Kind: Unwatch, Shard: sh.number})
}
