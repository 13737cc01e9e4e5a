package calls

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// mostHung is how many checks that do not return may be left behind, for each one that may be made at once. Only those
// beyond that take the place of others: what hangs costs a goroutine, and there must not be any number of them.
const mostHung = 16

// Checks says when the handler is asked whether what it began still works. The zero value says never.
type Checks struct {
	// Interval is the pause before each check of a resource, which is shorter by up to a fifth, at random. 0 and
	// Forever: nothing is checked.
	Interval    time.Duration
	Timeout     time.Duration // bounds a check
	Failures    int           // checks that fail in a row until the core is told that the handling broke
	Concurrency int           // checks at once
}

// Checked is the answer to a check.
type Checked struct {
	OK          bool
	Unsupported bool   // the handler cannot check; it is asked again only if another instance answers
	Text        string // why the check failed; "" if it is OK
}

// checks are the checks that are due later, and those in progress. Only the loop uses it.
//
// There may be a hundred thousand resources. One that waits for its check costs an entry of the queue, which is 16
// bytes, and no goroutine, timer or map entry.
type checks struct {
	off     bool // nothing is checked
	unknown bool // that is because the handler cannot check
	from    time.Time
	queue   dueChecks
	timer   *time.Timer
	armed   time.Duration // when the timer rings; 0 if it is not set
	running map[*Handling]*check
	busy    int // checks in progress that take part in the limit
	hung    int // checks in progress that were left behind
}

func (k *checks) now() time.Duration { return time.Since(k.from) }

// free returns how many checks may begin now.
func (k *checks) free(o *Checks) int {
	return o.Concurrency - k.busy - max(0, k.hung-mostHung*o.Concurrency)
}

// check is one check in progress.
type check struct {
	calls  *Calls
	of     *Handling
	claim  Claim
	ctx    context.Context
	cancel context.CancelCauseFunc

	// The loop owns these:
	life     int32 // the current life of the service when the check began
	over     bool  // its answer no longer counts: its time was up, or another call of its resource began
	hung     bool  // it was left behind
	returned bool
}

// checkLater makes a resource be checked after a pause. It must be handled, and no call of it may be in progress.
func (cs *Calls) checkLater(h *Handling) {
	k, every := &cs.checks, cs.o.Checks.Interval
	if k.off {
		return
	}
	k.queue.put(h, k.now()+every-rand.N(every/5+1))
	cs.setChecks()
}

// stopChecking ends the checks of a resource, because of cause. It does not wait for a check in progress, whose context
// ends.
func (cs *Calls) stopChecking(h *Handling, cause error) {
	k := &cs.checks
	k.queue.remove(h)
	if c := k.running[h]; c != nil {
		c.over = true
		c.cancel(cause)
		delete(k.running, h)
	}
}

// setChecks sets the timer to the next check, unless none can begin before another one has returned.
func (cs *Calls) setChecks() {
	k := &cs.checks
	if len(k.queue) == 0 || k.free(&cs.o.Checks) <= 0 {
		return
	}
	at := max(k.queue[0].at, 1)
	if k.armed != 0 && k.armed <= at {
		return
	}
	k.armed = at
	after := max(0, at-k.now())
	if k.timer == nil {
		k.timer = time.AfterFunc(after, func() { cs.o.Post(cs.checkDue) })
		return
	}
	k.timer.Reset(after)
}

// checkDue makes the checks that are due, as many as may be made at once.
func (cs *Calls) checkDue(now time.Duration) {
	k := &cs.checks
	k.armed = 0
	for due := k.now(); len(k.queue) > 0 && k.queue[0].at <= due && k.free(&cs.o.Checks) > 0; {
		cs.check(now, k.queue.take())
	}
	cs.setChecks()
}

// check makes a check, in a goroutine of its own.
func (cs *Calls) check(now time.Duration, h *Handling) {
	k := &cs.checks
	switch {
	case h.ctx.Err() != nil || cs.o.Staying.Err() != nil: // Terminate comes
		return
	case h.Remaining() <= 0: // Terminate comes, or else a renewal
		cs.checkLater(h)
		return
	case k.running[h] != nil:
		cs.checkFailed(now, h, "the check before has not returned")
		return
	}
	c := &check{calls: cs, of: h, claim: h.claim, life: cs.lives.Number()}
	c.ctx, c.cancel = context.WithCancelCause(h.ctx)
	if k.running == nil {
		k.running = map[*Handling]*check{}
	}
	k.running[h] = c
	k.busy++
	go c.run()
}

