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
	m       *Manager
	shard   int
}

// Report makes a handling the Reporter of its claim.
func (h *handling) Report(err error) { h.m.post(func() { h.m.reported(h, err) }) }

// Remaining makes a handling the Validity of its claim: nothing remains once its context has ended.
func (h *handling) Remaining() time.Duration {
	if h.ctx.Err() != nil {
		return 0
	}
	return max(h.keeper.Remaining(), h.atLeast)
}

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
	timer   *time.Timer
	due     time.Time     // when the timer's time is up; it may go off late for what it was set to before
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
	if c.timer == nil {
		c.timer = time.AfterFunc(after, c.timeIsUp)
	} else {
		c.timer.Reset(after)
	}
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
	h := &handling{keeper: l.keeper, atLeast: atLeast, ctx: ctx, cancel: cancel, m: m, shard: a.Shard}
	h.claim = Claim{
		App: m.cfg.App, Member: m.id, Token: a.Token, validity: h,
		Resource: Resource{ID: a.ID, Data: a.Data},
	}
	m.handlings[a.ID] = h
	m.startCall(ctx, cancel, a, h)
}

// startUpdate calls Update with the changed data of a resource that is being handled.
func (m *Manager) startUpdate(a core.Action) {
	h := m.handlings[a.ID]
	h.claim.Resource.Data = a.Data
	ctx, cancel := context.WithCancelCause(h.ctx)
	m.startCall(ctx, cancel, a, h)
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
	if l := m.leases[a.Lease]; l != nil && !l.over() && a.Cause != core.ClaimLost {
		parent = l.ctx
	}
	if a.Cause != core.Fenced && a.Cause != core.ClaimLost {
		m.log.Debug("terminate", zap.String("resource", a.ID), zap.Int64("token", a.Token), zap.Error(causes[a.Cause]))
	}
	ctx, cancel := context.WithCancelCause(parent)
	m.startCall(ctx, cancel, a, h)
}

// startCall runs one call of the user's code in a goroutine of its own.
func (m *Manager) startCall(ctx context.Context, cancel context.CancelCauseFunc, a core.Action, h *handling) {
	c := &call{m: m, do: a, of: h, claim: h.claim, ctx: ctx, cancel: cancel}
	h.call = c
	c.limit(m.limits(a.Kind))
	m.calls.Add(1)
	go c.run()
}

// limits are those of a kind of call.
func (m *Manager) limits(kind core.ActionKind) (timeout, grace time.Duration) {
	if kind == core.Terminate {
		return m.cfg.TerminateTimeout, lastGrace
	}
	return m.cfg.HandleTimeout, m.cfg.TerminateTimeout
}

// run makes the call, tells of its failure, and reports to the loop.
func (c *call) run() {
	m, a := c.m, &c.do
	defer m.calls.Done()
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
	if err != nil && (a.Kind == core.Terminate || !ended || timedOut) {
		c.tellFailure(err)
	}
	m.post(func() { m.callDone(c, outcome(err, timedOut), err) })
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

// reported runs on the loop's goroutine when a handler has told how a handling goes.
func (m *Manager) reported(h *handling, err error) {
	switch id := h.claim.Resource.ID; {
	case m.handlings[id] != h: // it was terminated; the same claim may have another one by now
	case err == nil:
		m.core.Reported(m.stamp, h.shard, id, core.OK, "")
	default:
		m.core.Reported(m.stamp, h.shard, id, core.Error, err.Error())
	}
}

// callDone runs on the loop's goroutine when a call has returned.
func (m *Manager) callDone(c *call, out core.Outcome, err error) {
	a, h := &c.do, c.of
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
	switch {
	case timedOut:
		return core.TimedOut
	case err == nil:
		return core.OK
	}
	if p := (*PanicError)(nil); errors.As(err, &p) {
		return core.Panicked
	}
	return core.Error
}

// safely calls the user's code and turns a panic into a *PanicError.
func safely(f func() error) (err error) {
	defer recovered(&err)
	return f()
}

// recovered, deferred, makes a panic an error.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}
