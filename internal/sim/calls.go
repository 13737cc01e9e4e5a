package sim

import (
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
)

// handling is what a member has of a resource, from the call of Handle on.
type handling struct {
	m        *member
	token    int64
	keeper   *keeper
	version  string
	ctxEnded bool // the context that Handle was given has ended
	must     bool // Terminate is due before anything else
	tried    bool // a Terminate failed, and the policy holds the claim: Terminate may be called again
	over     bool // a call was given up, so the handling's claim is not valid any more
	disowned bool // the claim is lost, so it is not valid any more
	byHand   bool // the claim was deleted by hand, and the member cannot know yet
	life     int  // the life of the receiver that was given it
	doubt    bool // later lives may have been given it, too
	broken   bool // it has broken, or has lapsed: it must not be what is left in the end
	lapsed   bool // Handle may replace it without Terminate
}

// call is one call of the user's code.
type call struct {
	m         *member
	r         int
	a         core.Action
	h         *handling // nil until the call begins
	out       core.Outcome
	heeds     bool // the call returns soon when its context ends
	hangs     bool // the call ignores its context, and returns long after
	endless   bool // the call never returns
	asks      bool // the call is a request to a receiver
	to        *receiver
	life      int  // the newest life of the receiver that was known when the call began
	served    bool // the member knows which life has answered
	answered  bool // the receiver has answered
	inOrder   bool // the context ended because the member wants something else, not because claim or time was over
	ctxEnded  bool
	timedOut  bool
	late      bool // the call is a Terminate after its claim's end, and so has its full time
	cut       bool // the context ended; that of a Terminate ends with the lease
	cancelled bool
	stuck     bool
	returned  bool
	told      bool // the core knows that the call has returned
}

// call starts a call, at once or when the call's goroutine gets to run.
func (m *member) call(r int, a core.Action) {
	if m.calls[r] != nil {
		m.w.Failf("%s: %v of %s while a call is in progress", m.name, a.Kind, a.ID)
		return
	}
	if a.Kind == core.Terminate && m.hasNothing(r) {
		m.after(0, func() {
			m.post(func() {
				m.handlings[r] = nil
				m.core.CallDone(m.clock(), a.Shard, a.ID, core.OK, "")
				m.step()
			})
		})
		return
	}
	c := &call{m: m, r: r, a: a, life: m.lives.number}
	k := m.keeper(a.Lease)
	c.late = a.Kind == core.Terminate && (a.Cause == core.ClaimLost || !k.valid())
	m.calls[r] = c
	switch {
	case a.Kind == core.Handle && (k.fenced || !k.valid()):
		c.refuse()
		return
	case a.Kind == core.Handle:
		m.checkWanted(c)
	}
	switch {
	case m.w.Chance(2): // the machine has too much to do, so the goroutine waits
		m.after(m.w.UpTo(ttl), c.begin)
	case m.w.Chance(10):
		m.after(m.w.UpTo(3*time.Millisecond), c.begin)
	default:
		c.begin()
	}
}

// hasNothing says whether there is nothing to terminate: the handler was given nothing, or nobody has anything of it
// any more. Until the core is told, the resource still counts as handled, as during any Terminate.
func (m *member) hasNothing(r int) bool {
	switch h := m.handlings[r]; {
	case m.unbegun[r]:
		m.unbegun[r] = false
	case h != nil && h.must && m.isOutlived(h):
		h.ctxEnded = true
	default:
		return false
	}
	return true
}

// refuse ends a call before it begins.
func (c *call) refuse() {
	m := c.m
	m.w.count(Refused)
	c.returned = true
	m.after(0, func() {
		m.post(func() {
			c.told = true
			m.calls[c.r] = nil
			before := m.handlings[c.r]
			replaces := before != nil && before.lapsed && before.token == c.a.Token
			m.unbegun[c.r] = c.stuck && c.a.Kind == core.Handle && !replaces
			m.core.CallDone(m.clock(), c.a.Shard, c.a.ID, core.Refused, "")
			m.step()
		})
	})
}

// isTooLate looks once more, right before the user's code is called, whether it may be.
func (c *call) isTooLate(k *keeper, h *handling) bool {
	if c.cancelled || k.ended || c.a.Kind == core.Update && h != nil && h.over { // the context has ended
		return true
	}
	return !k.valid()
}

