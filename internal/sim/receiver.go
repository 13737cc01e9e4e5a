package sim

import (
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
)

// Receivers says what the handlers of a Plan do with their calls.
type Receivers uint8

// The kinds of receivers.
const (
	NoReceivers Receivers = iota // the handlers do the work themselves
	KnowTokens                   // calls are requests to a receiver that refuses lower tokens; needs FinishCalls
	KnowNumbers                  // the receiver also refuses lower numbers of requests under one token
)

// receiver is what a member's handler sends its calls to, as a webhook does. Each member has one. It carries requests
// out when it gets to them, which may be long after the sender has stopped waiting. It ends with the member's process,
// and so do the requests on their way to it: rule 5 of docs/webhook.md demands that where each member has a receiver of
// its own. It does not know when its member is paused or cut off, and goes on.
type receiver struct {
	m      *member
	life   int   // the number of its process
	down   bool  // its process has not begun yet, so that nobody listens
	flying int   // requests that it has not got to yet
	of     []job // for each resource
}

// job is what a receiver knows of a resource.
type job struct {
	token   int64 // the highest token seen; what runs, runs under it
	call    int   // the highest number seen under that token
	running bool
	version string
	given   int64 // the token of the newest Handle or Update that was sent to it

	// cutOff has the tokens under which nobody waited for a request, since its claim or its time had ended. A receiver
	// that knows only tokens may have carried out such a request too late.
	cutOff []int64
	left   int64 // the highest token under which a Terminate failed: the policy may have let go of what is left
}

// message is one request to a receiver.
type message struct {
	kind    core.ActionKind
	r       int
	token   int64
	call    int // rises with each request for the resource under the token
	version string
}

// send sends a call as a request to the member's receiver, whose answer ends the call. It returns how long that takes.
func (c *call) send() time.Duration {
	m, w, rc := c.m, c.m.w, c.m.receiver
	w.count(Requested)
	c.to, c.asks, c.out = rc, true, core.Error
	if outlived := c.a.Kind == core.Terminate && m.isOutlived(c.h); outlived || rc.down {
		took, out := w.UpTo(5*time.Millisecond), core.Error
		if outlived { // the handler looks again before it sends a Terminate
			out = core.OK
		}
		m.after(took, func() { c.answer(out) })
		return took
	}
	n := &m.numbers[c.r]
	if n.token != c.a.Token {
		*n = number{token: c.a.Token}
	}
	n.calls++
	msg := message{c.a.Kind, c.r, c.a.Token, n.calls, string(c.a.Data)}
	if c.a.Kind == core.Terminate {
		c.checkGiven()
	} else {
		rc.of[c.r].given = c.a.Token
	}
	took := w.UpTo(5 * time.Millisecond)
	switch {
	case w.Chance(w.plan.Late):
		took = w.UpTo(longestCall)
	case w.Chance(20):
		took = w.UpTo(time.Second)
	}
	rc.flying++
	w.after(took, func() { rc.arrive(c, msg) })
	// The connection may break, before or after the request has arrived.
	if w.plan.Receivers == KnowNumbers && w.Chance(w.plan.Bad/4) {
		m.after(w.UpTo(2*took), c.unknown)
	}
	return took + time.Millisecond
}

// number counts the requests for a resource under a token.
type number struct {
	token int64
	calls int
}

// arrive makes the receiver look at a request.
func (rc *receiver) arrive(c *call, msg message) {
	m, w := rc.m, rc.m.w
	if m.receiver != rc { // this receiver's process has ended
		return
	}
	rc.flying--
	if c.returned || c.ctxEnded {
		w.count(Belated)
	}
	if w.Chance(w.plan.Bad) { // the receiver answers that it cannot do it
		w.in(w.Now+w.UpTo(time.Millisecond), m, m.gen, func() { c.answeredBy(rc.life, core.Error) })
		return
	}
	out := rc.carryOut(msg)
	if w.plan.Receivers == KnowNumbers && w.Chance(w.plan.Late) { // something on the way repeats the request
		rc.flying++
		w.after(w.UpTo(longestCall), func() {
			if m.receiver == rc {
				rc.flying--
				w.count(Repeated)
				rc.carryOut(msg)
			}
		})
	}
	if w.Chance(w.plan.Bad / 4) {
		w.in(w.Now, m, m.gen, c.unknown)
		return
	}
	w.in(w.Now+w.UpTo(time.Millisecond), m, m.gen, func() { c.answeredBy(rc.life, out) })
}

