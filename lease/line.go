package lease

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// stream is what a Renewer needs of a gRPC stream.
type stream interface {
	Send(*pb.LeaseKeepAliveRequest) error
	Recv() (*pb.LeaseKeepAliveResponse, error)
}

// line is one stream, from before it is open until it has ended. The Renewer's mutex guards the fields that change.
type line struct {
	nr     int // lines are numbered in the order in which they are made
	ctx    context.Context
	cancel context.CancelFunc
	filled chan struct{} // holds a token when there may be something to send

	waiting []*renewal // the keepalives without an answer, in the order in which they are sent and answered
	room    []*renewal // is used for waiting again when there is none
	sent    int        // how many of them have been sent
	silent  bool       // a keepalive was not answered in time, and nothing has been answered since
	born    time.Time  // when it was made
	used    time.Time  // when it was last given a keepalive to send
	heard   time.Time  // when it was last answered
}

// renewal is one keepalive.
type renewal struct {
	lease   int64
	to      receiver
	line    *line
	earlier *renewal  // another keepalive of the lease that has no answer yet
	looked  time.Time // when it was asked for, and then, when another one was asked for in vain since it is under way
	sent    time.Time // zero: it was not sent yet
	gone    bool      // nobody waits for the answer any more
	until   time.Time // from then on nobody waits for the answer any more; zero: that is not known
}

// isGone reports whether nobody waits for the answer any more.
func (w *renewal) isGone(now time.Time) bool {
	return w.gone || !w.until.IsZero() && now.After(w.until)
}

// renewed is the outcome of a keepalive.
type renewed struct {
	resp *pb.LeaseKeepAliveResponse
	err  error
}

// receiver is told the outcome of a keepalive once, on the goroutine of its line. It must not block.
type receiver interface{ renewed(renewed) }

// waiter has room for the one outcome, so that nobody blocks on it.
type waiter chan renewed

func (w waiter) renewed(got renewed) { w <- got }

// another makes a line. The caller holds the mutex.
func (r *Renewer) another() *line {
	r.made++
	l := &line{nr: r.made, born: time.Now(), filled: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(r.ctx)
	r.lines = append(r.lines, l)
	r.ends.Go(func() { r.run(l) })
	return l
}

// run is a line's goroutine. It opens the stream, which takes until etcd can be reached, and receives the answers;
// another goroutine sends.
func (r *Renewer) run(l *line) {
	err := r.serve(l)
	r.mu.Lock()
	r.drop(l)
	lost := l.waiting
	for _, w := range lost {
		r.forget(w)
	}
	l.waiting, l.sent = nil, 0
	r.mu.Unlock()
	for _, w := range lost {
		w.to.renewed(renewed{err: err})
	}
}

func (r *Renewer) serve(l *line) error {
	s, err := r.open(l.ctx)
	if err != nil {
		return err
	}
	var sending sync.WaitGroup
	sending.Go(func() { r.send(l, s) })
	defer sending.Wait()
	defer l.cancel()
	for {
		resp, err := s.Recv()
		if err != nil {
			return fmt.Errorf("the stream of keepalives ended: %w", err)
		}
		w, err := r.answered(l, resp)
		if err != nil {
			return err
		}
		w.to.renewed(renewed{resp: resp})
	}
}

// fill wakes the goroutine that sends.
func (l *line) fill() {
	select {
	case l.filled <- struct{}{}:
	default:
	}
}

// send sends what waits until the line ends. It ignores why sending fails, since Recv returns the reason.
func (r *Renewer) send(l *line, s stream) {
	for {
		select {
		case <-l.filled:
		case <-l.ctx.Done():
			return
		}
		reqs := r.unsent(l)
		for i := range reqs {
			if s.Send(&reqs[i]) != nil {
				return
			}
		}
	}
}

// unsent returns the keepalives that are to be sent next, and counts them as sent.
func (r *Renewer) unsent(l *line) []pb.LeaseKeepAliveRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, upTo := time.Now(), min(len(l.waiting), inFlight)
	reqs := make([]pb.LeaseKeepAliveRequest, max(0, upTo-l.sent))
	for i := range reqs {
		w := l.waiting[l.sent+i]
		w.sent, reqs[i].ID = now, w.lease
	}
	l.sent += len(reqs)
	return reqs
}

// answered returns the keepalive that an answer is for: the oldest unanswered one, since etcd answers the keepalives of
// a stream in order.
func (r *Renewer) answered(l *line, resp *pb.LeaseKeepAliveResponse) (*renewal, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.sent == 0 || l.waiting[0].lease != resp.ID {
		return nil, fmt.Errorf("etcd answered for lease %x, but another lease is next", resp.ID)
	}
	w, now := l.waiting[0], time.Now()
	began := w.sent // etcd begins with it when it has answered the one before
	if l.heard.After(began) {
		began = l.heard
	}
	r.paced(now.Sub(began))
	r.forget(w)
	l.waiting[0] = nil
	if l.waiting, l.sent = l.waiting[1:], l.sent-1; len(l.waiting) == 0 {
		l.waiting = l.room[:0]
	}
	l.silent, l.heard = false, now
	if l.sent <= inFlight/2 && len(l.waiting) > l.sent {
		l.fill()
	}
	return w, nil
}
