package schedule

import "time"

// Event is something that happens at a moment, in a life of a process P or outside of all processes.
type Event[P any] struct {
	At   time.Duration
	Of   P   // the process; the zero value: none
	Life int // the number of the life of that process
	Do   func()

	seq uint64 // its place among the events of the same moment
}

// before says whether an event happens before another one.
func (e *Event[P]) before(o *Event[P]) bool { return e.At < o.At || e.At == o.At && e.seq < o.seq }

// Agenda is a heap of events. Events of the same moment happen in the order in which they were put. The zero value is
// ready to use.
type Agenda[P any] struct {
	heap []Event[P]
	last uint64 // the seq of the event that was put last
}

// Put adds an event.
func (a *Agenda[P]) Put(e Event[P]) {
	a.last++
	e.seq = a.last
	a.heap = append(a.heap, e)
	h := a.heap
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !h[i].before(&h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

// NextAt returns when the next event happens; ok is false if there is none.
func (a *Agenda[P]) NextAt() (at time.Duration, ok bool) {
	if len(a.heap) == 0 {
		return 0, false
	}
	return a.heap[0].At, true
}

// Take removes the next event, and returns it. There must be one.
func (a *Agenda[P]) Take() Event[P] {
	h := a.heap
	top := h[0]
	n := len(h) - 1
	h[0] = h[n]
	h[n] = Event[P]{}
	h = h[:n]
	for i := 0; ; {
		least, l, r := i, 2*i+1, 2*i+2
		if l < n && h[l].before(&h[least]) {
			least = l
		}
		if r < n && h[r].before(&h[least]) {
			least = r
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	a.heap = h
	return top
}
