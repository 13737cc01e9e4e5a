package calls

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// A call counts as one that takes long after half of its timeout, but not before leastSlow, and not after mostSlow.
const (
	leastSlow = time.Second
	mostSlow  = 10 * time.Second
)

// limits are when a call's context ends, when the call is given up, and when its claim's key says that it takes long.
// The call's mu guards them.
type limits struct {
	began   time.Time     // when the user's code was called; zero before
	timed   time.Duration // the call's timeout
	over    bool          // the call has returned
	alarm   *alarm        // set for due or slow, whichever comes first; nil if neither is set
	due     time.Time     // when the call's time is up, or it is given up; zero: nothing limits the call
	slow    time.Time     // when the claim's key must say that the call takes long; zero: never
	grace   time.Duration // from the end of the context until the call is given up
	timeout bool          // the call's time was up
	ended   bool          // the core cancelled the call
	telling bool          // the call has failed, and the failure callback runs
}

// limit ends the call's context when its time is up, and gives the call up if it has not returned after grace. The
// call's own goroutine calls it, because the time that this goroutine waits for a processor is not the handler's.
//
// limit also makes the claim's key say when the call takes long. An ordinary call writes nothing to etcd but its
// outcome.
func (c *call) limit(timeout, grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.telling {
		c.began, c.timed = time.Now(), timeout
	}
	if after := min(max(timeout/2, leastSlow), mostSlow); after < timeout && !c.telling {
		c.slow = c.began.Add(after)
	}
	if c.ended || timeout == Forever { // end has set the limit, or there is none
		c.set()
		return
	}
	c.grace = grace
	c.arm(timeout)
}

// since returns when the call began, or now if it has not begun yet.
func (c *call) since() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began.IsZero() {
		return time.Now()
	}
	return c.began
}

// atMost shortens the call's time to left, unless less is left anyway.
func (c *call) atMost(left, grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.ended || c.timeout || !c.due.IsZero() && time.Until(c.due) <= left {
		return
	}
	c.grace = grace
	c.arm(left)
}

// end ends the call's context because of cause, and gives the call up if it has not returned after grace.
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

// arm sets when the call's time is up. The caller holds mu.
func (c *call) arm(after time.Duration) {
	c.due = time.Now().Add(after)
	c.set()
}

// set sets the alarm for due or slow, whichever comes first. The caller holds mu.
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

// timeIsUp does what is due when the alarm rings: it makes the claim's key say that the call takes long, ends the
// call's context, or gives the call up if its context has ended already. It does nothing if the alarm rings too early.
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
		if !c.telling && c.grace > usercode.Grace { // most calls return at once now, and their outcome says more
			c.slow = now.Add(usercode.Grace)
		}
		c.arm(c.grace)
	}
}

// tellRuns makes the claim's key say since when the call has been running. The caller holds mu.
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

// giveUp reports to the core that the call is stuck. Because the core may release the claim then, the handling's
// context and claim end before.
func (c *call) giveUp() {
	cs, a := c.calls, c.do
	cs.o.Post(func(now time.Duration) {
		if c.of.call != c {
			return
		}
		c.of.end(CauseGivenUp)
		cs.o.Core.CallStuck(now, a.Shard, a.ID, a.Kind.String()+" does not return")
		why := "it does not return, though its context has ended"
		cs.o.Failures.Add(c.failure("call does not end, and is given up", why))
	})
}

// returned ends the limits, and reports whether the call's time was up, and whether the core had cancelled it.
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

// alarm is a timer that serves one call after the other, because most calls return long before it rings.
type alarm struct {
	timer *time.Timer
	of    atomic.Pointer[call] // the call that it serves now; nil if there is none
}

// alarmOf sets an alarm for a call. It takes one that another call no longer needs, if there is any.
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

// ring wakes the call that has the alarm. It may come late, when another call already has the alarm; so timeIsUp checks
// whether anything is due.
func (a *alarm) ring() {
	if c := a.of.Load(); c != nil {
		c.timeIsUp()
	}
}

// leave stops an alarm that its call no longer needs, and keeps it for other calls.
func (cs *Calls) leave(a *alarm) {
	a.timer.Stop()
	a.of.Store(nil)
	cs.alarms.Put(a)
}
