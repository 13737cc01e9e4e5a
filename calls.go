package drm

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/lease"
)

// lastGrace is how long a Terminate, or a notification, whose time is up is given to notice it before it is given up.
const lastGrace = time.Second

// causes translates the core's.
var causes = map[core.Cause]error{
	core.Stopped:   CauseStopped,
	core.Moved:     CauseMoved,
	core.Removed:   CauseRemoved,
	core.Changed:   CauseChanged,
	core.Fenced:    CauseFenced,
	core.ClaimLost: CauseClaimLost,
	core.Failure:   CauseTimeout,
}

// handling is one resource from the call of Handle until Terminate has returned. The loop's goroutine owns it, but for
// what its methods lock.
type handling struct {
	claim   Claim
	keeper  *lease.Keeper
	atLeast time.Duration   // of Remaining, until ctx ends: what KeepOnOutage promises though nobody knows
	ctx     context.Context // what Handle was given
	cancel  context.CancelCauseFunc
	call    *call // in progress; nil where none is
}

// Remaining makes a handling the Validity of its claim: nothing remains once its context has ended.
func (h *handling) Remaining() time.Duration {
	if h.ctx.Err() != nil {
		return 0
	}
	return max(h.keeper.Remaining(), h.atLeast)
}

// call is one call of the user's code, with the notification that follows it if it fails.
type call struct {
	cancel context.CancelCauseFunc
	giveUp func() // tells the core that the call is stuck

	mu      sync.Mutex
	over    bool
	timer   *time.Timer
	timeout bool // its time was up
	ended   bool // it was to end, for a reason that is no fault of its own
}

// limit ends the call's context when its time is up, and gives the call up when it still has not returned after grace.
func (c *call) limit(timeout, grace time.Duration) {
	if timeout == Forever {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arm(timeout, func() {
		c.timeout = true
		c.cancel(CauseTimeout)
		c.arm(grace, c.giveUp)
	})
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
	c.arm(grace, c.giveUp)
}

// arm replaces what is to happen when time passes. The caller holds mu, and f is called with mu held.
func (c *call) arm(after time.Duration, f func()) {
	if c.timer != nil {
		c.timer.Stop()
	}
	var t *time.Timer
	t = time.AfterFunc(after, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.over && c.timer == t {
			f()
		}
	})
	c.timer = t
}

// returned ends the limits, and reports whether the call's time was up, and whether it was to end.
func (c *call) returned() (timedOut, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.timer != nil {
		c.timer.Stop()
	}
	return c.timeout, c.ended
}

// startHandle calls Handle for a claim, unless its lease is too near its deadline.
func (m *Manager) startHandle(a core.Action) {
	l := m.leases[a.Lease]
	atLeast := time.Duration(0)
	if m.cfg.OutagePolicy == KeepOnOutage {
		atLeast = m.cfg.LeaseTTL / 2
	}
	if l == nil || l.keeper.Fenced() || l.keeper.Deadline() <= m.stamp && atLeast == 0 {
		m.post(func() { m.core.CallDone(m.stamp, a.Shard, a.ID, core.Refused, "") })
		return
	}
	ctx, cancel := context.WithCancelCause(l.ctx)
	h := &handling{keeper: l.keeper, atLeast: atLeast, ctx: ctx, cancel: cancel}
	h.claim = Claim{
		App: m.cfg.App, Member: m.id, Token: a.Token, validity: h,
		Resource: Resource{ID: a.ID, Data: a.Data},
	}
	m.handlings[a.ID] = h
	m.startCall(ctx, cancel, a, h, m.cfg.HandleTimeout, m.cfg.TerminateTimeout,
		m.cfg.Handler.Handle, m.cfg.Handler.HandleFailed)
}

// startUpdate calls Update with the changed data of a resource that is being handled.
func (m *Manager) startUpdate(a core.Action) {
	h := m.handlings[a.ID]
	h.claim.Resource.Data = a.Data
	ctx, cancel := context.WithCancelCause(h.ctx)
	m.startCall(ctx, cancel, a, h, m.cfg.HandleTimeout, m.cfg.TerminateTimeout,
		m.cfg.Handler.(Updater).Update, m.cfg.Handler.HandleFailed)
}

// startTerminate calls Terminate. Its context ends with the claim, if it has not ended yet; a Terminate that comes after
// that is there to clean up, and has its time.
func (m *Manager) startTerminate(a core.Action) {
	h := m.handlings[a.ID]
	if h == nil { // nothing was handed over
		m.post(func() { m.core.CallDone(m.stamp, a.Shard, a.ID, core.OK, "") })
		return
	}
	parent := m.ctx
	if l := m.leases[a.Lease]; l != nil && l.ctx.Err() == nil && a.Cause != core.ClaimLost {
		parent = l.ctx
	}
	if a.Cause != core.Fenced && a.Cause != core.ClaimLost {
		m.log.Debug("terminate", zap.String("resource", a.ID), zap.Int64("token", a.Token), zap.NamedError("cause", causes[a.Cause]))
	}
	ctx, cancel := context.WithCancelCause(parent)
	m.startCall(ctx, cancel, a, h, m.cfg.TerminateTimeout, lastGrace,
		m.cfg.Handler.Terminate, m.cfg.Handler.TerminateFailed)
}

