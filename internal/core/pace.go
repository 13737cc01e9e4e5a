package core

import "time"

// pace says how many resources may be on their way to the next owner at once. How long it takes until one is there decides
// it, so what etcd's answers cost, and whether the next owner keeps up: while that is short, more; when it is long, half as
// many. All members ask the same etcd and see it slow down together, so those that leave at the same time share what it can
// do, though none of them knows how many they are. What waits for its turn is handled meanwhile, and keepalives do not wait
// behind thousands of releases.
//
// Terminate counts too, since a release follows it. Where it takes long itself there is no hurry in what follows, and as
// many more may be in it: one that has taken long already does not count any more.
type pace struct {
	size    int           // how many just now; 0: nothing is known yet
	doubles bool          // none has taken long so far: each doubles size
	ending  float64       // how many are in Terminate for each that is on its way after that
	fastest time.Duration // answer to a claim or a release so far; 0: there was none
	heard   time.Duration // when the last one was there
	timed   *resource     // which is timed; nil: none is
	began   time.Duration // when its Terminate began, or its release was sent
	sent    time.Duration // when its release was sent; 0: it has not been
}

const (
	// paceForgets is for how long what was learned counts when nothing is handed over.
	paceForgets = time.Minute
	// slowRatio is how many times as long as etcd's fastest answer it takes at least to be slow. Four ways to etcd or back
	// make two answers: the release's, the news of it, the next owner's claim, the news of that.
	slowRatio = 8
	// paceBegins is which part of ReleaseLeast the first ones are, of which it is not known yet how long they take.
	paceBegins = 4
)

// limit is how many resources may be on their way now, those in Terminate included.
func (c *Core) limit() int {
	p, most := &c.pace, c.cfg.ReleaseBacklog
	if c.cfg.ReleaseSlow <= 0 {
		return most
	}
	timing := p.timing()
	if p.size == 0 || !timing && c.now-p.heard > paceForgets {
		p.size, p.doubles, p.ending, p.heard = min(max(1, c.cfg.ReleaseLeast/paceBegins), most), true, 0, c.now
	}
	if timing && p.sent == 0 && c.now-p.began >= c.cfg.ReleaseSlow {
		return most // Terminate is what takes long
	}
	return int(min(float64(p.size)*(1+p.ending), float64(most)))
}

// timing says whether one is timed that is still on its way.
func (p *pace) timing() bool {
	r := p.timed
	if r != nil && (r.sh == nil || r.phase != releasing && r.claim.offered == 0 && (r.phase != callingTerminate)) {
		p.timed = nil // it was not released after all
	}
	return p.timed != nil
}

// timeEnd notes that Terminate begins. One at a time is timed, so that size changes once in the time that one takes.
func (c *Core) timeEnd(r *resource) {
	if p := &c.pace; c.cfg.ReleaseSlow > 0 && !p.timing() {
		p.timed, p.began, p.sent = r, c.now, 0
	}
}

// wakeTardy has r looked at again when its Terminate has taken long, and counts it as one that has: it does not stand in the
// way of others then. Nor does it say anything of them, if it is the one that is timed.
func (c *Core) wakeTardy(r *resource) {
	if c.cfg.ReleaseSlow <= 0 || r.phase != callingTerminate || r.counted.tardy {
		return
	}
	if at := r.handling.terminateAt + c.cfg.ReleaseSlow; c.now < at {
		c.wakeAt(r, at)
		return
	}
	r.counted.tardy = true
	c.tardy++
}

// timeRelease notes that a release is sent.
func (c *Core) timeRelease(r *resource) {
	p := &c.pace
	switch {
	case p.timed == r:
		p.sent = c.now
	case c.cfg.ReleaseSlow > 0 && !p.timing():
		p.timed, p.began, p.sent = r, c.now, c.now
	}
}

// answered takes note of how soon etcd answered a claim or a release.
func (p *pace) answered(took time.Duration) {
	if p.fastest == 0 || took < p.fastest {
		p.fastest = max(took, 1)
	}
}

// timed takes note of how long it took until a resource was with its next owner, or released, where there is none. One that
// was not taken, or released without an answer, counts as slow.
func (c *Core) timed(r *resource, done bool) {
	p := &c.pace
	if p.timed != r {
		return
	}
	most := c.cfg.ReleaseBacklog
	least, took := min(c.cfg.ReleaseLeast, most), max(c.now-p.sent, time.Microsecond)
	p.timed, p.heard, p.ending = nil, c.now, float64(p.sent-p.began)/float64(took)
	switch {
	case !done || took > max(c.cfg.ReleaseSlow, slowRatio*p.fastest):
		p.size, p.doubles = max(p.size/2, least), false
	case p.doubles:
		p.size = min(2*p.size, most)
	default:
		p.size = min(p.size+max(1, most/16), most)
	}
}
