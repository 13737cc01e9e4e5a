package sim

import (
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
)

// lives is what a member knows of the lives of its receiver's process: each answer tells which life has given it.
type lives struct {
	number int  // of the newest life that the member has heard of
	swept  bool // what earlier lives were given is about to be handled again
}

const (
	// overLife is the number of a life that was over before its last answer came.
	overLife = -1
	// askEvery is how long it takes at most until the member asks its receiver which life answers.
	askEvery = 1200 * time.Millisecond
	// unrest is for how long the member may not heed a change.
	unrest = 250 * time.Millisecond
)

// restartService ends the process of the member's receiver, with all that it runs and all that it knows. Another one
// takes its place after some time.
func (m *member) restartService(back time.Duration) bool {
	if !m.up || m.w.plan.Receivers == NoReceivers {
		return false
	}
	old := m.receiver
	next := &receiver{m: m, of: make([]job, m.w.plan.Resources), life: old.life + 1, down: true}
	m.receiver = next
	m.w.Tracef("%s's receiver: its life %d ends", m.name, old.life)
	for _, c := range m.calls { // the connections break
		if c != nil && c.to == old && !c.answered && !c.returned {
			m.after(m.w.UpTo(5*time.Millisecond), c.unknown)
		}
	}
	m.w.after(back, func() {
		next.down = false
		if m.receiver == next {
			m.w.Tracef("%s's receiver: its life %d begins", m.name, next.life)
			m.after(m.w.UpTo(askEvery), func() { m.askLife(next) })
		}
	})
	return true
}

// askLife asks the receiver which life answers.
func (m *member) askLife(rc *receiver) {
	if m.receiver == rc {
		m.post(func() {
			m.hear(rc.life)
			m.step()
		})
	}
}

// hear takes note that a life has answered, and returns its number as far as the member can tell.
func (m *member) hear(life int) int {
	l := &m.lives
	switch {
	case life == l.number:
	case life < l.number:
		return overLife
	default:
		l.number = life
		m.sweepAfter(m.w.UpTo(unrest) * time.Duration(m.w.Rand.IntN(2)))
	}
	return life
}

// sweepAfter makes what earlier lives were given be handled again after a pause.
func (m *member) sweepAfter(pause time.Duration) {
	if m.lives.swept {
		return
	}
	m.lives.swept = true
	m.after(pause, func() {
		m.post(func() {
			m.lives.swept = false
			for r, h := range m.handlings {
				if h != nil && m.calls[r] == nil {
					m.renew(r, h)
				}
			}
			m.core.RetryHandles(m.clock())
			m.step()
		})
	})
}

// renew makes a resource be handled again if an earlier life was given it. No call may be in progress.
func (m *member) renew(r int, h *handling) {
	if h.life == m.lives.number || m.lives.swept || h.lapsed {
		return
	}
	h.broken = true
	if h.doubt {
		m.w.count(Doubted)
		m.core.Doubt(m.clock(), m.w.shardOf(r), m.w.ids[r])
	} else {
		m.w.count(Outlived)
		m.core.Lapsed(m.clock(), m.w.shardOf(r), m.w.ids[r])
	}
}

// servedBy takes note of which life has answered a call.
func (c *call) servedBy(life int) {
	m := c.m
	number := m.hear(life)
	if m.calls[c.r] == c && !c.told && c.a.Kind != core.Terminate {
		c.h.life, c.h.doubt, c.served = number, false, true
	}
	if number == overLife {
		m.sweepAfter(0)
	}
	m.step()
}

// unserved takes note that a call has returned and no life has answered it. If its outcome is unknown, whichever life
// comes may have the resource.
func (c *call) unserved(out core.Outcome) {
	if c.served || c.h == nil || c.a.Kind == core.Terminate {
		return
	}
	switch out {
	case core.Error, core.Refused:
	case core.OK:
		c.h.doubt = c.h.doubt || c.life != c.m.lives.number
	default:
		c.h.doubt = true
	}
}

// isOutlived says whether nobody has anything of a handling any more, because the life that was given it is over.
func (m *member) isOutlived(h *handling) bool {
	return h.life != m.lives.number && !h.doubt
}

// checkGiven looks whether a Terminate is sent to a life that was never given the resource, though the member knows
// which life it is.
func (c *call) checkGiven() {
	m, rc := c.m, c.to
	if m.lives.number == rc.life && rc.of[c.r].given != c.a.Token && !c.h.doubt {
		m.w.Failf("%s: Terminate of %s is sent to the receiver's life %d, which was never given it",
			m.name, c.a.ID, rc.life)
	}
}
