package core

import (
	"container/heap"
	"fmt"
	"math"
	"time"

	"golang.org/x/time/rate"
)

// gate lets resources pass as fast as rates allow. Each spends one token of the gate, and one of the lane in which it
// waits. A lane that has no token keeps no other lane waiting.
type gate struct {
	id      queueID
	limiter *rate.Limiter // of all that pass; nil: no bound

	able  []*lane // lanes where something waits and that have a token, in turn; what is before head has been taken
	head  int
	later laneHeap // lanes where something waits and that have no token yet
	waits int      // how many resources wait in all lanes
}

// lane has the resources that wait at a gate for one budget, in order.
type lane struct {
	fifo
	limiter *rate.Limiter // nil: no bound
	barred  bool          // this member may spend nothing of the budget, since it has no share of it
	full    bool          // so many have passed, and not begun, that no more may pass
	place   place
	at      time.Duration // if postponed: when it has a token
}

// place says where a lane is.
type place uint8

const (
	nowhere   place = iota // nothing waits in it, or it is barred or full
	inTurn                 // in gate.able
	postponed              // in gate.later
)

// reservedPause is how long a lane is skipped whose last token is reserved.
const reservedPause = time.Second

// moment is the time that package rate is given for a time of the core.
func moment(now time.Duration) time.Time { return time.Unix(0, int64(now)) }

// wait returns how long it takes until the limiter has a token. A limiter that is nil always has one.
func wait(l *rate.Limiter, now time.Duration) time.Duration {
	if l == nil {
		return 0
	}
	missing := 1 - l.TokensAt(moment(now))
	if missing <= 0 {
		return 0
	}
	return time.Duration(math.Ceil(missing / float64(l.Limit()) * float64(time.Second)))
}

// take spends a token of each limiter.
func take(now time.Duration, limiters ...*rate.Limiter) {
	for _, l := range limiters {
		if l != nil {
			l.AllowN(moment(now), 1)
		}
	}
}

// add makes a resource wait in a lane of the gate.
func (g *gate) add(l *lane, r *resource, now time.Duration) {
	r.queued = g.id
	l.add(r)
	g.waits++
	g.enlist(l, now)
}

// take takes the first resource out of a lane.
func (g *gate) take(l *lane) {
	l.take()
	g.waits--
}

// enlist puts a lane where it belongs, given what waits in it and how many tokens it has.
func (g *gate) enlist(l *lane, now time.Duration) {
	if l.place != nowhere || l.waiting() == 0 || l.barred || l.full {
		return
	}
	if w := wait(l.limiter, now); w > 0 {
		l.place, l.at = postponed, now+w
		heap.Push(&g.later, l)
		return
	}
	l.place = inTurn
	g.able = append(g.able, l)
}

// endTurn takes the lane whose turn it is out of g.able, and puts it where it belongs.
func (g *gate) endTurn(now time.Duration) { g.enlist(g.leaveTurn(), now) }

// skipTurn takes the lane whose turn it is out of g.able until a given time.
func (g *gate) skipTurn(until time.Duration) {
	l := g.leaveTurn()
	l.place, l.at = postponed, until
	heap.Push(&g.later, l)
}

func (g *gate) leaveTurn() *lane {
	l := g.able[g.head]
	l.place = nowhere
	g.able[g.head] = nil
	if g.head++; g.head > len(g.able)/2 {
		n := copy(g.able, g.able[g.head:])
		clear(g.able[n:])
		g.able, g.head = g.able[:n], 0
	}
	return l
}

// wake lets the lanes take their turn that have a token by now.
func (g *gate) wake(now time.Duration) {
	for len(g.later) > 0 && g.later[0].at <= now {
		l := heap.Pop(&g.later).(*lane)
		l.place = nowhere
		g.enlist(l, now)
	}
}

// forgetTimes takes all lanes out of g.later, since their rates have changed. The caller enlists them again.
func (g *gate) forgetTimes() {
	for _, l := range g.later {
		l.place = nowhere
	}
	clear(g.later)
	g.later = g.later[:0]
}

// next returns when something may pass that waits for a token; ok is false if nothing waits for that.
func (g *gate) next(now time.Duration) (at time.Duration, ok bool) {
	if g.head < len(g.able) {
		at, ok = now+wait(g.limiter, now), true
	}
	if len(g.later) > 0 && (!ok || g.later[0].at < at) {
		at, ok = g.later[0].at, true
	}
	return at, ok
}

// pass spends a token of a gate and of a lane, and returns the resource that passes; nil if nothing waits that has
// both.
func (c *Core) pass(g *gate) *resource {
	g.wake(c.now)
	for g.head < len(g.able) {
		l := g.able[g.head]
		r := c.firstOf(g, l)
		switch {
		case r == nil || l.barred || l.full || wait(l.limiter, c.now) > 0:
			g.endTurn(c.now)
			continue
		case c.reserves(l):
			g.skipTurn(c.now + reservedPause)
			continue
		case wait(g.limiter, c.now) > 0:
			return nil
		}
		take(c.now, g.limiter, l.limiter)
		g.take(l)
		r.queued = noQueue
		g.endTurn(c.now)
		return r
	}
	return nil
}

// firstOf returns the first resource that waits in a lane of a gate still, and drops those before it that do not; nil
// if none waits.
func (c *Core) firstOf(g *gate, l *lane) *resource {
	for l.waiting() > 0 {
		r := l.first()
		waits := r.sh != nil && r.queued == g.id && c.budgets.laneOf(g, r) == l
		if waits && c.belongsIn(r, g.id) {
			return r
		}
		g.take(l)
		if waits {
			r.queued = noQueue
			c.reconcile(r)
		}
	}
	return nil
}

// audit looks for a resource that waits in a lane which nothing will look at again.
func (g *gate) audit(r *resource, l *lane) error {
	switch {
	case r.queued != g.id:
	case l.waiting() == 0:
		return fmt.Errorf("resource %q is not in the lane of its budget", r.id)
	case l.place == nowhere && !l.barred && !l.full:
		return fmt.Errorf("resource %q waits in a lane that nothing looks at", r.id)
	}
	return nil
}

// laneHeap has the lanes without a token, the one first that has one first.
type laneHeap []*lane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h laneHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *laneHeap) Push(x any)        { *h = append(*h, x.(*lane)) }

func (h *laneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}
