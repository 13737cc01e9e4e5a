package handler

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// condition is what is known about the processes of one Handle.
//
// A resource's state can be failed for two reasons: its process ends again and again, or is stopped (SIGSTOP). Both can
// hold at once. The condition reports the one that counts.
type condition struct {
	claim    drm.Claim
	patience time.Duration           // how long a process may be stopped; drm.Forever: without end
	soft     context.Context         // ends when the processes should end
	process  atomic.Pointer[process] // the last one that was started
	stuck    chan struct{}           // closed when a process was stopped for longer than patience

	mu      sync.Mutex // held during a report, so that reports arrive in the order of their causes
	fails   error
	halts   error
	late    *time.Timer // set while a process is stopped
	changes int         // how often a process was stopped or went on
	gaveUp  bool
	ended   bool
	running sync.WaitGroup // of checks
}

func newCondition(soft context.Context, c drm.Claim, patience time.Duration) *condition {
	return &condition{claim: c, patience: patience, soft: soft, stuck: make(chan struct{})}
}

// failing notes why the process ended; nil says that a process has run for long enough since.
func (s *condition) failing(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(&s.fails, err)
}

// halted notes that the process is stopped; nil says that it goes on, or has ended.
func (s *condition) halted(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	if s.late != nil {
		s.late.Stop()
		s.late = nil
	}
	if err != nil && s.patience != drm.Forever {
		change := s.changes
		s.late = time.AfterFunc(s.patience, func() { s.giveUp(change) })
	}
	s.set(&s.halts, err)
}

// set changes one of the two reasons. The caller holds s.mu.
func (s *condition) set(what *error, err error) {
	if *what == nil && err == nil {
		return
	}
	*what = err
	if s.halts != nil {
		s.claim.Report(s.halts)
		return
	}
	s.claim.Report(s.fails)
}

// giveUp fails the claim of a process that is still stopped: nothing has changed since.
func (s *condition) giveUp(since int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes != since {
		return
	}
	s.late = nil
	s.claim.Fail(fmt.Errorf("%w, and did not go on for %v", s.halts, s.patience))
	if !s.gaveUp {
		s.gaveUp = true
		close(s.stuck)
	}
}

// enter begins a check, unless end was called. The caller calls s.running.Done at its end.
func (s *condition) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.running.Add(1)
	return true
}

// end waits for the checks in progress, whose processes are killed since soft has ended. A process that the kernel does
// not let go of can do nothing any more, and is not waited for.
func (s *condition) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.running.Wait()
}
