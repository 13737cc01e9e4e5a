package core

import "time"

// pace says how many resources may be on their way to their next owners at once. It measures how long it takes until a
// resource is with its next owner, which depends on how fast etcd answers, and on whether the next owner keeps up.
// While that is short, the number grows; when it is long, the number is halved. All members ask the same etcd and see
// it slow down together, so members that leave at the same time share what etcd can do, though none of them knows how
// many they are. A resource that waits for its turn is handled meanwhile, and keepalives do not wait behind thousands
// of releases.
//
// Calls of Terminate count too, since a release follows each. A Terminate that takes long asks nothing of etcd
// meanwhile, so calls that have taken long already do not count.
type pace struct {
	size    int           // how many resources may be on their way after Terminate; 0: nothing is known yet
	doubles bool          // no resource has taken long so far, so each one that is quick doubles size
	ending  float64       // how many resources are in Terminate for each one that is on its way after it
	fastest time.Duration // etcd's fastest answer to a claim or a release so far; 0: there was none
	heard   time.Duration // when the last timed resource was with its next owner
	timed   *resource     // the resource that is timed; nil: none is
	began   time.Duration // when its Terminate began; if it had none, when its release was sent
	sent    time.Duration // when its release was sent; 0: it has not been
}

const (
	// paceForgets is how long size stays in force while nothing is handed over.
	paceForgets = time.Minute
	// slowRatio is how many times as long as etcd's fastest answer a resource must take to count as slow. An answer is
	// two ways, to etcd and back. A handover that is not slow takes four: the release, the event that tells of it, the
	// next owner's claim, and the event that tells of that.
	slowRatio = 8
	// paceBegins is the part of ReleaseLeast that the first resources get, while it is not known how long they take:
	// one in paceBegins.
	paceBegins = 4
)

// limit returns how many resources may be on their way now, including those in Terminate.
func (c *Core) limit() int {
	p, most := &c.pace, c.cfg.ReleaseBacklog
	if c.cfg.ReleaseSlow <= 0 {
		return most
	}
	timing := p.timing()
	if p.size == 0 || !timing && c.now-p.heard > paceForgets {
		p.size = min(max(1, c.cfg.ReleaseLeast/paceBegins), most)
		p.doubles, p.ending, p.heard = true, 0, c.now
	}
	if timing && p.sent == 0 && c.now-p.began >= c.cfg.ReleaseSlow {
		return most // it is Terminate that takes long
	}
	return int(min(float64(p.size)*(1+p.ending), float64(most)))
}

// timing says whether a resource is being timed and still on its way.
func (p *pace) timing() bool {
	r := p.timed
	if r != nil && (r.sh == nil || r.phase != releasing && r.claim.offered == 0 && r.phase != callingTerminate) {
		p.timed = nil // it was not released after all
	}
	return p.timed != nil
}

// timeEnd takes note that Terminate begins. One resource is timed at a time, so that size changes once in the time
// that one takes.
func (c *Core) timeEnd(r *resource) {
	if p := &c.pace; c.cfg.ReleaseSlow > 0 && !p.timing() {
		p.timed, p.began, p.sent = r, c.now, 0
	}
}

// wakeTardy counts r as tardy if its Terminate has taken long, and else sets a timer to look at it again. A tardy
// call does not keep others from ending.
func (c *Core) wakeTardy(r *resource) {
	if c.cfg.ReleaseSlow <= 0 || r.phase != callingTerminate || r.counted.tardy {
		return
	}
	if at := r.handling.terminateAt + c.cfg.ReleaseSlow; c.now < at {
		c.wakeAt(r, at)
		return
	}
	r.counted.tardy = true
	c.counts.tardy++
}

// timeRelease takes note that a release is sent.
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

// timed takes note of how long it took until a resource was with its next owner, or released if it has none. done is
// false if nobody took the resource, or the release got no answer; that counts as slow.
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
