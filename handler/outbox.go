package handler

import (
	"encoding/json"
	"sync"
)

// outbox holds what a guard reports until the agent reads it: a guard must not wait for an agent that is stopped, since
// its processes have deadlines. It is bounded by the number of processes: of acknowledgements, and of what is told
// again and again of a process, only the last is kept.
type outbox struct {
	mu      sync.Mutex
	waiting []report
	acked   int64 // 0 if nothing new
	wake    chan struct{}
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

func (o *outbox) ack(seq int64) {
	o.mu.Lock()
	o.acked = seq
	o.mu.Unlock()
	o.ring()
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
	o.ring()
}

func (o *outbox) ring() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run writes what is put in, until that fails. It ends with the guard.
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
