package calls

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// call is one call of the user's code, with the notification that follows it if it fails.
type call struct {
	calls *Calls
	do    core.Action
	of    *Handling
	claim Claim // as it was when the call began
	ctx   context.Context

	mu     sync.Mutex
	cancel context.CancelCauseFunc
	limits
}

// run makes the call, tells of its failure, and reports to the loop. It does so also where the user's code ends the
// goroutine: what was deferred is done then.
func (c *call) run() {
	if c.refused() { // the handler need not know
		c.returned()
		c.calls.o.Post(func(now time.Duration) { c.calls.done(now, c, core.Refused, "") })
		return
	}
	c.limit(c.calls.limits(c.do.Kind))
	got := Answer{Outcome: core.Panicked, Err: usercode.ErrGoexit, Text: usercode.ErrGoexit.Error()}
	defer func() { c.conclude(got) }()
	got = c.ask()
}

// refused is the last look at the clock before the user's code is called. The goroutine may have waited for long, the
// process may have been stopped, or the machine may have slept since the loop looked. A Terminate cleans up, whatever
// the time is.
func (c *call) refused() bool {
	if c.do.Kind == core.Terminate {
		return false
	}
	return c.ctx.Err() != nil || c.of.Remaining() <= 0
}

// ask calls the handler.
func (c *call) ask() Answer {
	switch h := c.calls.o.Handler; c.do.Kind {
	case core.Update:
		return h.Update(c.ctx, c.claim)
	case core.Terminate:
		return h.Terminate(c.ctx, c.claim)
	default:
		return h.Handle(c.ctx, c.claim)
	}
}

// conclude reports what came of the call.
func (c *call) conclude(got Answer) {
	o, a := &c.calls.o, &c.do
	timedOut, ended := c.returned()
	message := "call failed"
	switch {
	case timedOut:
		got = c.tookTooLong(got.Text)
	case (got.Outcome == core.Error || got.Outcome == core.Unclear) && c.isCut():
		got.Outcome = core.Cut
		message = "call was cut off by the end of its claim; its outcome is unknown, and terminate follows"
	}
	defer func() {
		o.Post(func(now time.Duration) { c.calls.done(now, c, got.Outcome, got.Text) })
	}()
	inOrder := a.Kind != core.Terminate && ended && !timedOut // its end was wanted, and is no fault of its own
	switch {
	case got.Outcome == core.Cut && a.Kind == core.Terminate: // it is not over
		o.Log.Debug(
			"terminate was cut short, and follows again",
			zap.String("resource", a.ID),
			zap.Int64("token", a.Token),
			zap.String("error", got.Text),
		)
	case got.Err == nil || inOrder && !errors.Is(context.Cause(c.ctx), CauseClaimLost):
		// There is nothing to tell.
	default:
		o.Failures.Add(c.failure(message, got.Text))
		if !inOrder {
			c.tellFailure(got)
		}
	}
}

// tookTooLong is the answer of a call whose time was up, with what it said in the end.
func (c *call) tookTooLong(said string) Answer {
	timeout, _ := c.calls.limits(c.do.Kind)
	why := fmt.Errorf("%w after %v", CauseTimeout, timeout)
	if said != "" {
		why = fmt.Errorf("%w: %s", why, said)
	}
	return Answer{Outcome: core.TimedOut, Err: why, Text: why.Error()}
}

// isCut says whether a call that returned an error did so because its context had ended. What a Handle or Update began
// may have been done all the same. Of a Terminate it matters whether the lease's end is the cause: another one follows
// then.
func (c *call) isCut() bool {
	if c.do.Kind == core.Terminate {
		return errors.Is(context.Cause(c.ctx), CauseFenced)
	}
	return c.ctx.Err() != nil
}

// tellFailure calls HandleFailed or TerminateFailed, under limits of its own. It is part of the call: the resource has
// no other call meanwhile. That the resource has failed can be seen before it returns. While the member stops it has no
// more than usercode.Grace, since what it tells is not worth delaying the Terminate that follows.
func (c *call) tellFailure(got Answer) {
	o, a := &c.calls.o, &c.do
	if got.Outcome != core.Cut {
		o.Post(func(now time.Duration) {
			if c.of.call == c {
				o.Core.CallFailing(now, a.Shard, a.ID, got.Text)
			}
		})
	}
	failed := o.Handler.HandleFailed
	if a.Kind == core.Terminate {
		failed = o.Handler.TerminateFailed
	}
	ctx, cancel := context.WithCancelCause(o.Parent)
	defer cancel(nil)
	c.mu.Lock()
	if a.Kind != core.Handle { // its context is of no more use to anyone; that of Handle is the handling's
		c.cancel(CauseTerminated)
	}
	c.over, c.timeout, c.ended, c.cancel = false, false, false, cancel
	c.telling, c.due, c.slow = true, time.Time{}, time.Time{}
	c.mu.Unlock()
	c.limit(o.TerminateTimeout, usercode.Grace)
	defer context.AfterFunc(o.Staying, func() { c.atMost(usercode.Grace, usercode.Grace) })()
	defer c.returned()
	if panicked := failed(ctx, c.claim, got.Err); panicked != "" {
		f := c.failure("a failure callback panicked", panicked)
		f.Level = zap.ErrorLevel
		o.Failures.Add(f)
	}
}

// failure is a line of the log about the call.
func (c *call) failure(message, why string) failures.Failure {
	return failures.Failure{
		Message: message, Level: zap.WarnLevel, Call: c.do.Kind.String(), Resource: c.do.ID, Error: why,
		Fields: []zap.Field{zap.Int64("token", c.do.Token)},
	}
}
