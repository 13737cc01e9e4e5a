package core

import "time"

// Core is the state machine of one member. New makes one.
type Core struct {
	cfg    Config
	now    time.Duration
	shards []*shard // by number; nil where not followed
	leases map[int64]*leaseState
	fill   *leaseState // the lease that new claims go to
	asked  bool        // NeedLease is unanswered

	urgent, terminates, handles, claims queue
	states                              stateQueue
	timers                              timers
	out, spare                          []Action

	stopping bool
	halted   bool // no call begins any more
	paused   bool // nothing is claimed
	engaged  int  // resources that something is held of, or in progress
	handling int  // Handle and Update calls in progress
	ending   int  // Terminate calls in progress
	tardy    int  // of them: those that have taken long already
	claiming int  // claims on their way
	releases int  // releases on their way
	offers   int  // released, and not claimed by anyone yet
	alone    bool // there is nobody to take them
	untaken  bool // the last offer that ended did so by its time: nobody may be there to take them
	pace     pace // how many may be on their way to the next owner
	stuck    int
	hasty    bool                 // no call's outcome is waited for any more
	notes    map[*resource]string // what is said of calls in progress that take long
}

// New makes a Core that owns nothing yet.
func New(cfg Config) *Core {
	return &Core{
		cfg: cfg, leases: map[int64]*leaseState{},
		urgent: queue{id: urgentQueue}, terminates: queue{id: terminateQueue}, handles: queue{id: handleQueue},
		claims: queue{id: claimQueue}, notes: map[*resource]string{},
	}
}