// carryOut does what a request asks for, unless the receiver has seen a newer one.
func (rc *receiver) carryOut(msg message) core.Outcome {
	w, j := rc.m.w, &rc.of[msg.r]
	w.Tracef("%s's receiver: %v of %s, token %d, call %d; it has seen %d, %d",
		rc.m.name, msg.kind, w.ids[msg.r], msg.token, msg.call, j.token, j.call)
	knows := w.plan.Receivers == KnowNumbers
	if msg.token < j.token || knows && msg.token == j.token && msg.call < j.call {
		w.count(Outdated)
		if msg.kind == core.Terminate {
			return core.OK
		}
		return core.Error
	}
	if msg.token > j.token {
		j.call = 0
	}
	j.token, j.call = msg.token, max(j.call, msg.call)
	j.running, j.version = msg.kind != core.Terminate, msg.version
	return core.OK
}

// answeredBy ends a call that waits for the answer that a life of the receiver has given.
func (c *call) answeredBy(life int, out core.Outcome) {
	if c.awaits() {
		c.m.post(func() { c.servedBy(life) })
		c.answer(out)
	}
}

// awaits says whether the call waits for the receiver's answer.
func (c *call) awaits() bool { return !c.returned && !c.answered && !(c.ctxEnded && c.heeds) }

// answer ends a call that waits for the receiver's answer.
func (c *call) answer(out core.Outcome) {
	if !c.awaits() {
		return
	}
	c.answered, c.out = true, out
	if !c.hangs {
		c.finish()
	}
}

// unknown ends a call that waits for an answer that cannot come. The request may have been carried out, may be carried
// out later, or never.
func (c *call) unknown() {
	if c.a.Kind == core.Terminate {
		c.answer(core.Error)
	} else {
		c.answer(core.Unclear)
	}
}

// cutOff notes that nobody waits for an answer any more, because the claim or the time is over.
func (c *call) cutOff() {
	if c.asks && !c.answered && !c.inOrder {
		c.m.w.count(CutOff)
		j := &c.to.of[c.r]
		j.cutOff = append(j.cutOff, c.a.Token)
	}
}

// left notes that a Terminate has failed. The policy may let go of what is left, at once or when the claim is lost.
func (c *call) left() {
	if c.asks {
		c.to.of[c.r].left = c.a.Token
	}
}

// ended notes that a receiver has answered that it has ended what it had.
func (c *call) ended() {
	if c.asks {
		c.to.of[c.r].left = 0
	}
}

// excused reports whether what runs may go on although its member does not handle it.
func (j *job) excused(w *world) bool {
	return j.left > 0 && j.left >= j.token || w.plan.Receivers == KnowTokens && slices.Contains(j.cutOff, j.token)
}

// checkReceivers looks for what receivers run and should not: what their member has ended, and what another member's
// receiver runs as well. The latter is allowed where the member's claim ended before its handling, as in the check of
// the members.
func (w *world) checkReceivers() {
	if w.plan.Receivers == NoReceivers {
		return
	}
	for r := range w.ids {
		var first *member
		for _, m := range w.members {
			if !m.up || !m.receiver.of[r].running {
				continue
			}
			j, h := &m.receiver.of[r], m.handlings[r]
			switch handled := h != nil && h.token == j.token; {
			case handled && (!h.valid() || h.keeper.excused()):
				continue
			case !handled && j.excused(w):
				w.count(LeftRunning)
				continue
			case !handled:
				w.Failf("%s's receiver runs %s under token %d, which its member has ended", m.name, w.ids[r], j.token)
				return
			case first != nil:
				w.Failf("%s is run by the receivers of %s and %s at once", w.ids[r], first.name, m.name)
				return
			}
			first = m
		}
	}
}

// whatIsWrong says what a receiver does not run, or runs differently from what its member handles. It returns "" where
// all is well.
func (rc *receiver) whatIsWrong(r int, h *handling) string {
	w, j := rc.m.w, &rc.of[r]
	right := j.running && j.token == h.token && j.version == h.version
	if w.plan.Receivers == NoReceivers || right || j.excused(w) {
		return ""
	}
	return "handles " + w.ids[r] + ", which its receiver does not run, or not so"
}
