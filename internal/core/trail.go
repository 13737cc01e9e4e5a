package core

import (
	"math"
	"time"
)

// line says whether the trail of a resource's bundle lists the resource, and why.
type line uint8

const (
	unlisted line = iota
	toList        // it is to begin soon, and the next write of the trail lists it
	listing       // the write of the trail that is on its way lists it
	listed        // etcd's trail lists it: it may begin
	running       // Handle or Update is in progress
	young         // Handle or Update has returned a short time ago
)

// isAhead says whether the trail lists a resource that has not begun yet, or soon will.
func (l line) isAhead() bool { return l == toList || l == listing || l == listed }

// trail is the key of a bundle that names the resources which may be to blame if this member's process dies now: those
// whose Handle or Update runs, is about to run, or has returned a short time ago. Handle and Update begin only when
// etcd's trail lists their resource. The key is not on a lease, so it is still there when the process is dead. Each
// write of it compares the mod revision that this member knows, so that a write whose answer was lost cannot undo a
// later one.
type trail struct {
	sh         *shard
	b          *bundle
	lines      []*resource
	dropped    int           // how many of lines are not listed any more
	bytes      int           // of the ids of the others
	mod        int64         // the mod revision of etcd's key, as far as known; 0: there is none
	rev        int64         // the revision at which this was so; older news is ignored
	news       int64         // the mod revision that a watch told of while a write was on its way
	newsAt     int64         // the revision of that news; 0: there was none
	writing    bool          // a write is on its way
	stale      bool          // etcd's key has to be written again
	foreign    bool          // somebody else has written or deleted it, so that nobody knows what it lists
	touched    bool          // it is in Core.touched
	uncertain  bool          // the answer to a write was lost: it may still be applied until certainAt
	certainAt  time.Duration // from then on, no such write can be applied any more
	conclusive bool          // the write on its way was sent after certainAt: its answer is certain
	after      time.Duration // no write before this time
	failures   uint16        // failures of writes in a row
	deletes    bool          // the write that is on its way deletes the key
	armed      time.Duration // when the timer fires that looks for what is not young any more; 0: none is set
}

const (
	// trailBytes is how many bytes the ids of a trail may have: far less than etcd takes in a request. What does not
	// fit waits until others are not young any more.
	trailBytes = 256 << 10
	// ticks is how many ticks of the clock by which resources stop being young there are in Config.Young.
	ticks = 64
)

// keepsTrails says whether the core keeps trails.
func (c *Core) keepsTrails() bool { return c.cfg.QuarantineAfter > 0 }

// tick returns the number of the present tick. It begins anew after 65,536; nothing is young for so long.
func (c *Core) tick() uint16 { return uint16(c.now / c.tickLength()) }

func (c *Core) tickLength() time.Duration { return max(1, c.cfg.Young/ticks) }

// isOver says whether a young resource is not young any more.
func (c *Core) isOver(r *resource) bool { return c.tick()-r.left > ticks }

// setLine changes what the trail says of r.
func (c *Core) setLine(r *resource, to line) {
	was := r.counted.line
	if was == to {
		return
	}
	if was.isAhead() != to.isAhead() {
		c.countAhead(r, to.isAhead())
	}
	r.counted.line = to
	if to == young {
		r.left = c.tick()
		c.arm(c.trailOf(r))
	}
}

// countAhead counts a resource that the trail lists before it begins, or counts it no more.
func (c *Core) countAhead(r *resource, is bool) {
	n := &c.trails.ahead
	if r.phase == claiming {
		n = &c.trails.claiming
	}
	if is {
		*n++
	} else {
		*n--
	}
}

// endClaiming notes that the claim of r is not on its way any more.
func (c *Core) endClaiming(r *resource) {
	if r.counted.line.isAhead() {
		c.trails.claiming--
		c.trails.ahead++
	}
	r.phase = idle
}

// list makes the trail of r's bundle list r with its next write. It returns false if there is no room in the trail.
func (c *Core) list(r *resource) bool {
	b := r.sh.bundle(r.claim.lease)
	t := b.trail
	if t == nil {
		t = &trail{sh: r.sh, b: b}
		b.trail = t
		c.trails.open++
	}
	if t.bytes > 0 && t.bytes+len(r.id) > trailBytes {
		c.wake(c.now + c.tickLength())
		return false
	}
	if t.dropped > 0 {
		t.compact()
	}
	t.lines = append(t.lines, r)
	t.bytes += len(r.id)
	c.setLine(r, toList)
	t.stale = true
	c.touch(t)
	return true
}

