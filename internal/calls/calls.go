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

// Handler adapts the user's handler. Its implementation recovers from panics of the user's code, and takes the texts of
// the user's errors, whose methods are the user's code too: they must be called in the goroutine, and within the
// limits, of the call.
type Handler interface {
	Handle(ctx context.Context, c Claim) Answer
	Update(ctx context.Context, c Claim) Answer
	Terminate(ctx context.Context, c Claim) Answer
	// HandleFailed and TerminateFailed tell the user of a call that failed. They return the text of a panic of the
	// user's code; "" if there was none.
	HandleFailed(ctx context.Context, c Claim, err error) (panicked string)
	TerminateFailed(ctx context.Context, c Claim, err error) (panicked string)
	// Check asks whether what Handle began still works. It is called only if Options.Checks say so.
	Check(ctx context.Context, c Claim) Checked
}

// Answer is the result of a call.
type Answer struct {
	Outcome core.Outcome // OK, Error, Panicked, or Unclear: a Handle that failed, but may have started something
	Err     error        // for the user's failure callbacks only; nil if Outcome is OK
	Text    string       // the text of Err
}

// Core gets the results of the calls. *core.Core implements it. Its methods are called on the loop only.
type Core interface {
	CallDone(now time.Duration, shard int, id string, out core.Outcome, text string)
	CallRuns(now time.Duration, shard int, id, text string)
	CallStuck(now time.Duration, shard int, id, text string)
	CallFailing(now time.Duration, shard int, id, text string)
	Reported(now time.Duration, shard int, id string, out core.Outcome, text string)
	Broke(now time.Duration, shard int, id, text string)
	Lapsed(now time.Duration, shard int, id string)
	Doubt(now time.Duration, shard int, id string)
	RetryHandles(now time.Duration)
}

// Options is what Calls needs. No field has a default.
type Options struct {
	Handler Handler
	// Instance asks which instance of the service answers that does the handler's work; "" if it does not tell. It is
	// the user's code. It is nil if the handler has no such service.
	Instance            func(ctx context.Context) (string, error)
	HandleTimeout       time.Duration // bounds each Handle and Update; Forever: no limit
	TerminateTimeout    time.Duration // bounds each Terminate, and the wait for a Handle or Update that was cancelled
	HoldUntilTerminated bool          // a claim whose Terminate failed stays, and Terminate is called again
	// AtLeast is the least that Handling.Remaining returns before the lease's context ends. KeepOnOutage promises it,
	// though nobody can know it. 0 promises nothing.
	AtLeast time.Duration
	Checks  Checks

	Core Core
	// Post makes the loop call f, with the time by the clock that measures leases. It never blocks. It returns false if
	// the loop has ended, so that f will not run.
	Post func(f func(now time.Duration)) bool
	Wall func() time.Time // shown to people; no decision depends on it

	// Parent is the parent context of failure callbacks, and of a Terminate that cleans up after its claim has ended.
	// It ends when Stop's time is up.
	Parent  context.Context
	Staying context.Context // ends when the member begins to stop

	Log      *zap.Logger
	Failures *failures.Log
}

// Calls makes the calls of a member's handler. Only the loop calls its methods. Each method starts a call, or acts on
// one, and returns at once; the result goes to the Core.
type Calls struct {
	o         Options
	handlings handlings
	lives     heardLives
	checks    checks
	alarms    sync.Pool // holds *alarm that calls no longer need
}

// New makes a Calls that has no call in progress. It starts nothing.
func New(o Options) *Calls {
	off := o.Checks.Interval == 0 || o.Checks.Interval == Forever
	return &Calls{o: o, handlings: handlings{}, checks: checks{off: off, from: time.Now()}}
}

// Handle calls Handle for a claim on a lease. If the lease is nil, fenced or past its deadline, the call is refused.
func (cs *Calls) Handle(now time.Duration, a core.Action, l *Lease) {
	if l == nil || l.Keeper.Fenced() || l.Keeper.Deadline() <= now && cs.o.AtLeast == 0 {
		cs.o.Post(func(now time.Duration) { cs.o.Core.CallDone(now, a.Shard, a.ID, core.Refused, "") })
		return
	}
	h := &Handling{
		calls: cs, lease: l, shard: a.Shard, life: cs.lives.Number(),
		claim: Claim{ID: a.ID, Data: a.Data, Token: a.Token},
	}
	h.claim.Of = h
	if former := cs.handlings.of(a.Shard, a.ID); former != nil && former.gone && former.claim.Token == a.Token {
		h.former = former
	}
	cs.handlings.put(h)
	l.enter(h)
	cs.start(h.ctx, h.cancel, a, h)
}

// Update calls Update with the changed data of a resource that is being handled.
func (cs *Calls) Update(a core.Action) {
	h := cs.handlings.of(a.Shard, a.ID)
	cs.stopChecking(h, CauseChanged)
	h.claim.Data = a.Data
	ctx, cancel := context.WithCancelCause(h.ctx)
	cs.start(ctx, cancel, a, h)
}

