package core

import "time"

// pace says how many resources may be on their way to the next owner at once. How long it takes until one is there decides
// it, so what etcd's answers cost, and whether the next owner keeps up: while that is short, more; when it is long, half as
// many. All members ask the same etcd and see it slow down together, so those that leave at the same time share what it can
// do, though none of them knows how many they are. What waits for its turn is handled meanwhile, and keepalives do not wait
// behind thousands of releases.
type pace struct {
	size    int           // how many just now; 0: nothing is known yet
	doubles bool          // none has taken long so far: each doubles size
	fastest time.Duration // answer to a claim or a release so far; 0: there was none
	heard   time.Duration // when the last one was there
	timed   *resource     // which is timed; nil: none is
	sent    time.Duration // when its release was sent
}

const (
	// paceForgets is for how long what was learned counts when nothing is handed over.
	paceForgets = time.Minute
	// slowRatio is how many times as long as etcd's fastest answer it takes at least to be slow. Four ways to etcd or back
	// make two answers: the release's, the news of it, the next owner's claim, the news of that.
	slowRatio = 8
)

// limit is how many resources may be on their way now.
func (c *Core) limit() int {
	if c.cfg.ReleaseSlow <= 0 {
		return c.cfg.ReleaseBacklog
	}
	p := &c.pace
	if p.size == 0 || p.timed == nil && c.now-p.heard > paceForgets {
		p.size, p.doubles, p.heard = min(c.cfg.ReleaseLeast, c.cfg.ReleaseBacklog), true, c.now
	}
	return p.size
}

// time notes that a release is sent. One at a time is timed, so that size changes once in the time that one takes.
func (c *Core) time(r *resource) {
	if c.cfg.ReleaseSlow > 0 && c.pace.timed == nil {
		c.pace.timed, c.pace.sent = r, c.now
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
	size, took := c.limit(), c.now-p.sent // while timed is set, so that nothing is forgotten
	p.timed, p.heard = nil, c.now
	switch {
	case !done || took > max(c.cfg.ReleaseSlow, slowRatio*p.fastest):
		p.size, p.doubles = max(size/2, min(c.cfg.ReleaseLeast, c.cfg.ReleaseBacklog)), false
	case p.doubles:
		p.size = min(2*size, c.cfg.ReleaseBacklog)
	default:
		p.size = min(size+max(1, c.cfg.ReleaseBacklog/16), c.cfg.ReleaseBacklog)
	}
}
