package sim

import (
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/mutant"
)

// handling is a resource in a member's hands, from the call of Handle on.
type handling struct {
	m        *member
	token    int64
	keeper   *keeper
	version  string
	ctxEnded bool // the context that Handle was given has ended
	must     bool // Terminate is due before anything else
	tried    bool // a Terminate failed, under Hold: it may be called again
	over     bool // the policy lets go of it, though a call still runs
	byHand   bool // its claim was deleted by hand: the member cannot know yet
}

// call is one call of the user's code.
type call struct {
	m         *member
	r         int
	a         core.Action
	h         *handling // nil until it begins
	out       core.Outcome
	heeds     bool // returns soon when its context ends
	ctxEnded  bool
	timedOut  bool
	late      bool // it is a Terminate that comes after its claim's end, and so has its time
	cut       bool // its context ended: of a Terminate, with the lease
	cancelled bool
	stuck     bool
	returned  bool
}

// call starts a call, at once or when its goroutine gets to run.
func (m *member) call(r int, a core.Action) {
	if m.calls[r] != nil {
		m.w.fail("%s: %v of %s while a call is in progress", m.name, a.Kind, a.ID)
		return
	}
	if a.Kind == core.Terminate && m.unbegun[r] { // the handler was given nothing
		m.unbegun[r] = false
		m.after(0, func() {
			m.core.CallDone(m.clock(), a.Shard, a.ID, core.OK, "")
			m.step()
		})
		return
	}
	c := &call{m: m, r: r, a: a}
	c.late = a.Kind == core.Terminate && (a.Cause == core.ClaimLost || !m.keeper(a.Lease).valid())
	m.calls[r] = c
	if m.w.chance(10) {
		m.after(m.w.upTo(3*time.Millisecond), c.begin)
	} else {
		c.begin()
	}
}

func (c *call) begin() {
	m, w := c.m, c.m.w
	k, h := m.keeper(c.a.Lease), m.handlings[c.r]
	if c.a.Kind != core.Terminate && (c.cancelled || (k.fenced || !k.valid()) && !mutant.Is(mutant.SkipLeaseCheck)) {
		w.count(Refused)
		c.returned = true
		m.calls[c.r] = nil
		m.unbegun[c.r] = c.stuck && c.a.Kind == core.Handle
		m.after(0, func() {
			m.core.CallDone(m.clock(), c.a.Shard, c.a.ID, core.Refused, "")
			m.step()
		})
		return
	}
	timeout, grace := handleTimeout, terminateTimeout
	switch c.a.Kind {
	case core.Handle:
		w.count(Handled)
		m.checkWanted(c)
		if h != nil && h.must && !h.tried {
			w.fail("%s: Handle of %s without Terminate before", m.name, c.a.ID)
		}
		h = &handling{m: m, token: c.a.Token, keeper: k, version: string(c.a.Data)}
		m.handlings[c.r] = h
		m.checkHandle(c.r, h)
	case core.Update:
		w.count(Updated)
		if h == nil || !h.must || h.ctxEnded {
			w.fail("%s: Update of %s, which is not handled", m.name, c.a.ID)
			return
		}
		h.version = string(c.a.Data)
	default:
		w.count(Terminated)
		timeout, grace = terminateTimeout, lastGrace
		if h == nil || !h.must {
			w.fail("%s: Terminate of %s, which is not handled", m.name, c.a.ID)
			return
		}
		if c.a.Token != h.token {
			w.fail("%s: Terminate of %s under token %d, handled under %d", m.name, c.a.ID, c.a.Token, h.token)
		}
	}
	c.h = h
	c.heeds = !w.chance(w.plan.Bad / 2)
	took := w.upTo(5 * time.Millisecond)
	switch {
	case w.chance(w.plan.Bad / 4):
		took = w.upTo(longestCall)
	case w.chance(20):
		took = w.upTo(time.Second)
	}
	if w.chance(w.plan.Bad) {
		c.out = []core.Outcome{core.Error, core.Panicked}[w.rng.IntN(2)]
	}
	if c.cut { // before it began
		c.end()
	}
	m.after(took, c.finish)
	m.after(timeout, func() {
		if !c.returned {
			c.timedOut = true
			c.end()
			m.after(grace, c.giveUp)
		}
	})
}

// end ends the context of the call.
func (c *call) end() {
	if c.ctxEnded || c.returned || c.h == nil {
		return
	}
	c.ctxEnded = true
	if c.a.Kind == core.Handle {
		c.h.ctxEnded = true
	}
	c.cut = c.cut || c.a.Kind != core.Terminate
	if c.heeds {
		c.m.after(c.m.w.upTo(5*time.Millisecond), func() {
			if !c.returned && c.m.w.rng.IntN(4) > 0 {
				c.out = core.Error
			}
			c.finish()
		})
	}
}

// giveUp leaves the call to itself.
func (c *call) giveUp() {
	if c.returned || c.stuck {
		return
	}
	m := c.m
	m.w.count(Stuck)
	m.w.trace("%s: %v of %s is given up", m.name, c.a.Kind, c.a.ID)
	c.stuck = true
	if h := m.handlings[c.r]; !m.w.plan.HoldFailed && h != nil { // none yet where Handle did not even begin
		h.over = true
		if c.a.Kind == core.Terminate { // it had its chance
			m.handlings[c.r] = nil
		}
	}
	m.core.CallStuck(m.clock(), c.a.Shard, c.a.ID, "stuck")
	m.step()
}

// finish is the call's return.
func (c *call) finish() {
	if c.returned {
		return
	}
	m, h := c.m, c.h
	c.returned = true
	m.calls[c.r] = nil
	out := c.out
	switch {
	case c.timedOut:
		out = core.TimedOut
	case c.cut && out == core.Error:
		m.w.count(CutShort)
		out = core.Cut
	}
	if out != core.OK {
		m.w.count(Failed)
	}
	if out == core.Panicked {
		m.w.count(Panicked)
	}
	m.w.trace("%s: %v of %s returns: %v", m.name, c.a.Kind, c.a.ID, out)
	switch {
	case c.a.Kind == core.Handle && !c.stuck && !c.cancelled && out == core.Error:
		m.handlings[c.r] = nil
	case c.a.Kind == core.Handle:
		h.must = true
	case c.a.Kind == core.Update && out != core.OK:
		h.version = "" // who knows
	case c.a.Kind == core.Terminate && !m.w.plan.HoldFailed && c.stuck:
	case c.a.Kind == core.Terminate && out == core.Cut: // as if it had not been called
	case c.a.Kind == core.Terminate && (out == core.OK || !m.w.plan.HoldFailed):
		m.handlings[c.r] = nil
	case c.a.Kind == core.Terminate:
		h.tried = true
	}
	m.core.CallDone(m.clock(), c.a.Shard, c.a.ID, out, out.String())
	m.step()
}

// cancel is what a Cancel of the core's does.
func (m *member) cancel(r int, a core.Action) {
	m.w.count(Cancelled)
	c, h := m.calls[r], m.handlings[r]
	if a.Cause == core.ClaimLost {
		m.w.count(Vanished)
		if h != nil {
			h.ctxEnded = true
		}
	}
	if c == nil {
		return
	}
	if c.a.Kind == core.Terminate {
		if a.Cause != core.ClaimLost {
			m.w.fail("%s: Cancel of a Terminate of %s", m.name, a.ID)
		}
		return // it ends the handling
	}
	c.cancelled = true
	c.end()
	m.after(terminateTimeout, c.giveUp)
}
