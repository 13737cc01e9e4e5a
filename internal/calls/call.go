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

// call is one call of the user's code, together with the failure callback that follows it if it fails.
type call struct {
	calls *Calls
	do    core.Action // what the core decided
	of    *Handling
	claim Claim // the claim and data when the call began
	ctx   context.Context

	life   int32 // the current life of the service when the call began
	served bool  // the handler has said which instance has answered; the loop owns it

	mu     sync.Mutex
	cancel context.CancelCauseFunc
	limits
}

// run makes the call, calls the failure callback if it fails, and reports the outcome to the loop. It does all this
// also if the user's code ends the goroutine: the deferred calls run then.
func (c *call) run() {
	if c.refused() {
		c.returned()
		c.calls.o.Post(func(now time.Duration) { c.calls.done(now, c, core.Refused, "") })
		return
	}
	c.limit(c.calls.limits(c.do.Kind))
	got := Answer{Outcome: core.Panicked, Err: usercode.ErrGoexit, Text: usercode.ErrGoexit.Error()}
	defer func() { c.conclude(got) }()
	got = c.ask()
}

// refused is the last look at the clock before the user's code is called. Since the loop looked, the goroutine may have
// waited for long, the process may have been suspended, or the machine may have slept. A Terminate is never refused,
// because it cleans up.
func (c *call) refused() bool {
	if c.do.Kind == core.Terminate {
		return false
	}
	return c.ctx.Err() != nil || c.of.Remaining() <= 0
}

// gives says whether the call gives the resource to whoever answers it: a Handle or an Update does, until it has
// returned.
func (c *call) gives() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.do.Kind != core.Terminate && !c.telling
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

// conclude logs a failure of the call, calls the failure callback, and reports the outcome to the core.
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
	inOrder := a.Kind != core.Terminate && ended && !timedOut // the core cancelled it: its error is no failure
	switch {
	case got.Outcome == core.Cut && a.Kind == core.Terminate:
		o.Log.Debug("terminate was cut off by the end of its lease; calling it again",
			zap.String("resource", a.ID), zap.Int64("token", a.Token), zap.String("error", got.Text))
	case got.Err == nil || inOrder && !errors.Is(context.Cause(c.ctx), CauseClaimLost): // there is no failure to report
	default:
		o.Failures.Add(c.failure(message, got.Text))
		if !inOrder {
			c.tellFailure(got)
		}
	}
}

// tookTooLong returns the answer of a call whose time was up. said is the text of the error that it returned in the
// end.
func (c *call) tookTooLong(said string) Answer {
	timeout, _ := c.calls.limits(c.do.Kind)
	why := fmt.Errorf("%w after %v", CauseTimeout, timeout)
	if said != "" {
		why = fmt.Errorf("%w: %s", why, said)
	}
	return Answer{Outcome: core.TimedOut, Err: why, Text: why.Error()}
}

// isCut says whether a call returned an error because its context had ended, so that nobody knows what it has done. A
// Terminate counts only if its lease's end was the cause: then another Terminate follows.
func (c *call) isCut() bool {
	if c.do.Kind == core.Terminate {
		return errors.Is(context.Cause(c.ctx), CauseFenced)
	}
	return c.ctx.Err() != nil
}

// tellFailure calls HandleFailed or TerminateFailed, under limits of its own. It is part of the call, so the resource
// has no other call meanwhile. The core learns of the failure before that, so that the claim's key shows it at once.
// While the member stops, the callback has no more than usercode.Grace, because it must not delay the Terminate that
// follows.
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
	if a.Kind != core.Handle { // nobody needs its context any more; that of Handle belongs to the handling
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

// failure returns the log line of a failure of the call.
func (c *call) failure(message, why string) failures.Failure {
	return failures.Failure{
		Message: message, Level: zap.WarnLevel, Call: c.do.Kind.String(), Resource: c.do.ID, Error: why,
		Fields: []zap.Field{zap.Int64("token", c.do.Token)},
	}
}
