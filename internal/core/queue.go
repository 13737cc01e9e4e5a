package core

import (
	"container/heap"
	"time"
)

// queueID names the queue that a resource waits in.
type queueID uint8

const (
	noQueue        queueID = iota
	urgentQueue            // Terminate of resources that must end now, since another member may handle them soon
	terminateQueue         // Terminate of resources that are given away in order
	handleQueue            // Handle and Update that may begin
	claimQueue             // claims
	roomQueue              // claims that need room
	spareQueue             // claims that take the room that others leave
	keyQueue               // Handle of resources whose budget is not known yet
	admitQueue             // Handle of resources that wait until the trail may list them, as fast as budgets allow
	suspectQueue           // Handle of what is accused of one death
	isolateQueue           // Handle of what is accused of more, and waits until it can be isolated
	freshQueue             // Handle and Update that wait until the trail is to list them
	listedQueue            // Handle and Update that wait for the answer to the write of their trail
	budgetQueue            // Handle of resources that wait for their budget, and may begin then
	isolatedQueue          // Handle of what is isolated now
)

// fifo is a list of resources that come out in the order in which they came in.
type fifo struct {
	items []*resource
	head  int
}

func (q *fifo) add(r *resource) {
	if q.head > len(q.items)/2 { // reuse the space of taken items, or a fifo that is never empty would grow for ever
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, r)
}

// roomKept is the largest capacity that an empty fifo keeps: a few resources come and go all the time, but a hundred
// thousand come only once.
const roomKept = 1024

// take removes the first resource and returns it. There must be one.
func (q *fifo) take() *resource {
	r := q.items[q.head]
	q.items[q.head] = nil
	if q.head++; q.head == len(q.items) {
		q.head = 0
		if q.items = q.items[:0]; cap(q.items) > roomKept {
			q.items = nil
		}
	}
	return r
}

// first returns what take would return. There must be a resource.
func (q *fifo) first() *resource { return q.items[q.head] }

func (q *fifo) waiting() int { return len(q.items) - q.head }

// queue is a fifo of resources that wait for their turn. A resource waits in one queue only: when it is pushed into
// another one it leaves the first, where pop skips what it left behind. When its turn comes it may need something
// else by then, so begin looks again.
type queue struct {
	id queueID
	fifo
}

// push adds r, unless it waits here already.
func (q *queue) push(r *resource) {
	if r.queued != q.id {
		r.queued = q.id
		q.add(r)
	}
}

// first returns what pop would return; nil if nothing waits.
func (q *queue) first() *resource {
	for q.waiting() > 0 {
		if r := q.items[q.head]; r.queued == q.id {
			return r
		}
		q.take()
	}
	return nil
}

// pop removes the first resource and returns it; nil if nothing waits.
func (q *queue) pop() *resource {
	r := q.first()
	if r != nil {
		r.queued = noQueue
		q.take()
	}
	return r
}

// stateQueue is a fifo of resources whose states must be written.
type stateQueue struct {
	fifo
	since time.Duration // since when it has not been empty
	under int           // how many states and summaries are on their way
}

func (q *stateQueue) push(r *resource, now time.Duration) {
	if r.told.queued {
		return
	}
	if q.waiting() == 0 {
		q.since = now
	}
	r.told.queued = true
	q.add(r)
}

func (q *stateQueue) pop() *resource {
	r := q.take()
	r.told.queued = false
	return r
}

// timers is a heap of moments at which Tick looks at a resource, a shard or a lease again. Each may be in it several
// times, since it does no harm to look once too often.
type timers struct{ h timerHeap }

// timer is one such moment. At most one of r, sh, l and t is not nil; if none is, Tick only wakes the core up.
type timer struct {
	at time.Duration
	r  *resource
	sh *shard
	l  *leaseState
	t  *trail
}

func (t *timers) add(r *resource, at time.Duration) { heap.Push(&t.h, timer{at: at, r: r}) }

func (t *timers) addShard(sh *shard, at time.Duration) { heap.Push(&t.h, timer{at: at, sh: sh}) }

// next returns when the earliest timer is due; ok is false if there is none.
func (t *timers) next() (at time.Duration, ok bool) {
	if len(t.h) == 0 {
		return 0, false
	}
	return t.h[0].at, true
}

func (t *timers) addTrail(of *trail, at time.Duration) { heap.Push(&t.h, timer{at: at, t: of}) }

func (t *timers) addWake(at time.Duration) { heap.Push(&t.h, timer{at: at}) }

func (t *timers) addLease(l *leaseState, at time.Duration) { heap.Push(&t.h, timer{at: at, l: l}) }

// pop removes a timer that is due and returns it; ok is false if none is due.
func (t *timers) pop(now time.Duration) (due timer, ok bool) {
	if len(t.h) == 0 || t.h[0].at > now {
		return due, false
	}
	due = heap.Pop(&t.h).(timer)
	if due.r != nil && due.r.timerAt <= now {
		due.r.timerAt = 0
	}
	return due, true
}

type timerHeap []timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)        { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = timer{}
	*h = old[:len(old)-1]
	return t
}