// has says whether the trail lists r, or soon will. lines may have resources that it does not list any more.
func (t *trail) has(r *resource) bool {
	return r.counted.line != unlisted && r.sh == t.sh && r.claim.lease == t.b.lease
}

// isEmpty says whether the trail lists nothing, so that etcd must not have it.
func (t *trail) isEmpty() bool { return len(t.lines) == t.dropped }

// trailOf returns the trail that lists r.
func (c *Core) trailOf(r *resource) *trail {
	if b := r.counted.bundle; b != nil && b.lease == r.claim.lease {
		return b.trail
	}
	return r.sh.findBundle(r.claim.lease).trail
}

// compact takes out what is not listed any more.
func (t *trail) compact() {
	kept := t.lines[:0]
	for _, r := range t.lines {
		if t.has(r) {
			kept = append(kept, r)
		}
	}
	clear(t.lines[len(kept):])
	t.lines, t.dropped = kept, 0
}

// unlist takes r out of the trail of the bundle on a lease: its claim ends while this process lives, so that it is not
// to blame for what happens afterwards. etcd is told at once, since another claim of r may begin soon.
func (c *Core) unlist(r *resource, lease int64) {
	if r.counted.line == unlisted {
		return
	}
	t := r.sh.findBundle(lease).trail
	c.strike(t, r)
	if t.isEmpty() {
		t.lines, t.dropped = nil, 0
	}
	c.rewrite(t)
	c.leaveProbation(r)
	c.leaveIsolation(r)
}

// strike takes a line out of a trail. The caller sees to it that etcd is told.
func (c *Core) strike(t *trail, r *resource) {
	c.setLine(r, unlisted)
	t.bytes -= len(r.id)
	t.dropped++
}

// age notes that a resource which was to begin does not begin now. If etcd's trail lists it, it counts as young, and so
// may still begin for a while.
func (c *Core) age(r *resource) {
	switch r.counted.line {
	case listed:
		c.setLine(r, young)
	case toList, listing:
		t := c.trailOf(r)
		t.stale = t.stale || r.counted.line == listing
		c.strike(t, r)
		if t.isEmpty() {
			t.lines, t.dropped = nil, 0
		}
		c.touch(t)
		c.leaveIsolation(r)
	default:
		return
	}
	c.leaveProbation(r)
}

// begins notes that Handle or Update begins.
func (c *Core) begins(r *resource) {
	c.budgets.dismiss(r, c.now)
	if c.keepsTrails() {
		c.trails.pass(c.now, c.counts.handles)
		c.setLine(r, running)
	}
}

// returned notes that Handle or Update has returned, or was given up.
func (c *Core) returned(r *resource) {
	if r.counted.line != running {
		return
	}
	c.trails.pass(c.now, c.counts.handles+1)
	c.trails.returned()
	c.setLine(r, young)
	if c.isolation.r != r && c.suspicion(r) > 0 { // if this process dies soon, others are to blame more likely
		c.rewrite(c.trailOf(r))
	}
	c.leaveProbation(r)
	if c.isolation.r == r {
		c.isolation.returned = true
	}
}

// rewrite makes the next flush write a trail.
func (c *Core) rewrite(t *trail) {
	t.stale = true
	c.touch(t)
}

// touch makes pumpTrails look at a trail.
func (c *Core) touch(t *trail) {
	if !t.touched {
		t.touched = true
		c.touched = append(c.touched, t)
	}
}

// trails is what the core knows of all its trails together, and of how long calls of Handle and Update take.
type trails struct {
	open     int // how many there are
	ahead    int // how many resources they list that have a claim, and have not begun
	claiming int // how many resources they list whose claim is on its way

	busy  time.Duration // how long calls have taken, all together
	calls int           // how many calls these were
	at    time.Duration // up to when busy counts
}

// pass counts the time that n calls have run until now.
func (t *trails) pass(now time.Duration, n int) {
	t.busy += time.Duration(n) * (now - t.at)
	t.at = now
}

// returned counts a call that has returned. Old calls weigh less and less.
func (t *trails) returned() {
	const most = 2048
	if t.calls++; t.calls > most {
		t.calls, t.busy = t.calls/2, t.busy/2
	}
}

