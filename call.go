package drm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/core"
)

// call is one call of the user's code, with the notification that follows it if it fails.
type call struct {
	m     *Manager
	do    core.Action
	of    *handling
	claim Claim // as it was when the call began
	ctx   context.Context

	mu      sync.Mutex
	cancel  context.CancelCauseFunc
	over    bool
	alarm   *alarm        // set for due; nil where nothing limits the call
	due     time.Time     // an alarm may go off late for what it was set to before
	grace   time.Duration // from the end of the context until the call is given up
	timeout bool          // its time was up
	ended   bool          // it was to end, for a reason that is no fault of its own
}

// limit ends the call's context when its time is up, and gives the call up when it still has not returned after grace.
func (c *call) limit(timeout, grace time.Duration) {
	if timeout == Forever {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.grace = grace
	c.arm(timeout)
}

// end ends the call's context because of cause, and gives it up when it still has not returned after grace.
func (c *call) end(cause error, grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.ended = true
	c.cancel(cause)
	c.arm(grace)
}

// arm sets, or sets anew, when timeIsUp is to look. The caller holds mu.
func (c *call) arm(after time.Duration) {
	c.due = time.Now().Add(after)
	if c.alarm == nil {
		c.alarm = c.m.newAlarm(c, after)
	} else {
		c.alarm.timer.Reset(after)
	}
}

// alarm is a timer that serves one call after the other: most return long before it goes off.
type alarm struct {
	timer *time.Timer
	of    atomic.Pointer[call] // nil: nobody's
}

// newAlarm sets one for a call, out of those that others have left.
func (m *Manager) newAlarm(c *call, after time.Duration) *alarm {
	if a, ok := m.alarms.Get().(*alarm); ok {
		a.of.Store(c)
		a.timer.Reset(after)
		return a
	}
	a := &alarm{}
	a.of.Store(c)
	a.timer = time.AfterFunc(after, a.ring)
	return a
}

// ring may come late, and so for the call that has the alarm now: timeIsUp looks whether it is.
func (a *alarm) ring() {
	if c := a.of.Load(); c != nil {
		c.timeIsUp()
	}
}

// leave stops the alarm and leaves it to others.
func (a *alarm) leave(m *Manager) {
	a.timer.Stop()
	a.of.Store(nil)
	m.alarms.Put(a)
}

// timeIsUp ends the call's context, or gives the call up if that has ended already.
func (c *call) timeIsUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over || time.Now().Before(c.due):
	case c.timeout || c.ended:
		c.giveUp()
	default:
		c.timeout = true
		c.cancel(CauseTimeout)
		c.arm(c.grace)
	}
}

// giveUp tells the core that the call is stuck.
func (c *call) giveUp() {
	m, a := c.m, c.do
	m.post(func() {
		if c.of.call != c {
			return
		}
		m.log.Warn("call does not end, and is given up", zap.Stringer("call", a.Kind), zap.String("resource", a.ID), zap.Int64("token", a.Token))
		m.core.CallStuck(m.stamp, a.Shard, a.ID, a.Kind.String()+" does not return")
	})
}

// returned ends the limits, and reports whether the call's time was up, and whether it was to end.
func (c *call) returned() (timedOut, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.alarm != nil {
		c.alarm.leave(c.m)
		c.alarm = nil
	}
	return c.timeout, c.ended
}

// run makes the call, tells of its failure, and reports to the loop.
func (c *call) run() {
	m, a := c.m, &c.do
	if a.Kind == core.Handle && c.ctx.Err() != nil { // over before it began: the handler need not know
		c.returned()
		m.post(func() { m.callDone(c, core.Refused, nil) })
		return
	}
	err := c.user()
	timedOut, ended := c.returned()
	if timedOut {
		timeout, _ := m.limits(a.Kind)
		err = fmt.Errorf("%w after %v", CauseTimeout, timeout)
	}
	out := outcome(err, timedOut)
	if out == core.Error && a.Kind == core.Terminate && errors.Is(context.Cause(c.ctx), CauseFenced) {
		out = core.Cut
	}
	switch {
	case out == core.Cut: // it is not over
		m.log.Debug("terminate was cut short, and follows again", zap.String("resource", a.ID), zap.Int64("token", a.Token), zap.Error(err))
	case err != nil && (a.Kind == core.Terminate || !ended || timedOut):
		c.tellFailure(err)
	}
	m.post(func() { m.callDone(c, out, err) })
}

// user calls the user's code, and turns a panic into a *PanicError.
func (c *call) user() (err error) {
	defer recovered(&err)
	switch h := c.m.cfg.Handler; c.do.Kind {
	case core.Update:
		return h.(Updater).Update(c.ctx, c.claim)
	case core.Terminate:
		return h.Terminate(c.ctx, c.claim)
	default:
		return h.Handle(c.ctx, c.claim)
	}
}

// tellFailure calls HandleFailed or TerminateFailed, under limits of its own.
func (c *call) tellFailure(err error) {
	m, a := c.m, &c.do
	m.log.Warn("call failed", zap.Stringer("call", a.Kind), zap.String("resource", a.ID), zap.Int64("token", a.Token), zap.Error(err))
	failed := m.cfg.Handler.HandleFailed
	if a.Kind == core.Terminate {
		failed = m.cfg.Handler.TerminateFailed
	}
	ctx, cancel := context.WithCancelCause(m.ctx)
	defer cancel(nil)
	c.mu.Lock()
	if a.Kind != core.Handle { // its context is of no more use to anyone; that of Handle is the handling's
		c.cancel(CauseTerminated)
	}
	c.over, c.timeout, c.ended, c.cancel = false, false, false, cancel
	c.mu.Unlock()
	c.limit(m.cfg.TerminateTimeout, lastGrace)
	if p := safely(func() error { failed(ctx, c.claim, err); return nil }); p != nil {
		m.log.Error("a failure callback panicked", zap.Stringer("call", a.Kind), zap.String("resource", a.ID), zap.Error(p))
	}
	c.returned()
}
