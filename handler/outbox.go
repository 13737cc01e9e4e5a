package handler

import (
	"encoding/json"
	"sync"
)

// outbox holds a guard's reports until the agent reads them. A guard must not wait for an agent that is stopped,
// because its processes have deadlines. The number of processes bounds the outbox: it keeps only the last
// acknowledgement, and for each process only the last report that it was stopped or goes on.
type outbox struct {
	mu      sync.Mutex
	waiting []report
	acked   int64 // the last acknowledgement; 0 if it was sent
	wake    chan struct{}
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

func (o *outbox) ack(seq int64) {
	o.mu.Lock()
	o.acked = seq
	o.mu.Unlock()
	ring(o.wake)
}

func (o *outbox) put(r report) {
	o.mu.Lock()
	if r.Stopped != "" || r.Resumed {
		for i, w := range o.waiting {
			if w.ID == r.ID && (w.Stopped != "" || w.Resumed) {
				o.waiting = append(o.waiting[:i], o.waiting[i+1:]...)
				break
			}
		}
	}
	o.waiting = append(o.waiting, r)
	o.mu.Unlock()
	ring(o.wake)
}

// ring wakes whoever waits on a channel that has room for one element. It does not block.
func ring(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run writes the reports to the agent, until a write fails. It ends with the guard.
func (o *outbox) run(to *json.Encoder) {
	for range o.wake {
		o.mu.Lock()
		batch := o.waiting
		o.waiting = nil
		if o.acked != 0 {
			batch = append(batch, report{Ack: o.acked})
			o.acked = 0
		}
		o.mu.Unlock()
		for _, r := range batch {
			if to.Encode(r) != nil {
				return
			}
		}
	}
}
