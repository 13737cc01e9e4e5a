package member

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm/internal/clock"
)

// loop is the one goroutine that touches the core and the maps beside it. Everyone else posts to it.
type loop struct {
	mailbox *mailbox
	clock   clock.Clock // that leases are measured by
	running atomic.Bool
	end     chan struct{} // closed to end it
	ended   chan struct{}
}

func newLoop(c clock.Clock) *loop {
	return &loop{mailbox: newMailbox(), clock: c, end: make(chan struct{}), ended: make(chan struct{})}
}

// post runs f on the loop, with the time by the clock that leases are measured by. It never blocks. False says that the
// loop has ended, and that f will not run.
func (l *loop) post(f func(now time.Duration)) bool { return l.mailbox.post(f) }

// ask runs f on the loop and waits for it. False says that the loop has ended, and that f did not run. The loop must
// run, or have been ended.
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

// probe returns when the loop answers: a member whose loop hangs must not keep its claims for ever. A loop that does
// not run yet, or not any more, is none that hangs.
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

// run does what is posted, in order, and then step, which says when it is to be called again at the latest. It returns
// when end is closed.
func (l *loop) run(step func(now time.Duration) (next time.Duration, ok bool)) {
	defer close(l.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var armed time.Duration // when the timer is due; 0: it is not set
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
		if ok && (armed == 0 || next < armed || now >= armed) { // a machine that slept has made the timer late
			armed = next
			timer.Reset(max(next-now, time.Millisecond))
		}
	}
}
