package member

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm/internal/clock"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/lease"
)

// loop is the one goroutine that uses the core and the state beside it. Everyone else posts functions to it.
//
// newLoop makes it; functions may be posted from then on. Start sets running and starts run. Stop closes end when
// nothing needs the loop any more, and waits for ended.
type loop struct {
	mailbox *mailbox
	clock   clock.Clock   // measures leases
	running atomic.Bool   // set when run is about to start
	pulse   *lease.Pulse  // tells when run certainly answers: while it waits for something to do
	end     chan struct{} // closed to end run
	ended   chan struct{} // closed when run has returned
}

func newLoop(c clock.Clock) *loop {
	return &loop{
		mailbox: newMailbox(), clock: c, pulse: new(lease.Pulse), end: make(chan struct{}), ended: make(chan struct{}),
	}
}

// post makes the loop call f, with the time by the clock that measures leases. It never blocks. It returns false if the
// loop has ended, so that f will not run.
func (l *loop) post(f func(now time.Duration)) bool { return l.mailbox.post(f, false) }

// ask makes the loop call f, and waits until f has returned. It returns false if the loop has ended and f did not run.
// It must not be called before Start.
func (l *loop) ask(f func(now time.Duration)) bool { return l.await(f, false) }

// look is ask for a function that changes nothing, so that worked is not called for it.
func (l *loop) look(f func(now time.Duration)) bool { return l.await(f, true) }

func (l *loop) await(f func(now time.Duration), looks bool) bool {
	ran := make(chan struct{})
	if !l.mailbox.post(func(now time.Duration) { f(now); close(ran) }, looks) {
		return false
	}
	select {
	case <-ran:
		return true
	case <-l.ended:
		select {
		case <-ran:
			return true
		default:
			return false
		}
	}
}

// probe returns nil when the loop answers, and an error if ctx ends first: a member whose loop hangs must not keep its
// claims for ever. It returns nil at once if the loop does not run yet, or has ended.
func (l *loop) probe(ctx context.Context) error {
	ran := make(chan struct{})
	if !l.running.Load() || !l.mailbox.post(func(time.Duration) { close(ran) }, true) {
		return nil
	}
	select {
	case <-ran:
		return nil
	case <-l.ended:
		return nil
	case <-ctx.Done():
		return errors.New("the member's loop does not answer")
	}
}

// run calls what was posted, in order, and then step, which returns the time by which it must be called again. If any
// of it may have changed something, run calls worked. It returns when end is closed.
func (l *loop) run(step func(now time.Duration) (next time.Duration, ok bool), worked func()) {
	defer close(l.ended)
	timer := pace.Stopped()
	defer timer.Stop()
	var armed time.Duration // the time that the timer is set to; 0 if it is not set
	recent := clock.Recent(l.clock)
	for {
		l.pulse.Rest()
		due := false
		select {
		case <-l.mailbox.wake:
		case <-timer.C:
			armed, due = 0, true
		case <-l.end:
			l.mailbox.close()
			return
		}
		l.pulse.Work()
		now := recent.Now()
		due = due || armed != 0 && now >= armed // the timer may be late, and is set anew below
		posted, work := l.mailbox.take()
		for _, f := range posted {
			f(now)
		}
		next, ok := step(now)
		if work || due {
			worked()
		}
		if ok && (armed == 0 || next < armed || now >= armed) { // the last: the machine slept, so the timer is late
			armed = next
			timer.Reset(max(next-now, time.Millisecond))
		}
	}
}
