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
	"github.com/distributed-resource-manager/drm/internal/failures"
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
	began   time.Time     // zero until the user's code is called
	timed   time.Duration // what its timeout is
	cancel  context.CancelCauseFunc
	over    bool
	alarm   *alarm        // set for due or slow, whichever comes first; nil where neither is set
	due     time.Time     // an alarm may go off late for what it was set to before; zero: nothing limits the call
	slow    time.Time     // when the claim's key is to say that the call takes long; zero: it is not to
	grace   time.Duration // from the end of the context until the call is given up
	timeout bool          // its time was up
	ended   bool          // it was to end, for a reason that is no fault of its own
	telling bool          // it has failed, and the handler is being told so
}

// limit ends the call's context when its time is up, and gives the call up when it still has not returned after grace. It
// is set by the call's own goroutine: the time that the goroutine waits for a processor is not the handler's.
//
// One that takes long has the claim's key say so: half of its time, but 1 s at least and 10 s at most. So no ordinary call
// makes a write to etcd besides those of its outcome.
func (c *call) limit(timeout, grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.telling {
		c.began, c.timed = time.Now(), timeout
	}
	if after := min(max(timeout/2, leastSlow), mostSlow); after < timeout && !c.telling {
		c.slow = c.began.Add(after)
	}
	switch {
	case c.ended: // its end is limited already
		c.set()
	case timeout == Forever:
		c.set()
	default:
		c.grace = grace
		c.arm(timeout)
	}
}

// Between these a call begins to count as one that takes long.
const (
	leastSlow = time.Second
	mostSlow  = 10 * time.Second
)

// since is when the call began, or, where it has not yet, now.
func (c *call) since() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began.IsZero() {
		return time.Now()
	}
	return c.began
}

// atMost has the call's time be up after a time, if that is sooner than it is anyway.
func (c *call) atMost(left, grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.ended || c.timeout || !c.due.IsZero() && time.Until(c.due) <= left {
		return
	}
	c.grace = grace
	c.arm(left)
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

// arm sets, or sets anew, when the call's time is up. The caller holds mu.
func (c *call) arm(after time.Duration) {
	c.due = time.Now().Add(after)
	c.set()
}

// set sets the alarm, if there is anything to look at. The caller holds mu.
func (c *call) set() {
	next := c.due
	if next.IsZero() || !c.slow.IsZero() && c.slow.Before(next) {
		next = c.slow
	}
	if next.IsZero() {
		return
	}
	after := time.Until(next)
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

// timeIsUp ends the call's context, or gives the call up if that has ended already; or it only says that the call takes long.
func (c *call) timeIsUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.over {
		return
	}
	if !c.slow.IsZero() && !now.Before(c.slow) {
		c.slow = time.Time{}
		c.tellRuns()
		c.set()
	}
	switch {
	case c.due.IsZero() || now.Before(c.due):
	case c.timeout || c.ended:
		c.giveUp()
	default:
		c.timeout = true
		c.cancel(CauseTimeout)
		if !c.telling && c.grace > lastGrace { // most return at once now, and the outcome says more
			c.slow = now.Add(lastGrace)
		}
		c.arm(c.grace)
	}
}

// tellRuns has the claim's key say since when the call runs. The caller holds mu.
func (c *call) tellRuns() {
	m, a := c.m, c.do
	said := fmt.Sprintf("%v has been running since %s", a.Kind, m.wall().Add(-time.Since(c.began)).UTC().Format(time.RFC3339))
	if c.timeout {
		said += fmt.Sprintf("; its time of %v is up, and it has not returned", c.timed)
	}
	m.post(func() {
		if c.of.call == c {
			m.core.CallRuns(m.stamp, a.Shard, a.ID, said)
		}
	})
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
		m.failures.Add(c.failure("call does not end, and is given up", "it does not return, though its context has ended"))
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
		m.failures.Add(c.failure(message, got.text))
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

// tellFailure calls HandleFailed or TerminateFailed, under limits of its own. It is part of the call: the resource has no other
// one meanwhile. What is to be seen of the failure does not wait for it; and while the member stops it has no more than lastGrace,
// since what it tells is not worth holding up the Terminate that follows.
func (c *call) tellFailure(got answer) {
	m, a := c.m, &c.do
	if got.out != core.Cut {
		m.post(func() {
			if c.of.call == c {
				m.core.CallFailing(m.stamp, a.Shard, a.ID, got.text)
			}
		})
	}
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
	c.telling, c.due, c.slow = true, time.Time{}, time.Time{}
	c.mu.Unlock()
	c.limit(m.cfg.TerminateTimeout, lastGrace)
	defer context.AfterFunc(m.staying, func() { c.atMost(lastGrace, lastGrace) })()
	defer c.returned()
	if p := safely(func() error { failed(ctx, c.claim, got.err); return nil }); p != nil {
		f := c.failure("a failure callback panicked", p.Error())
		f.Level = zap.ErrorLevel
		m.failures.Add(f)
	}
}

// failure is a line about the call.
func (c *call) failure(message, why string) failures.Failure {
	return failures.Failure{
		Message: message, Level: zap.WarnLevel, Call: c.do.Kind.String(), Resource: c.do.ID, Error: why,
		Fields: []zap.Field{zap.Int64("token", c.do.Token)},
	}
}
