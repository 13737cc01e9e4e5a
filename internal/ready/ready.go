// Package ready decides whether a member can work: by a row of answers of a probe (Count), and by how many of its
// resources fail while those of others do not (Doubt). It is pure: the caller asks the probe, counts, and has the
// clock.
package ready

import "errors"

// ErrRestarted is what a probe returns that has succeeded, and has found that the service was restarted since the last
// time: what it was given is gone. drm.ErrServiceRestarted is the same error.
var ErrRestarted = errors.New("the service was restarted")

// Count decides by the answers of a probe. The first answer decides alone, since nothing else is known then, and until
// the probe has succeeded for the first time, one success is enough. Later a row of failures, or of successes, is
// needed. It is not safe for concurrent use.
type Count struct {
	unreadyAfter, readyAfter int

	ready bool
	begun bool // there was an answer
	ever  bool // there was a success
	row   int  // how many answers in a row contradict ready
}

// NewCount makes a Count that needs this many failures, or successes, in a row; both are at least 1.
func NewCount(unreadyAfter, readyAfter int) *Count {
	return &Count{unreadyAfter: unreadyAfter, readyAfter: readyAfter}
}

// Note notes an answer, and returns whether the decision has changed. The first answer always changes it.
func (c *Count) Note(success bool) (changed bool) {
	first := !c.begun
	needed := c.unreadyAfter
	if success {
		needed = c.readyAfter
	}
	if first || success && !c.ever {
		needed = 1
	}
	c.begun, c.ever = true, c.ever || success
	if success == c.ready && !first {
		c.row = 0
		return false
	}
	if c.row++; c.row < needed {
		return false
	}
	c.ready, c.row = success, 0
	return true
}

// Ready is the decision. It is false before the first answer.
func (c *Count) Ready() bool { return c.ready }
