package calls

import (
	"container/heap"
	"time"
)

// dueChecks is a heap of the checks that are due later, the next one first. Handling.checkPlace is the index in it,
// plus 1, so that a check can be taken out when its handling ends.
type dueChecks []dueCheck

type dueCheck struct {
	at time.Duration
	of *Handling
}

// put adds a check of a handling, unless there is one already.
func (q *dueChecks) put(h *Handling, at time.Duration) {
	if h.checkPlace == 0 {
		heap.Push(q, dueCheck{at, h})
	}
}

// take takes out the next check. There must be one.
func (q *dueChecks) take() *Handling { return heap.Pop(q).(dueCheck).of }

// remove takes out the check of a handling, if there is one.
func (q *dueChecks) remove(h *Handling) {
	if h.checkPlace != 0 {
		heap.Remove(q, int(h.checkPlace)-1)
	}
}

// The methods of heap.Interface keep the places up to date.

func (q dueChecks) Len() int           { return len(q) }
func (q dueChecks) Less(i, j int) bool { return q[i].at < q[j].at }

func (q dueChecks) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].of.checkPlace, q[j].of.checkPlace = int32(i)+1, int32(j)+1
}

func (q *dueChecks) Push(x any) {
	due := x.(dueCheck)
	*q = append(*q, due)
	due.of.checkPlace = int32(len(*q))
}

func (q *dueChecks) Pop() any {
	last := len(*q) - 1
	due := (*q)[last]
	(*q)[last] = dueCheck{}
	if *q = (*q)[:last]; last == 0 {
		*q = nil // a member without resources needs no memory for them
	}
	due.of.checkPlace = 0
	return due
}
