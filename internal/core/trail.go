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
	c.rewrite(t)
	return true
}

// has says whether the trail lists r, or soon will. lines may have resources that it does not list any more.
func (t *trail) has(r *resource) bool {
	return r.counted.line != unlisted && r.sh == t.sh && r.claim.lease == t.b.lease
}

// isListed says whether etcd's trail is known to list a resource that is young.
func (c *Core) isListed(r *resource) bool { return !c.trailOf(r).foreign }

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
	c.rewrite(t)
	c.leaveProbation(r)
	c.leaveIsolation(r)
}

// strike takes a line out of a trail. The caller sees to it that etcd is told.
func (c *Core) strike(t *trail, r *resource) {
	c.setLine(r, unlisted)
	t.bytes -= len(r.id)
	if t.dropped++; t.isEmpty() {
		t.lines, t.dropped = nil, 0
	}
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