func (c *call) begin() {
	m, w := c.m, c.m.w
	k, h := m.keeper(c.a.Lease), m.handlings[c.r]
	if c.a.Kind != core.Terminate && c.isTooLate(k, h) {
		c.refuse()
		return
	}
	timeout, grace := handleTimeout, terminateTimeout
	switch c.a.Kind {
	case core.Handle:
		w.count(Handled)
		if !w.plan.FinishCalls { // otherwise it is called, even if it is known by now that it has to end at once
			m.checkWanted(c)
		}
		if h != nil && h.must && !h.tried && !h.lapsed {
			w.Failf("%s: Handle of %s without Terminate before", m.name, c.a.ID)
		}
		h = &handling{m: m, token: c.a.Token, keeper: k, version: string(c.a.Data), life: c.life}
		m.handlings[c.r] = h
		m.checkHandle(c.r, h)
		m.checkTrace(c)
	case core.Update:
		w.count(Updated)
		if h == nil || !h.must || h.ctxEnded {
			w.Failf("%s: Update of %s, which is not handled", m.name, c.a.ID)
			return
		}
		h.version = string(c.a.Data)
		m.checkTrace(c)
	default:
		w.count(Terminated)
		timeout, grace = terminateTimeout, lastGrace
		if h == nil || !h.must {
			w.Failf("%s: Terminate of %s, which is not handled", m.name, c.a.ID)
			return
		}
		if c.a.Token != h.token {
			w.Failf("%s: Terminate of %s under token %d, handled under %d", m.name, c.a.ID, c.a.Token, h.token)
		}
	}
	c.h = h
	if c.a.Kind == core.Handle && w.isPoison(c.r) {
		c.poison()
	}
	c.heeds = !w.Chance(w.plan.Bad / 2)
	c.work()
	if c.cut { // the context ended before the call began
		c.end()
	}
	m.after(timeout/4, func() {
		m.post(func() {
			if !c.told && !c.stuck {
				m.core.CallRuns(m.clock(), c.a.Shard, c.a.ID, "takes long")
				m.step()
			}
		})
	})
	m.after(timeout, func() {
		if !c.returned {
			c.timedOut = true
			c.end()
			m.after(grace, c.giveUp)
		}
	})
}

// work is what the user's code does: the call returns sooner or later, or never.
func (c *call) work() {
	m, w := c.m, c.m.w
	c.hangs = w.Chance(w.plan.Hung)
	answered := time.Duration(0)
	if w.plan.Receivers != NoReceivers {
		answered = c.send()
	}
	took := w.UpTo(5 * time.Millisecond)
	switch {
	case c.hangs:
		c.heeds = false
		c.endless = w.Rand.IntN(4) == 0
		took = answered + w.UpTo(longestHang)
		w.calmAt = max(w.calmAt, w.Now+took)
		w.count(Hanging)
	case w.Chance(w.plan.Bad / 4):
		took = w.UpTo(longestCall)
	case w.Chance(20):
		took = w.UpTo(time.Second)
	}
	if c.endless {
		w.count(Endless)
		return
	}
	if !c.asks && w.Chance(w.plan.Bad) {
		c.out = []core.Outcome{core.Error, core.Panicked}[w.Rand.IntN(2)]
	}
	if c.hangs || !c.asks {
		m.after(took, func() {
			if c.asks && !c.answered && c.a.Kind != core.Terminate { // a pause has brought this before the answer
				c.out = core.Unclear
			}
			c.finish()
		})
	}
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
	c.cutOff()
	if c.heeds {
		c.m.after(c.m.w.UpTo(5*time.Millisecond), func() {
			if !c.returned && c.m.w.Rand.IntN(4) > 0 {
				c.out = core.Error
			}
			c.finish()
		})
	}
}

// giveUp stops waiting for the call. The handling must be over when its claim is released.
func (c *call) giveUp() {
	m := c.m
	m.post(func() {
		if c.told || c.stuck {
			return
		}
		m.w.count(Stuck)
		m.w.Tracef("%s: %v of %s is given up", m.name, c.a.Kind, c.a.ID)
		c.stuck = true
		if h := m.handlingOf(c.r); h != nil {
			h.ctxEnded, h.over = true, true
		}
		if c.a.Kind == core.Terminate && !m.w.plan.HoldUntilTerminated { // it had its chance
			c.left()
			m.handlings[c.r] = nil
		}
		m.core.CallStuck(m.clock(), c.a.Shard, c.a.ID, "stuck")
		m.step()
	})
}

