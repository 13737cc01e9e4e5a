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
	"github.com/distributed-resource-manager/drm/internal/mutant"
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

// limit ends the call's context when its time is up, and gives the call up when it still has not returned after grace. It
// is set by the call's own goroutine: the time that the goroutine waits for a processor is not the handler's.
func (c *call) limit(timeout, grace time.Duration) {
	if timeout == Forever {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended { // its end is limited already
		return
	}
	c.grace = grace
	c.arm(timeout)
}

// end ends the call's context because of cause, and gives it up when it still has not returned after grace.
func (c *call) end(cause error, grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.ended {
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

// giveUp tells the core that the call is stuck. Whatever the core lets go of then, nothing of the handling may go on first:
// its context ends, and its claim is not valid any more.
func (c *call) giveUp() {
	m, a := c.m, c.do
	m.post(func() {
		if c.of.call != c {
			return
		}
		if !mutant.Is(mutant.SpareGivenUp) {
			c.of.end(CauseGivenUp)
		}
		m.core.CallStuck(m.stamp, a.Shard, a.ID, a.Kind.String()+" does not return")
		m.log.Warn("call does not end, and is given up", zap.Stringer("call", a.Kind), zap.String("resource", a.ID), zap.Int64("token", a.Token))
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

// answer is what came of a call: err for the user's own callbacks, and its text for everyone else.
type answer struct {
	out  core.Outcome
	err  error
	text string
}

// run makes the call, tells of its failure, and reports to the loop. Also where the user's code ends the goroutine: what
// was deferred is done then.
func (c *call) run() {
	if c.refused() { // the handler need not know
		c.returned()
		c.m.post(func() { c.m.callDone(c, core.Refused, "") })
		return
	}
	c.limit(c.m.limits(c.do.Kind))
	got := answer{core.Panicked, errGoexit, errGoexit.Error()}
	defer func() { c.conclude(got) }()
	got = c.user()
}

// refused is the last look at the clock before the user's code. The goroutine may have waited for long, the process may
// have been stopped, the machine may have slept since the loop looked. A Terminate cleans up, whatever the time is.
func (c *call) refused() bool {
	if c.do.Kind == core.Terminate {
		return false
	}
	return c.ctx.Err() != nil || c.of.Remaining() <= 0 && !mutant.Is(mutant.HandleUnlooked)
}

// conclude reports what came of the call.
func (c *call) conclude(got answer) {
	m, a := c.m, &c.do
	timedOut, ended := c.returned()
	message := "call failed"
	switch {
	case timedOut:
		timeout, _ := m.limits(a.Kind)
		why := fmt.Errorf("%w after %v", CauseTimeout, timeout)
		if got.text != "" {
			why = fmt.Errorf("%w: %s", why, got.text)
		}
		got = answer{core.TimedOut, why, why.Error()}
	case (got.out == core.Error || got.out == core.Unclear) && c.isCut():
		got.out = core.Cut
		message = "call was cut off by the end of its claim; its outcome is unknown, and terminate follows"
	}
	defer func() { m.post(func() { m.callDone(c, got.out, got.text) }) }()
	switch {
	case got.out == core.Cut && a.Kind == core.Terminate: // it is not over
		m.log.Debug("terminate was cut short, and follows again", zap.String("resource", a.ID), zap.Int64("token", a.Token), zap.String("error", got.text))
	case got.err == nil || a.Kind != core.Terminate && ended && !timedOut && !errors.Is(context.Cause(c.ctx), CauseClaimLost):
		// It went well, or was to end for a reason that is no fault of its own.
	default:
		m.log.Warn(message, zap.Stringer("call", a.Kind), zap.String("resource", a.ID), zap.Int64("token", a.Token), zap.String("error", got.text))
		if a.Kind == core.Terminate || !ended || timedOut {
			c.tellFailure(got)
		}
	}
}

// isCut says whether a call that returned an error did so because its context had ended. What a Handle or Update began may
// have been done all the same. Of a Terminate it matters where the lease's end is the cause: another one follows.
func (c *call) isCut() bool {
	if c.do.Kind == core.Terminate {
		return errors.Is(context.Cause(c.ctx), CauseFenced)
	}
	return c.ctx.Err() != nil
}

// user calls the user's code, and takes down what it returns or panics with.
func (c *call) user() (got answer) {
	defer func() {
		if v := recover(); v != nil {
			p := newPanicError(v)
			got = answer{core.Panicked, p, p.Error()}
		}
	}()
	switch err := c.handler(); {
	case err == nil:
		return answer{}
	case isPanic(err):
		return answer{core.Panicked, err, textOf(err)}
	case c.do.Kind == core.Handle && matches(err, ErrOutcomeUnknown): // it may have begun
		return answer{core.Unclear, err, textOf(err)}
	default:
		return answer{core.Error, err, textOf(err)}
	}
}

// handler calls the Handler.
func (c *call) handler() error {
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
func (c *call) tellFailure(got answer) {
	m, a := c.m, &c.do
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
	defer c.returned()
	if p := safely(func() error { failed(ctx, c.claim, got.err); return nil }); p != nil {
		m.log.Error("a failure callback panicked", zap.Stringer("call", a.Kind), zap.String("resource", a.ID), zap.String("error", p.Error()))
	}
}
