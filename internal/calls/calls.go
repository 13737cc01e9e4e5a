package calls

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// Forever is a timeout that never passes.
const Forever = time.Duration(math.MaxInt64)

// Handler is the user's code. Whoever implements it recovers from its panics, and takes down the texts of its errors:
// their methods are the user's code too, and are to be called in the goroutine, and within the limits, of the call.
type Handler interface {
	Handle(ctx context.Context, c Claim) Answer
	Update(ctx context.Context, c Claim) Answer
	Terminate(ctx context.Context, c Claim) Answer
	// HandleFailed and TerminateFailed tell the user of a call that failed. They return the text of a panic; "" for
	// none.
	HandleFailed(ctx context.Context, c Claim, err error) (panicked string)
	TerminateFailed(ctx context.Context, c Claim, err error) (panicked string)
}

// Answer is what came of a call.
type Answer struct {
	Outcome core.Outcome // OK, Error, Panicked, or Unclear: of a Handle that may have begun though it failed
	Err     error        // for the user's own callbacks; nil where Outcome is OK
	Text    string       // what Err says, for everyone else
}

// Core is what is told of the calls; a *core.Core. Its methods are called on the loop only.
type Core interface {
	CallDone(now time.Duration, shard int, id string, out core.Outcome, text string)
	CallRuns(now time.Duration, shard int, id, text string)
	CallStuck(now time.Duration, shard int, id, text string)
	CallFailing(now time.Duration, shard int, id, text string)
	Reported(now time.Duration, shard int, id string, out core.Outcome, text string)
}

// Options is what Calls needs. Nothing of it has a default.
type Options struct {
	Handler             Handler
	HandleTimeout       time.Duration // bounds each Handle and Update; Forever: nothing does
	TerminateTimeout    time.Duration // bounds each Terminate, and how long a cancelled call is waited for
	HoldUntilTerminated bool          // a resource whose Terminate failed stays, and Terminate is called again
	// AtLeast is what Remaining does not fall below before the lease's context ends: what KeepOnOutage promises though
	// nobody can know it. 0: nothing.
	AtLeast time.Duration

	Core Core
	// Post runs f on the loop, with the time by the clock that leases are measured by. It never blocks. False says that
	// the loop has ended, and that f does not run.
	Post func(f func(now time.Duration)) bool
	Wall func() time.Time // what people are told the time by

	Parent  context.Context // of a Terminate that cleans up after a claim, and of notifications: ends when Stop's time is up
	Staying context.Context // ends when the member begins to stop

	Log      *zap.Logger
	Failures *failures.Log
}

// Calls are the calls that a member makes of its handler. New makes it. All methods are for the loop only.
type Calls struct {
	o         Options
	handlings handlings
	alarms    sync.Pool // of *alarm: timers that calls have left
}

// New makes the calls of a member, none of which is in progress.
func New(o Options) *Calls { return &Calls{o: o, handlings: handlings{}} }

// Handle calls Handle for a claim on a lease, unless that is nil, or too near its deadline.
func (cs *Calls) Handle(now time.Duration, a core.Action, l *Lease) {
	if l == nil || l.Keeper.Fenced() || l.Keeper.Deadline() <= now && cs.o.AtLeast == 0 {
		cs.o.Post(func(now time.Duration) { cs.o.Core.CallDone(now, a.Shard, a.ID, core.Refused, "") })
		return
	}
	h := &Handling{calls: cs, lease: l, shard: a.Shard, claim: Claim{ID: a.ID, Data: a.Data, Token: a.Token}}
	h.claim.Of = h
	cs.handlings.put(h)
	l.enter(h)
	cs.start(h.ctx, h.cancel, a, h)
}

// Update calls Update with the changed data of a resource that is being handled.
func (cs *Calls) Update(a core.Action) {
	h := cs.handlings.of(a.Shard, a.ID)
	h.claim.Data = a.Data
	ctx, cancel := context.WithCancelCause(h.ctx)
	cs.start(ctx, cancel, a, h)
}