// finish makes the call return.
func (c *call) finish() {
	if c.returned {
		return
	}
	m := c.m
	c.returned = true
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
	m.w.Tracef("%s: %v of %s returns: %v", m.name, c.a.Kind, c.a.ID, out)
	if out != core.OK && out != core.Cut {
		m.post(func() {
			if !c.told && !c.stuck {
				m.core.CallFailing(m.clock(), c.a.Shard, c.a.ID, out.String())
				m.step()
			}
		})
	}
	m.post(func() { c.done(out) })
}

// done tells the loop that the call has returned.
func (c *call) done(out core.Outcome) {
	m, h := c.m, c.h
	c.told = true
	m.calls[c.r] = nil
	c.unserved(out)
	letGo := c.a.Kind == core.Terminate && !m.w.plan.HoldUntilTerminated
	switch {
	case c.a.Kind == core.Handle && out == core.Error:
		m.handlings[c.r] = nil
		m.unbegun[c.r] = c.cancelled || c.stuck // the core takes a call that was cancelled for one that began
	case c.a.Kind == core.Handle:
		h.must = true
		h.fail(c)
	case c.a.Kind == core.Update && out != core.OK:
		h.version = "" // nobody knows which data the handler has
	case c.a.Kind == core.Update:
	case letGo && c.stuck: // it has been noted already that it was left
	case out == core.Cut: // counts as if Terminate had not been called
	case out == core.OK:
		c.ended()
		m.handlings[c.r] = nil
	case letGo:
		c.left()
		m.handlings[c.r] = nil
	default:
		c.left()
		h.tried = true
	}
	m.core.CallDone(m.clock(), c.a.Shard, c.a.ID, out, out.String())
	if h != nil && m.handlings[c.r] == h {
		m.renew(c.r, h) // another life may have been heard of meanwhile
	}
	m.step()
}

// fail makes a handling break some time later, or be gone with the process of its service, in some cases.
func (h *handling) fail(c *call) {
	m, w := h.m, h.m.w
	if !w.Chance(w.plan.Flaky) {
		return
	}
	breaks := w.Rand.IntN(2) == 0 || w.plan.Receivers != NoReceivers
	m.after(w.UpTo(4*youth), func() {
		m.post(func() {
			if m.handlings[c.r] != h || !h.must || w.Calm || !m.core.Takes(c.a.Shard, c.a.ID) {
				return
			}
			if next := m.calls[c.r]; next != nil && next.h != h { // it is about to begin something new
				return
			}
			h.broken = true
			if breaks {
				w.count(Broken)
				m.core.Broke(m.clock(), c.a.Shard, c.a.ID, "broken")
			} else {
				w.count(Lapsed)
				m.core.Lapsed(m.clock(), c.a.Shard, c.a.ID)
			}
			m.step()
		})
	})
}

// lapse ends the context of a handling that Handle replaces, or that Terminate ends if the claim ends before.
func (m *member) lapse(r int, c *call, h *handling) {
	switch {
	case h == nil || !h.broken:
		m.w.Failf("%s: the handling of %s is to be replaced, and has not lapsed", m.name, m.w.ids[r])
	case c != nil:
		m.w.Failf("%s: the handling of %s lapses during a call", m.name, m.w.ids[r])
	default:
		h.ctxEnded, h.lapsed = true, true
	}
}

// cancel carries out a Cancel of the core.
func (m *member) cancel(r int, a core.Action) {
	m.w.count(Cancelled)
	c, h := m.calls[r], m.handlingOf(r)
	if a.Cause == core.Gone {
		m.lapse(r, c, h)
		return
	}
	if a.Cause == core.ClaimLost {
		m.w.count(Vanished)
		if h != nil {
			h.ctxEnded, h.disowned = true, true
		}
	}
	if c == nil {
		return
	}
	if c.a.Kind == core.Terminate {
		if a.Cause != core.ClaimLost {
			m.w.Failf("%s: Cancel of a Terminate of %s", m.name, a.ID)
		}
		return // it ends the handling
	}
	c.cancelled = true
	c.inOrder = !c.ctxEnded && a.Cause != core.ClaimLost
	c.end()
	m.after(terminateTimeout, c.giveUp)
}
