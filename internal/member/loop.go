package member

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm/internal/clock"
)

// loop is the one goroutine that uses the core and the state beside it. Everyone else posts functions to it.
//
// newLoop makes it; functions may be posted from then on. Start sets running and starts run. Stop closes end when
// nothing needs the loop any more, and waits for ended.
type loop struct {
	mailbox *mailbox
	clock   clock.Clock   // measures leases
	running atomic.Bool   // set when run is about to start
	end     chan struct{} // closed to end run
	ended   chan struct{} // closed when run has returned
}

func newLoop(c clock.Clock) *loop {
	return &loop{mailbox: newMailbox(), clock: c, end: make(chan struct{}), ended: make(chan struct{})}
}

// post makes the loop call f, with the time by the clock that measures leases. It never blocks. It returns false if the
// loop has ended, so that f will not run.
func (l *loop) post(f func(now time.Duration)) bool { return l.mailbox.post(f) }

// ask makes the loop call f, and waits until f has returned. It returns false if the loop has ended and f did not run.
// It must not be called before Start.
func (l *loop) ask(f func(now time.Duration)) bool {
	ran := make(chan struct{})
	if !l.post(func(now time.Duration) { f(now); close(ran) }) {
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
	if !l.running.Load() || !l.post(func(time.Duration) { close(ran) }) {
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

// run calls what was posted, in order, and then step, which returns the time by which it must be called again. It
// returns when end is closed.
func (l *loop) run(step func(now time.Duration) (next time.Duration, ok bool)) {
	defer close(l.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var armed time.Duration // the time that the timer is set to; 0 if it is not set
	recent := clock.Recent(l.clock)
	for {
		select {
		case <-l.mailbox.wake:
		case <-timer.C:
			armed = 0
		case <-l.end:
			l.mailbox.close()
			return
		}
		now := recent.Now()
		for _, f := range l.mailbox.take() {
			f(now)
		}
		next, ok := step(now)
		if ok && (armed == 0 || next < armed || now >= armed) { // the last: the machine slept, so the timer is late
			armed = next
			timer.Reset(max(next-now, time.Millisecond))
		}
	}
}
