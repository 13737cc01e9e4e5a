package handler

import (
	"sync"
	"time"
)

// How often a renewer looks at its processes: a tenth of the shortest validity, within these bounds.
const (
	renewAtLeast = 10 * time.Millisecond
	renewAtMost  = time.Second
)

// renewer tells the guards of a handler's processes how long their claims are valid. It has one goroutine, however
// many processes there are, and only while there are any.
type renewer struct {
	mu    sync.Mutex
	procs map[*process]struct{}
	quit  chan struct{} // closed to end the goroutine; nil while there is none
	ended chan struct{} // closed when it ended
}

func (r *renewer) add(p *process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.procs == nil {
		r.procs = make(map[*process]struct{})
	}
	r.procs[p] = struct{}{}
	if r.quit == nil {
		r.quit, r.ended = make(chan struct{}), make(chan struct{})
		go r.run(r.quit, r.ended)
	}
}

// remove forgets a process. With the last one the goroutine goes, and is waited for.
func (r *renewer) remove(p *process) {
	r.mu.Lock()
	delete(r.procs, p)
	ended := r.ended
	last := len(r.procs) == 0 && r.quit != nil
	if last {
		close(r.quit)
		r.quit = nil
	}
	r.mu.Unlock()
	if last {
		<-ended
	}
}

func (r *renewer) run(quit, ended chan struct{}) {
	defer close(ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-quit:
			return
		case <-timer.C:
		}
		r.mu.Lock()
		procs := make([]*process, 0, len(r.procs))
		for p := range r.procs {
			procs = append(procs, p)
		}
		r.mu.Unlock()
		next := renewAtMost
		for _, p := range procs {
			next = min(next, max(p.renew()/10, renewAtLeast))
		}
		timer.Reset(next)
	}
}