const (
	// soon is how long it may take, about, until something begins that a trail lists.
	soon = 200 * time.Millisecond
	// mostAhead is how many resources trails list that have not begun, at most.
	mostAhead = 8192
)

// lookAhead is how many resources trails list that have not begun yet, at most: as many as begin soon, by how long
// calls take, and in any case as many as may run at once.
func (c *Core) lookAhead() int {
	n := c.cfg.HandleConcurrency
	if t := &c.trails; t.calls > 0 {
		each := max(t.busy/time.Duration(t.calls), time.Microsecond)
		n = max(n, int(min(time.Duration(n)*soon/each, mostAhead)))
	}
	return n
}

// listWithClaim lists a resource together with its claim, if it will begin about as soon as the claim is there, so that
// no time is lost.
func (c *Core) listWithClaim(r *resource) {
	if c.keepsTrails() && c.budgets == nil && c.trails.claiming < c.lookAhead() && !c.holdsBack() &&
		c.suspicion(r) == 0 && r.sh.quarantines[r.id] == nil {
		c.list(r)
	}
}

// pumpTrails lists what will begin soon, and writes the trails that have to be written.
func (c *Core) pumpTrails() {
	if !c.keepsTrails() {
		return
	}
	c.judgeAll()
	c.judgeAgain()
	c.pumpIsolation()
	if most := c.lookAhead(); c.trails.ahead <= most/2 && !c.holdsBack() && !c.halted {
		c.listFresh(most)
		c.listSuspects(most)
	}
	for len(c.touched) > 0 {
		touched := c.touched
		c.touched = nil
		for _, t := range touched {
			t.touched = false
			c.flush(t)
		}
	}
}

// listFresh lists resources that nobody suspects.
func (c *Core) listFresh(most int) {
	for c.trails.ahead < most {
		r := c.fresh.pop()
		if r == nil {
			return
		}
		if !c.stillWaits(r, freshQueue) {
			continue
		}
		if !c.list(r) {
			c.fresh.push(r)
			return
		}
		r.queued = listedQueue
	}
}

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
	case res.Unknown || res.Failed || res.LeaseGone:
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
	if t.conclusive && !res.Unknown && !res.Failed && !res.LeaseGone {
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

// arm sets the timer that looks for what is not young any more.
func (c *Core) arm(t *trail) {
	if t.armed == 0 {
		length := c.tickLength()
		t.armed = (c.now/length + ticks + 1) * length
		c.timers.addTrail(t, t.armed)
	}
}

// trailDue does what was to be done for a trail at this time.
func (c *Core) trailDue(t *trail) {
	if t.b.trail != t {
		return
	}
	c.touch(t)
	if t.armed == 0 || c.now < t.armed {
		return
	}
	t.armed = 0
	over, first, last := 0, uint16(0), uint16(math.MaxUint16)
	for _, r := range t.lines {
		switch age := c.tick() - r.left; {
		case r.counted.line != young || !t.has(r):
		case age > ticks:
			over++
		default:
			first, last = max(first, age), min(last, age)
		}
	}
	next := time.Duration(ticks+1-first) * c.tickLength()
	switch {
	case last == math.MaxUint16:
		next = 0
	case over > 0 && ticks-last <= ticks/10: // they are over soon too: one write does for all
		next, over = time.Duration(ticks+1-last)*c.tickLength(), 0
	}
	if over > 0 {
		c.expire(t)
		t.stale = true
	}
	if next > 0 && t.b.trail == t {
		t.armed = (c.now/c.tickLength())*c.tickLength() + next
		c.timers.addTrail(t, t.armed)
	}
}

// expire takes out of a trail what is not young any more: whatever Handle began there, this process has survived it.
func (c *Core) expire(t *trail) {
	for _, r := range t.lines {
		if r.counted.line == young && t.has(r) && c.isOver(r) {
			c.strike(t, r)
			c.survived(r)
		}
	}
	if t.isEmpty() {
		t.lines, t.dropped = nil, 0
	}
}

// clearTrails reports whether nothing is left in etcd of this member's trails of a shard, before the shard is no longer
// followed.
func (c *Core) clearTrails(sh *shard) bool {
	for _, b := range sh.bundles {
		if b.trail != nil {
			c.touch(b.trail)
			return false
		}
	}
	return true
}