// Terminate calls Terminate for a claim on a lease; nil: that is gone. Its context ends with the claim, if that has not
// ended yet. A Terminate that comes after that is there to clean up, and has all of its time. So has the one that
// follows where the end of the claim cut one short.
func (cs *Calls) Terminate(a core.Action, l *Lease) {
	h := cs.handlings.of(a.Shard, a.ID)
	if h == nil { // nothing was handed over
		cs.o.Post(func(now time.Duration) { cs.o.Core.CallDone(now, a.Shard, a.ID, core.OK, "") })
		return
	}
	parent := cs.o.Parent
	if l != nil && !l.over() && a.Cause != core.ClaimLost {
		parent = l.ctx
	}
	if a.Cause != core.Fenced && a.Cause != core.ClaimLost {
		cs.o.Log.Debug("terminate", zap.String("resource", a.ID), zap.Int64("token", a.Token),
			zap.NamedError("cause", causeOf(a.Cause)))
	}
	ctx, cancel := context.WithCancelCause(parent)
	cs.start(ctx, cancel, a, h)
}

// Cancel ends the context of what is handled, or that of the call in progress.
func (cs *Calls) Cancel(a core.Action) {
	h := cs.handlings.of(a.Shard, a.ID)
	if h == nil {
		return
	}
	cause := causeOf(a.Cause)
	if a.Cause == core.ClaimLost {
		h.end(cause) // somebody else may have the claim: nothing of the handling may go on
	}
	if h.call != nil && h.call.do.Kind != core.Terminate { // a Terminate ends the handling by itself
		h.call.end(cause, cs.o.TerminateTimeout)
	}
}

// Longest names the calls that have been in progress for longest, most of them at most.
func (cs *Calls) Longest(most int) []string {
	type running struct {
		since time.Time
		name  string
	}
	var all []running
	for _, in := range cs.handlings {
		for id, h := range in {
			if c := h.call; c != nil {
				all = append(all, running{c.since(), fmt.Sprintf("%v of %q", c.do.Kind, id)})
			}
		}
	}
	slices.SortFunc(all, func(a, b running) int { return a.since.Compare(b.since) })
	names := make([]string, 0, most)
	for _, r := range all[:min(len(all), most)] {
		names = append(names, fmt.Sprintf("%s for %v", r.name, time.Since(r.since).Round(100*time.Millisecond)))
	}
	return names
}

// start runs one call of the user's code in a goroutine of its own.
func (cs *Calls) start(ctx context.Context, cancel context.CancelCauseFunc, a core.Action, h *Handling) {
	c := &call{calls: cs, do: a, of: h, claim: h.claim, ctx: ctx, cancel: cancel}
	h.call = c
	go c.run()
}

// limits are those of a kind of call: its time, and how long it is waited for when its context has ended.
func (cs *Calls) limits(kind core.ActionKind) (timeout, grace time.Duration) {
	if kind == core.Terminate {
		return cs.o.TerminateTimeout, usercode.Grace
	}
	return cs.o.HandleTimeout, cs.o.TerminateTimeout
}

// reported runs on the loop when a handler has told how a handling goes.
func (cs *Calls) reported(now time.Duration, h *Handling, failed bool, text string) {
	switch id := h.claim.ID; {
	case cs.handlings.of(h.shard, id) != h: // it was terminated; the same claim may have another handling by now
	case failed:
		cs.o.Core.Reported(now, h.shard, id, core.Error, text)
	default:
		cs.o.Core.Reported(now, h.shard, id, core.OK, "")
	}
}

// done runs on the loop when a call has returned.
func (cs *Calls) done(now time.Duration, c *call, out core.Outcome, text string) {
	a, h := &c.do, c.of
	if h.call == c {
		h.call = nil
	}
	switch {
	case a.Kind == core.Update:
		c.cancel(CauseTerminated) // its own context only; it was handed the claim's data and no more
	case a.Kind == core.Terminate && out != core.Cut && (out == core.OK || !cs.o.HoldUntilTerminated):
		c.cancel(CauseTerminated)
		h.end(CauseTerminated)
		cs.handlings.drop(h)
	case a.Kind == core.Terminate:
		c.cancel(CauseTerminated)
	case a.Kind == core.Handle && (out == core.Refused || out == core.Error):
		h.end(CauseTerminated) // the handler does not have the resource
		cs.handlings.drop(h)
	}
	cs.o.Core.CallDone(now, a.Shard, a.ID, out, text)
}