// startCall runs one call of the user's code in a goroutine of its own, tells of its failure, and reports to the core.
func (m *Manager) startCall(ctx context.Context, cancel context.CancelCauseFunc, a core.Action, h *handling,
	timeout, grace time.Duration, f func(context.Context, Claim) error, failed func(context.Context, Claim, error),
) {
	claim := h.claim
	c := &call{cancel: cancel}
	c.giveUp = func() {
		m.post(func() {
			if h.call != c {
				return
			}
			m.log.Warn("call does not end, and is given up", zap.Stringer("call", a.Kind), zap.String("resource", a.ID), zap.Int64("token", a.Token))
			m.core.CallStuck(m.stamp, a.Shard, a.ID, a.Kind.String()+" does not return")
		})
	}
	h.call = c
	c.limit(timeout, grace)
	m.calls.Add(1)
	go func() {
		defer m.calls.Done()
		if a.Kind == core.Handle && ctx.Err() != nil { // over before it began: the handler need not know
			c.returned()
			m.post(func() { m.callDone(a, h, c, core.Refused, nil) })
			return
		}
		err := safely(func() error { return f(ctx, claim) })
		timedOut, ended := c.returned()
		if timedOut {
			err = fmt.Errorf("%w after %v", CauseTimeout, timeout)
		}
		if err != nil && (a.Kind == core.Terminate || !ended || timedOut) {
			m.tellFailure(a, c, claim, err, failed)
		}
		m.post(func() { m.callDone(a, h, c, outcome(err, timedOut), err) })
	}()
}

// tellFailure calls HandleFailed or TerminateFailed, under limits of its own.
func (m *Manager) tellFailure(a core.Action, failing *call, claim Claim, err error, failed func(context.Context, Claim, error)) {
	m.log.Warn("call failed", zap.Stringer("call", a.Kind), zap.String("resource", a.ID), zap.Int64("token", a.Token), zap.Error(err))
	ctx, cancel := context.WithCancelCause(m.ctx)
	defer cancel(nil)
	failing.mu.Lock()
	failing.over, failing.cancel = false, cancel
	failing.mu.Unlock()
	failing.limit(m.cfg.TerminateTimeout, lastGrace)
	if p := safely(func() error { failed(ctx, claim, err); return nil }); p != nil {
		m.log.Error("a failure callback panicked", zap.Stringer("call", a.Kind), zap.String("resource", a.ID), zap.Error(p))
	}
	failing.returned()
}

// callDone runs on the loop's goroutine when a call has returned.
func (m *Manager) callDone(a core.Action, h *handling, c *call, out core.Outcome, err error) {
	message := ""
	if err != nil {
		message = err.Error()
	}
	if h.call == c {
		h.call = nil
	}
	switch {
	case a.Kind == core.Update:
		c.cancel(CauseTerminated) // its own context only; it was handed the claim's data and no more
	case a.Kind == core.Terminate && (out == core.OK || m.cfg.TerminatePolicy != Hold):
		c.cancel(CauseTerminated)
		h.cancel(CauseTerminated)
		if m.handlings[a.ID] == h {
			delete(m.handlings, a.ID)
		}
	case a.Kind == core.Terminate:
		c.cancel(CauseTerminated)
	case a.Kind == core.Handle && (out == core.Refused || out == core.Error && h.ctx.Err() == nil):
		h.cancel(CauseTerminated) // the handler does not have it
		if m.handlings[a.ID] == h {
			delete(m.handlings, a.ID)
		}
	}
	m.core.CallDone(m.stamp, a.Shard, a.ID, out, message)
}

// cancelHandling ends the context of what is handled, or the call in progress.
func (m *Manager) cancelHandling(a core.Action) {
	h := m.handlings[a.ID]
	if h == nil {
		return
	}
	cause := causes[a.Cause]
	if a.Cause == core.ClaimLost {
		h.cancel(cause) // somebody else may have the claim: nothing of it may go on
	}
	if h.call != nil {
		h.call.end(cause, m.cfg.TerminateTimeout)
	}
}

func outcome(err error, timedOut bool) core.Outcome {
	var p *PanicError
	switch {
	case timedOut:
		return core.TimedOut
	case err == nil:
		return core.OK
	case errors.As(err, &p):
		return core.Panicked
	default:
		return core.Error
	}
}

// safely calls the user's code and turns a panic into a *PanicError.
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