// run calls the user's code, and reports the answer to the loop, also if that code ends the goroutine.
func (c *check) run() {
	cs := c.calls
	// This goroutine sets the time, because the time that it waited for a processor is not the handler's.
	ctx, cancel := context.WithTimeoutCause(c.ctx, cs.o.Checks.Timeout, CauseTimeout)
	late := time.AfterFunc(cs.o.Checks.Timeout, c.timeIsUp)
	got := Checked{Text: usercode.ErrGoexit.Error()}
	defer func() {
		late.Stop()
		if errors.Is(context.Cause(ctx), CauseTimeout) { // whatever it says
			got = Checked{Text: c.noAnswer()}
		}
		cancel()
		c.cancel(nil)
		cs.o.Post(func(now time.Duration) { cs.checked(now, c, got) })
	}()
	got = cs.o.Handler.Check(ctx, c.claim)
}

func (c *check) noAnswer() string {
	return fmt.Sprintf("no answer within %v", c.calls.o.Checks.Timeout)
}

// timeIsUp counts a check as failed whose context has ended at its time. If it then does not return, it is left behind.
func (c *check) timeIsUp() {
	cs := c.calls
	cs.o.Post(func(now time.Duration) {
		if c.over || c.returned {
			return
		}
		c.over = true
		cs.checkFailed(now, c.of, c.noAnswer())
	})
	time.AfterFunc(usercode.Grace, func() {
		cs.o.Post(func(now time.Duration) { cs.leaveCheck(now, c) })
	})
}

// leaveCheck lets other checks begin in place of one that does not return.
func (cs *Calls) leaveCheck(now time.Duration, c *check) {
	if c.returned {
		return
	}
	k := &cs.checks
	c.hung = true
	k.busy--
	k.hung++
	f := failures.Failure{
		Message: "check does not return, though its context has ended", Level: zap.WarnLevel, Call: "check",
		Resource: c.claim.ID, Fields: []zap.Field{zap.Int64("token", c.claim.Token)},
	}
	if k.free(&cs.o.Checks) <= 0 {
		f.Message = "so many checks do not return that nothing is checked until one does"
		f.Level = zap.ErrorLevel
	}
	cs.o.Failures.Add(f)
	cs.checkDue(now)
}

// checked takes the answer of a check that has returned.
func (cs *Calls) checked(now time.Duration, c *check, got Checked) {
	k, h := &cs.checks, c.of
	c.returned = true
	if c.hung {
		k.hung--
	} else {
		k.busy--
	}
	if k.running[h] == c {
		delete(k.running, h)
	}
	switch {
	case c.over || h.ctx.Err() != nil:
	case got.Unsupported && c.life != cs.lives.Number(): // an earlier life may have said so
		cs.checkLater(h)
	case got.Unsupported:
		cs.checkNothing()
	case got.OK:
		h.failedChecks = 0
		cs.checkLater(h)
	default:
		cs.checkFailed(now, h, got.Text)
	}
	cs.checkDue(now)
}

// checkFailed counts a check that failed. After as many in a row as are too many, the core is told, and the resource is
// not checked again before it was handled again.
func (cs *Calls) checkFailed(now time.Duration, h *Handling, text string) {
	h.failedChecks++
	f := failures.Failure{
		Message: "check failed", Level: zap.InfoLevel, Call: "check", Resource: h.claim.ID, Error: text,
		Fields: []zap.Field{zap.Int64("token", h.claim.Token), zap.Uint16("in_a_row", h.failedChecks)},
	}
	if int(h.failedChecks) < cs.o.Checks.Failures {
		cs.o.Failures.Add(f)
		cs.checkLater(h)
		return
	}
	why := "check failed: " + text
	if h.failedChecks > 1 {
		why = fmt.Sprintf("check failed %d times in a row: %s", h.failedChecks, text)
	}
	f.Message, f.Level = "check failed too often in a row; terminate, and handle again", zap.WarnLevel
	cs.o.Failures.Add(f)
	cs.o.Core.Broke(now, h.shard, h.claim.ID, why)
}

// checkNothing ends all checks, since the handler cannot check.
func (cs *Calls) checkNothing() {
	k := &cs.checks
	if k.off {
		return
	}
	k.off, k.unknown = true, true
	for _, due := range k.queue {
		due.of.checkPlace = 0
	}
	k.queue = nil
	cs.o.Log.Info("the handler cannot check what it handles, and is not asked again")
}

// checkAgain begins with the checks again where the handler could not check, since another instance of its service may
// be able to. All is handled again there, and whatever has been handled is checked.
func (cs *Calls) checkAgain() {
	if k := &cs.checks; k.unknown {
		k.off, k.unknown = false, false
	}
}

// Answered takes note that an instance of the service has answered a check that began at a time. It does not mean that
// this instance has the resource.
func (h *Handling) Answered(instance string, began time.Time) {
	h.calls.o.Post(func(time.Duration) { h.calls.heard(instance, began) })
}