// Actions returns what is to be done since the last call, in order. The slice is the caller's until the call after the
// next one: two take turns, since a member that starts has a hundred thousand actions in a second.
func (c *Core) Actions() []Action {
	c.pump()
	out := c.out
	for i := range out { // only now: a shard that a dead member had is vacant when the last of its claims is seen to be gone
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

// keepActions is the most room that is kept for actions when they have been done.
const keepActions = 4096

// NextTimer returns when Tick is due; ok is false where nothing waits for time to pass.
func (c *Core) NextTimer() (at time.Duration, ok bool) { return c.timers.next() }

// Tick does what waited for the time to be now.
func (c *Core) Tick(now time.Duration) {
	c.now = now
	for {
		due, ok := c.timers.pop(now)
		switch {
		case !ok:
			return
		case due.sh != nil:
			c.unwatchIfDone(due.sh)
		case due.l != nil:
			c.giveBack(due.l)
		default:
			c.reconcile(due.r)
		}
	}
}

// SetAlone says whether there is nobody else in the group who could take over what this member lets go of. Then nothing is
// gained by going about it slowly, and nothing is lost by going about it fast.
func (c *Core) SetAlone(now time.Duration, alone bool) { c.now, c.alone = now, alone }

// SetOwned says which shards are this member's from now on: owned has one element a shard. After Stop it is ignored.
func (c *Core) SetOwned(now time.Duration, owned []bool) {
	c.now = now
	if c.stopping {
		return
	}
	for len(c.shards) < len(owned) {
		c.shards = append(c.shards, nil)
	}
	for n, mine := range owned {
		sh := c.shards[n]
		if mine == (sh != nil && sh.owned) {
			continue
		}
		if sh == nil {
			sh = &shard{number: n, byID: map[string]*resource{}}
			c.shards[n] = sh
			c.emit(Action{Kind: Watch, Shard: n})
		}
		sh.owned = mine
		c.reconcileShard(sh)
	}
}

// Knows says whether a shard is followed in which there is anything, as far as known: an entry, a claim, or what this member
// still has to do.
func (c *Core) Knows(number int) bool {
	return number < len(c.shards) && c.shards[number] != nil && len(c.shards[number].list) > 0
}

// PauseClaims says whether nothing new is to be claimed for now: shards that are owned are followed, and what is held goes on.
func (c *Core) PauseClaims(now time.Duration, held bool) {
	c.now = now
	if c.paused == held {
		return
	}
	if c.paused = held; held {
		return
	}
	for _, sh := range c.shards {
		if sh != nil && sh.owned {
			c.reconcileShard(sh)
		}
	}
}

// Stop makes everything be terminated and released; nothing is claimed any more, and no shard is owned.
func (c *Core) Stop(now time.Duration) {
	c.now = now
	if c.stopping {
		return
	}
	c.stopping = true
	for _, sh := range c.shards {
		if sh != nil {
			sh.owned = false
			c.reconcileShard(sh)
		}
	}
}

// Idle reports whether nothing is held and nothing is in progress. After Stop it stays so, except that a claim whose
// answer was lost may still appear; it is released then, or goes with its lease. Calls that were given up do not count:
// there is nothing to wait for.
func (c *Core) Idle() bool { return c.engaged == 0 }

// Hasten waits for the outcome of no Handle or Update any more, where Config.FinishCalls did so far: what is left of the
// member's time is Terminate's. It is for after Stop.
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

// Halt lets no call begin any more. It is for after Stop: the member's time is up, and what has not been terminated is left
// behind.
func (c *Core) Halt() { c.halted = true }

// Quiet reports whether no call and no release is in progress, those aside that were given up. It is for after Halt.
func (c *Core) Quiet() bool { return c.handling+c.ending+c.releases == 0 }

// Snapshot replaces what is known of a shard by what was listed at a revision.
func (c *Core) Snapshot(now time.Duration, number int, revision int64, entries []Entry, claims []ClaimKey, summaries []SummaryKey) {
	sh := c.at(now, number)
	if sh == nil {
		return
	}
	sh.gen++
	if len(sh.list) == 0 {
		sh.byID, sh.list = make(map[string]*resource, len(entries)), make([]*resource, 0, len(entries))
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

// EntryPut says that the catalogue has this entry now.
func (c *Core) EntryPut(now time.Duration, number int, e Entry) {
	if sh := c.at(now, number); sh != nil {
		r := sh.get(e.ID)
		c.putEntry(r, e)
		c.reconcile(r)
	}
}

// EntryDeleted says that the catalogue has no such entry now.
func (c *Core) EntryDeleted(now time.Duration, number int, id string) {
	if r := c.find(now, number, id); r != nil {
		r.seen.wanted = false
		c.reconcile(r)
	}
}

// ClaimPut says that a claim's key is this now.
func (c *Core) ClaimPut(now time.Duration, number int, k ClaimKey) {
	if sh := c.at(now, number); sh != nil {
		r := sh.get(k.ID)
		r.seeClaim(k.Token, k.Lease, k.ModRevision)
		c.reconcile(r)
	}
}

// ClaimDeleted says that a claim's key was deleted, or expired, at a revision.
func (c *Core) ClaimDeleted(now time.Duration, number int, id string, revision int64) {
	if r := c.find(now, number, id); r != nil {
		r.seeClaim(0, 0, revision)
		c.reconcile(r)
	}
}

func (c *Core) putEntry(r *resource, e Entry) {
	if r.seen.takeEntry(e, r.sh.gen) {
		r.handling.retryHandleAtOnce() // what failed with the old data may work with the new
	}
}

func (c *Core) at(now time.Duration, number int) *shard {
	c.now = now
	if number < 0 || number >= len(c.shards) {
		return nil
	}
	return c.shards[number]
}

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

// unwatchIfDone stops following a shard that is another's and in which this member has nothing any more.
func (c *Core) unwatchIfDone(sh *shard) {
	if sh.owned || sh.busy > 0 || c.shards[sh.number] != sh || !c.clearSummaries(sh) {
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

// Handled lists what the handler has under valid claims.
func (c *Core) Handled() []Handled {
	var held []Handled
	for _, sh := range c.shards {
		if sh == nil {
			continue
		}
		for _, r := range sh.list {
			if c.isHandled(r) {
				held = append(held, Handled{ID: r.id, Shard: sh.number, Token: r.claim.token, Since: r.told.since, Ailing: r.handling.ailing, Err: r.told.err})
			}
		}
	}
	return held
}

func (c *Core) isHandled(r *resource) bool {
	if !r.claimed() || !r.handling.started || r.handling.dirty || c.isVoid(r) {
		return false
	}
	return !r.phase.isCall() || r.phase == callingUpdate
}

// Stats counts.
func (c *Core) Stats() Stats {
	s := Stats{
		Calls: c.handling + c.ending, Stuck: c.stuck,
		Waiting: c.handles.waiting() + c.terminates.waiting() + c.urgent.waiting(),
	}
	for _, sh := range c.shards {
		if sh == nil {
			continue
		}
		s.Shards++
		s.Known += len(sh.list)
		for _, r := range sh.list {
			if !r.claimed() {
				continue
			}
			s.Claims++
			switch {
			case c.isHandled(r) && !r.handling.ailing:
				s.Active++
			case r.told.state == StateFailed:
				s.Failed++
			}
		}
	}
	return s
}

// Left says, of what a member still has, why it has not been let go of.
type Left struct {
	Claims     int // in all; each counts in one of the others
	Calling    int // a call is in progress
	Stuck      int // a call was given up, and has not returned
	Failing    int // Terminate failed, and the claim is held until it succeeds
	Waiting    int // Terminate has not been called: there was no place, or no time
	Unreleased int // the handler has nothing of it; etcd has not deleted the claim

	Calls int // that have not returned, also of what there is no claim of any more
}

// Left counts what is left.
func (c *Core) Left() Left {
	l := Left{Calls: c.handling + c.ending + c.stuck}
	for _, sh := range c.shards {
		if sh == nil {
			continue
		}
		for _, r := range sh.list {
			if !r.claimed() {
				continue
			}
			l.Claims++
			switch {
			case r.handling.stuck:
				l.Stuck++
			case r.phase.isCall():
				l.Calling++
			case r.handling.started && r.handling.terminateFailures > 0:
				l.Failing++
			case r.handling.started:
				l.Waiting++
			default:
				l.Unreleased++
			}
		}
	}
	return l
}
