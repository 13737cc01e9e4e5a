package drm

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/core"
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
	lease   *claimLease
	atLeast time.Duration   // of Remaining, until the lease's context ends: what KeepOnOutage promises though nobody knows
	over    atomic.Bool     // the claim was lost, or the handler does not have it any more
	ctx     context.Context // what Handle was given; ends with the lease's
	cancel  context.CancelCauseFunc
	place   int   // among the lease's; it locks that
	call    *call // in progress; nil where none is
	m       *Manager
	shard   int
}

// Report makes a handling the Reporter of its claim.
func (h *handling) Report(err error) {
	failed, text := err != nil, ""
	if failed {
		text = textOf(err) // in the user's goroutine
	}
	h.m.post(func() { h.m.reported(h, failed, text) })
}

// Remaining makes a handling the Validity of its claim. That the manager does not want the handling any more, and ended
// its context, does not end the claim: what is being ended in an orderly way may still count on it.
func (h *handling) Remaining() time.Duration {
	if h.over.Load() || h.lease.ctx.Err() != nil {
		return 0
	}
	return max(h.lease.keeper.Remaining(), h.atLeast)
}

// end is for when nothing of the handling may go on: its context ends, and its claim is not valid any more.
func (h *handling) end(cause error) {
	h.cancel(cause)
	h.over.Store(true)
	h.lease.leave(h)
}

// handlings are those of a member, by shard and id: one map of all would be in no cache, and copied whenever it grows.
type handlings map[int]map[string]*handling

// of returns nil where a resource is not being handled.
func (hs handlings) of(shard int, id string) *handling { return hs[shard][id] }

func (hs handlings) put(id string, h *handling) {
	in := hs[h.shard]
	if in == nil {
		in = make(map[string]*handling)
		hs[h.shard] = in
	}
	in[id] = h
}

// drop removes h, unless another one has taken its place.
func (hs handlings) drop(id string, h *handling) {
	in := hs[h.shard]
	if in[id] != h {
		return
	}
	if delete(in, id); len(in) == 0 {
		delete(hs, h.shard)
	}
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
	h := &handling{lease: l, atLeast: atLeast, m: m, shard: a.Shard}
	h.claim = Claim{
		App: m.cfg.App, Member: m.id, Token: a.Token, validity: h,
		Resource: Resource{ID: a.ID, Data: a.Data},
	}
	m.handlings.put(a.ID, h)
	l.enter(h)
	m.startCall(h.ctx, h.cancel, a, h)
}

// startUpdate calls Update with the changed data of a resource that is being handled.
func (m *Manager) startUpdate(a core.Action) {
	h := m.handlings.of(a.Shard, a.ID)
	h.claim.Resource.Data = a.Data
	ctx, cancel := context.WithCancelCause(h.ctx)
	m.startCall(ctx, cancel, a, h)
}

// startTerminate calls Terminate. Its context ends with the claim, if it has not ended yet; a Terminate that comes after
// that is there to clean up, and has its time. So has the one that follows where an end of the claim cut one short.
func (m *Manager) startTerminate(a core.Action) {
	h := m.handlings.of(a.Shard, a.ID)
	if h == nil { // nothing was handed over
		m.post(func() { m.core.CallDone(m.stamp, a.Shard, a.ID, core.OK, "") })
		return
	}
	parent := m.ctx
	if l := m.leases[a.Lease]; l != nil && !l.over() && a.Cause != core.ClaimLost {
		parent = l.ctx
	}
	if a.Cause != core.Fenced && a.Cause != core.ClaimLost {
		m.log.Debug("terminate", zap.String("resource", a.ID), zap.Int64("token", a.Token), zap.NamedError("cause", causes[a.Cause]))
	}
	ctx, cancel := context.WithCancelCause(parent)
	m.startCall(ctx, cancel, a, h)
}

// startCall runs one call of the user's code in a goroutine of its own.
func (m *Manager) startCall(ctx context.Context, cancel context.CancelCauseFunc, a core.Action, h *handling) {
	c := &call{m: m, do: a, of: h, claim: h.claim, ctx: ctx, cancel: cancel}
	h.call = c
	go c.run()
}

// limits are those of a kind of call.
func (m *Manager) limits(kind core.ActionKind) (timeout, grace time.Duration) {
	if kind == core.Terminate {
		return m.cfg.TerminateTimeout, lastGrace
	}
	return m.cfg.HandleTimeout, m.cfg.TerminateTimeout
}

// reported runs on the loop's goroutine when a handler has told how a handling goes.
func (m *Manager) reported(h *handling, failed bool, text string) {
	switch id := h.claim.Resource.ID; {
	case m.handlings.of(h.shard, id) != h: // it was terminated; the same claim may have another one by now
	case failed:
		m.core.Reported(m.stamp, h.shard, id, core.Error, text)
	default:
		m.core.Reported(m.stamp, h.shard, id, core.OK, "")
	}
}

// callDone runs on the loop's goroutine when a call has returned.
func (m *Manager) callDone(c *call, out core.Outcome, text string) {
	a, h := &c.do, c.of
	if h.call == c {
		h.call = nil
	}
	switch {
	case a.Kind == core.Update:
		c.cancel(CauseTerminated) // its own context only; it was handed the claim's data and no more
	case a.Kind == core.Terminate && out != core.Cut && (out == core.OK || m.cfg.TerminatePolicy != HoldUntilTerminated):
		c.cancel(CauseTerminated)
		h.end(CauseTerminated)
		m.handlings.drop(a.ID, h)
	case a.Kind == core.Terminate:
		c.cancel(CauseTerminated)
	case a.Kind == core.Handle && (out == core.Refused || out == core.Error):
		h.end(CauseTerminated) // the handler does not have it
		m.handlings.drop(a.ID, h)
	}
	m.core.CallDone(m.stamp, a.Shard, a.ID, out, text)
}

// cancelHandling ends the context of what is handled, or the call in progress.
func (m *Manager) cancelHandling(a core.Action) {
	h := m.handlings.of(a.Shard, a.ID)
	if h == nil {
		return
	}
	cause := causes[a.Cause]
	if a.Cause == core.ClaimLost {
		h.end(cause) // somebody else may have the claim: nothing of it may go on
	}
	if h.call != nil && h.call.do.Kind != core.Terminate { // that one ends it
		h.call.end(cause, m.cfg.TerminateTimeout)
	}
}
