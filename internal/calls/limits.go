package calls

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// Between these a call begins to count as one that takes long.
const (
	leastSlow = time.Second
	mostSlow  = 10 * time.Second
)

// limits are when a call's context ends, when it is given up, and when its claim's key says that it takes long. The
// call's mu guards them.
type limits struct {
	began   time.Time     // zero until the user's code is called
	timed   time.Duration // the call's timeout
	over    bool          // the call has returned
	alarm   *alarm        // set for due or slow, whichever comes first; nil where neither is set
	due     time.Time     // an alarm may go off late for what it was set to before; zero: nothing limits the call
	slow    time.Time     // when the claim's key is to say that the call takes long; zero: it is not to
	grace   time.Duration // from the end of the context until the call is given up
	timeout bool          // its time was up
	ended   bool          // it was to end, for a reason that is no fault of its own
	telling bool          // it has failed, and the handler is being told so
}

// limit ends the call's context when its time is up, and gives the call up when it still has not returned after grace.
// The call's own goroutine sets it: the time that the goroutine waits for a processor is not the handler's.
//
// A call that takes long has the claim's key say so: after half of its time, but 1 s at least and 10 s at most. So no
// ordinary call writes anything to etcd besides its outcome.
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

// since is when the call began, or now where it has not begun yet.
func (c *call) since() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began.IsZero() {
		return time.Now()
	}
	return c.began
}

// atMost makes the call's time be up after left, if that is sooner than it is anyway.
func (c *call) atMost(left, grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.ended || c.timeout || !c.due.IsZero() && time.Until(c.due) <= left {
		return
	}
	c.grace = grace
	c.arm(left)
}

// end ends the call's context because of cause, and gives the call up when it still has not returned after grace.
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
		c.alarm = c.calls.alarmOf(c, after)
	} else {
		c.alarm.timer.Reset(after)
	}
}

// timeIsUp ends the call's context, or gives the call up if that has ended already; or it only says that the call takes
// long.
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
		if !c.telling && c.grace > usercode.Grace { // most return at once now, and the outcome says more
			c.slow = now.Add(usercode.Grace)
		}
		c.arm(c.grace)
	}
}

// tellRuns makes the claim's key say since when the call runs. The caller holds mu.
func (c *call) tellRuns() {
	cs, a := c.calls, c.do
	began := cs.o.Wall().Add(-time.Since(c.began)).UTC().Format(time.RFC3339)
	said := fmt.Sprintf("%v has been running since %s", a.Kind, began)
	if c.timeout {
		said += fmt.Sprintf("; its time of %v is up, and it has not returned", c.timed)
	}
	cs.o.Post(func(now time.Duration) {
		if c.of.call == c {
			cs.o.Core.CallRuns(now, a.Shard, a.ID, said)
		}
	})
}

// giveUp tells the core that the call is stuck. Whatever the core lets go of then, nothing of the handling may go on
// before: its context ends first, and its claim is not valid any more.
func (c *call) giveUp() {
	cs, a := c.calls, c.do
	cs.o.Post(func(now time.Duration) {
		if c.of.call != c {
			return
		}
		c.of.end(CauseGivenUp)
		cs.o.Core.CallStuck(now, a.Shard, a.ID, a.Kind.String()+" does not return")
		cs.o.Failures.Add(
			c.failure("call does not end, and is given up", "it does not return, though its context has ended"),
		)
	})
}

// returned ends the limits, and reports whether the call's time was up, and whether it was to end.
func (c *call) returned() (timedOut, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.alarm != nil {
		c.calls.leave(c.alarm)
		c.alarm = nil
	}
	return c.timeout, c.ended
}

// alarm is a timer that serves one call after the other: most calls return long before it goes off.
type alarm struct {
	timer *time.Timer
	of    atomic.Pointer[call] // nil: nobody's
}

// alarmOf sets an alarm for a call: one that another call has left, where there is one.
func (cs *Calls) alarmOf(c *call, after time.Duration) *alarm {
	if a, ok := cs.alarms.Get().(*alarm); ok {
		a.of.Store(c)
		a.timer.Reset(after)
		return a
	}
	a := &alarm{}
	a.of.Store(c)
	a.timer = time.AfterFunc(after, a.ring)
	return a
}

// ring may come late, and so for the call that has the alarm now: timeIsUp looks whether its time is up.
func (a *alarm) ring() {
	if c := a.of.Load(); c != nil {
		c.timeIsUp()
	}
}

// leave stops an alarm and leaves it to other calls.
func (cs *Calls) leave(a *alarm) {
	a.timer.Stop()
	a.of.Store(nil)
	cs.alarms.Put(a)
}