// Terminate calls Terminate for a claim on a lease, which is nil if the lease is gone. While the claim lasts, the
// call's context ends with it. A Terminate that comes later cleans up, and has all of its time; so has the one that
// follows a Terminate that the end of the claim cut off.
func (cs *Calls) Terminate(a core.Action, l *Lease) {
	h := cs.handlings.of(a.Shard, a.ID)
	if h == nil { // the handler does not have the resource
		cs.o.Post(func(now time.Duration) { cs.o.Core.CallDone(now, a.Shard, a.ID, core.OK, "") })
		return
	}
	cs.stopChecking(h, causeOf(a.Cause))
	if cs.lapsed(h) {
		h.end(CauseGone)
		cs.handlings.drop(h)
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

// Cancel ends the context of the call in progress. If the claim is lost, it ends the context of the whole handling.
func (cs *Calls) Cancel(a core.Action) {
	h := cs.handlings.of(a.Shard, a.ID)
	if h == nil {
		return
	}
	cause := causeOf(a.Cause)
	switch a.Cause {
	case core.ClaimLost:
		cs.stopChecking(h, cause)
		h.end(cause) // another member may have the claim
	case core.Gone:
		cs.stopChecking(h, cause)
		h.lapse()
		return
	}
	if h.call != nil && h.call.do.Kind != core.Terminate { // a Terminate is ending the handling already
		h.call.end(cause, cs.o.TerminateTimeout)
	}
}

// Find returns the handling of a resource under a token; nil if there is none.
func (cs *Calls) Find(shard int, id string, token int64) *Handling {
	if h := cs.handlings.of(shard, id); h != nil && h.claim.Token == token {
		return h
	}
	return nil
}

// ClaimOf returns the claim under which the handler has a resource, with the data that it was last given; ok is false
// if the handler does not have the resource.
func (cs *Calls) ClaimOf(shard int, id string) (c Claim, ok bool) {
	h := cs.handlings.of(shard, id)
	if h == nil {
		return Claim{}, false
	}
	return h.claim, true
}

// Longest describes the calls that have been in progress for longest, at most that many.
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
	c := &call{calls: cs, do: a, of: h, claim: h.claim, life: cs.lives.Number(), ctx: ctx, cancel: cancel}
	h.call = c
	go c.run()
}

// limits returns the timeout of a kind of call, and the time after its context has ended until it is given up.
func (cs *Calls) limits(kind core.ActionKind) (timeout, grace time.Duration) {
	if kind == core.Terminate {
		return cs.o.TerminateTimeout, usercode.Grace
	}
	return cs.o.HandleTimeout, cs.o.TerminateTimeout
}

// reported passes a report of the handler to the core. It runs on the loop.
func (cs *Calls) reported(now time.Duration, h *Handling, failed bool, text string) {
	switch id := h.claim.ID; {
	case h.gone:
	case cs.handlings.of(h.shard, id) != h: // h was terminated; the same claim may have another handling by now
	case failed:
		cs.o.Core.Reported(now, h.shard, id, core.Error, text)
	default:
		cs.o.Core.Reported(now, h.shard, id, core.OK, "")
	}
}

// done ends what a call that has returned no longer needs, and reports the outcome to the core. It runs on the loop.
func (cs *Calls) done(now time.Duration, c *call, out core.Outcome, text string) {
	a, h := &c.do, c.of
	if h.call == c {
		h.call = nil
		if !c.served {
			cs.unserved(c, out)
		}
	}
	switch {
	case a.Kind == core.Update:
		c.cancel(CauseTerminated) // this ends only the context of the Update, not that of the handling
	case a.Kind == core.Terminate && out != core.Cut && (out == core.OK || !cs.o.HoldUntilTerminated):
		c.cancel(CauseTerminated)
		h.end(CauseTerminated)
		cs.handlings.drop(h)
	case a.Kind == core.Terminate:
		c.cancel(CauseTerminated)
	case a.Kind == core.Handle && out == core.Refused:
		former := h.former // it was not replaced
		h.former = nil
		h.end(CauseTerminated)
		cs.handlings.drop(h)
		if former != nil {
			cs.handlings.put(former)
		}
	case a.Kind == core.Handle && out == core.Error:
		h.end(CauseTerminated) // the handler does not have the resource
		cs.handlings.drop(h)
	case a.Kind == core.Handle && out == core.OK:
		h.replace()
	}
	cs.o.Core.CallDone(now, a.Shard, a.ID, out, text)
	if h.call == nil && cs.handlings.of(a.Shard, a.ID) == h {
		if a.Kind != core.Terminate && out == core.OK {
			h.failedChecks = 0
			cs.checkLater(h)
		}
		cs.renew(now, h) // another instance may have been heard of meanwhile
	}
}
