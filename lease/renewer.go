package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/distributed-resource-manager/drm/internal/login"
	"github.com/distributed-resource-manager/drm/internal/reach"
)

// etcd renews the leases of a stream one after the other, and a member of the cluster that is not the leader asks the
// leader for each, so the last one of many may come late.
const (
	// perStream is how many keepalives may wait on one stream, whatever etcd takes for each.
	perStream = 4
	// quickly is for how long the last of more keepalives may have to wait on one stream, by what etcd takes for each.
	quickly = 50 * time.Millisecond
	// inFlight is how many keepalives may be sent on one stream without an answer. Others wait for answers.
	inFlight = 64
	// mostStreams is how many streams there are at most, unless some of them are silent. With all of them, more streams
	// would not make an etcd faster that takes long for each keepalive.
	mostStreams = 64
)

// idleStream is how long a Renewer keeps a stream that it does not use. It is longer than the pause between two
// keepalives of the longest TTL.
const idleStream = 5 * time.Minute

// Renewer is a Lessor on an etcd client. Grant and Revoke are the client's. The keepalives of all leases share
// long-lived streams, while the client's own KeepAliveOnce opens a stream each time. Where etcd has users and
// passwords, each new stream may cost etcd the comparison of a password, which is slow on purpose.
//
// The keepalives that are due together go over as few streams as can answer them quickly: as long as etcd answers each
// within some microseconds, one stream carries hundreds. A Renewer sends a keepalive once, and once more on a new
// stream if an old stream turns out to be broken; after that the caller decides when to try again.
//
// When a lease is to be renewed while its previous keepalive is still unanswered, it depends on the stream. If nothing
// was heard on it since that lease was last asked about, it is silent: the new keepalive goes over another stream,
// which the client's balancer places on the next endpoint. If other answers came, the one for this lease will come too,
// unless it is so far behind that it would be late. Then nothing is sent, and the error is ErrUnderWay: an etcd that is
// overloaded does not get everything twice. A stream that is silent is not used until it answers, and is closed when
// nobody waits for its answers any more.
//
// Its methods are safe for concurrent use. The owner calls Close when there is no lease left to renew.
type Renewer struct {
	client *clientv3.Client
	open   func(context.Context) (stream, error)
	ctx    context.Context
	cancel context.CancelFunc
	ends   sync.WaitGroup // the goroutines of all streams

	mu      sync.Mutex
	closed  bool
	made    int // how many lines have been made so far
	lines   []*line
	pending map[int64][]*renewal // the keepalives without an answer, by lease
	pace    time.Duration        // how long etcd takes for one keepalive of a stream, by the latest ones; 0: not known
}

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
	sent    int        // how many of them have been sent
	silent  bool       // a keepalive was not answered in time, and nothing has been answered since
	used    time.Time  // when it was last given a keepalive to send
	heard   time.Time  // when it was last answered
}

// renewal is one keepalive.
type renewal struct {
	lease  int64
	line   *line
	looked time.Time    // when it was asked for, and then, when another one was asked for in vain since it is under way
	sent   time.Time    // zero: it was not sent yet
	answer chan renewed // has room for one, so that nobody blocks on it
	gone   bool         // nobody waits for the answer any more
}

type renewed struct {
	resp *pb.LeaseKeepAliveResponse
	err  error
}

// NewRenewer makes a Renewer on a client, which the Renewer never closes. The first keepalive opens the first stream.
func NewRenewer(client *clientv3.Client) *Renewer {
	leases := pb.NewLeaseClient(client.ActiveConnection())
	r := newRenewer(func(ctx context.Context) (stream, error) {
		return leases.LeaseKeepAlive(ctx, grpc.WaitForReady(true))
	})
	r.client = client
	return r
}

func newRenewer(open func(context.Context) (stream, error)) *Renewer {
	r := &Renewer{open: open, pending: map[int64][]*renewal{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Close ends all streams, so that keepalives fail from then on. It returns when all goroutines of the Renewer have
// ended.
func (r *Renewer) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.ends.Wait()
}

// Grant asks etcd for a lease, as the client does.
func (r *Renewer) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	return r.client.Grant(ctx, ttl)
}

// Revoke deletes a lease, as the client does.
func (r *Renewer) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	return r.client.Revoke(ctx, id)
}

// KeepAliveOnce renews a lease once. The caller may count the lease's life from the moment of the call, since the
// request is never sent before that. The error is rpctypes.ErrLeaseNotFound if etcd does not know the lease, the
// stream's error if the stream broke, the error of ctx if ctx ended before an answer came, ErrUnderWay if an earlier
// keepalive of the lease is about to be answered, and ErrClosed after Close.
func (r *Renewer) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	newest := r.newest()
	after, again := 0, false
	for {
		asked, err := r.ask(ctx, int64(id), after)
		if err != nil {
			return nil, err
		}
		select {
		case got := <-asked.answer:
			switch {
			case got.err != nil && !again && (asked.line.nr <= newest || login.IsStale(got.err)):
				// The stream may have been broken for long, or its token may have expired, and only its use has shown
				// that. Other streams of that age are no better.
				after, again = newest, true
				continue
			case got.err != nil:
				return nil, rpctypes.Error(got.err)
			case got.resp.TTL <= 0:
				return nil, rpctypes.ErrLeaseNotFound
			}
			return &clientv3.LeaseKeepAliveResponse{ResponseHeader: got.resp.Header, ID: id, TTL: got.resp.TTL}, nil
		case <-ctx.Done():
			r.giveUp(asked, errors.Is(ctx.Err(), context.DeadlineExceeded))
			err := fmt.Errorf("no answer: %w", ctx.Err())
			return nil, reach.Explain(r.client, err, func() string { return "renew a lease" })
		}
	}
}

// newest is the number of the newest line.
func (r *Renewer) newest() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.made
}

// ask gives a keepalive to a line that is newer than the one with the number after, is not silent, and has no keepalive
// of that lease in progress. If there is no such line, ask makes one.
func (r *Renewer) ask(ctx context.Context, lease int64, after int) (*renewal, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	now := time.Now()
	for _, earlier := range slices.Clone(r.pending[lease]) {
		switch {
		case r.isStuck(ctx, earlier, now):
			earlier.line.silent = true
			r.dropIfForlorn(earlier.line)
		case !earlier.gone:
			earlier.looked = now
			return nil, ErrUnderWay
		}
	}
	var l, least *line
	for _, other := range slices.Clone(r.lines) {
		switch {
		case len(other.waiting) == 0 && now.Sub(other.used) > idleStream:
			r.drop(other)
		case other.nr <= after || other.silent || other.carries(lease):
		case l == nil && r.hasRoom(other):
			l = other
		case least == nil || len(other.waiting) < len(least.waiting):
			least = other
		}
	}
	if l == nil && least != nil && len(r.lines) >= mostStreams {
		l = least
	}
	if l == nil {
		r.made++
		l = &line{nr: r.made, filled: make(chan struct{}, 1)}
		l.ctx, l.cancel = context.WithCancel(r.ctx)
		r.lines = append(r.lines, l)
		r.ends.Go(func() { r.run(l) })
	}
	asked := &renewal{lease: lease, line: l, looked: now, answer: make(chan renewed, 1)}
	l.waiting = append(l.waiting, asked)
	r.pending[lease] = append(r.pending[lease], asked)
	l.used = now
	l.fill()
	return asked, nil
}

// isStuck reports whether another keepalive of a lease should go around the stream on which an earlier one waits: no
// answer has come on the stream since somebody asked for that lease last, or the answer would come too late for the
// caller of the new one. A stream may hang after it has answered some of the keepalives that were asked for together,
// so that answers count only once. The caller holds the mutex.
func (r *Renewer) isStuck(ctx context.Context, earlier *renewal, now time.Time) bool {
	l := earlier.line
	if l.silent || !l.heard.After(earlier.looked) {
		return true
	}
	deadline, ok := ctx.Deadline()
	before := slices.Index(l.waiting, earlier) + 1
	return ok && now.Add(time.Duration(before)*r.pace).After(deadline)
}

// hasRoom reports whether the line's answer to one more keepalive would come soon. The caller holds the mutex.
func (r *Renewer) hasRoom(l *line) bool {
	n := len(l.waiting)
	return n < perStream || r.pace > 0 && time.Duration(n+1)*r.pace <= quickly
}

// carries reports whether a keepalive of a lease waits on the line. The Renewer's mutex is held.
func (l *line) carries(lease int64) bool {
	return slices.ContainsFunc(l.waiting, func(w *renewal) bool { return w.lease == lease })
}

// giveUp notes that nobody waits for an answer any more. late says that the answer is overdue.
func (r *Renewer) giveUp(asked *renewal, late bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked.gone = true
	l := asked.line
	if late && slices.Contains(l.waiting, asked) && !l.heard.After(asked.looked) {
		l.silent = true
	}
	r.dropIfForlorn(l)
}

// dropIfForlorn ends a silent line if nobody waits for its answers. The caller holds the mutex, also for drop.
func (r *Renewer) dropIfForlorn(l *line) {
	if l.silent && !slices.ContainsFunc(l.waiting, func(w *renewal) bool { return !w.gone }) {
		r.drop(l)
	}
}

func (r *Renewer) drop(l *line) {
	l.cancel()
	r.lines = slices.DeleteFunc(r.lines, func(other *line) bool { return other == l })
}

// forget notes that a keepalive is not in progress any more. The caller holds the mutex.
func (r *Renewer) forget(w *renewal) {
	left := slices.DeleteFunc(r.pending[w.lease], func(other *renewal) bool { return other == w })
	if len(left) == 0 {
		delete(r.pending, w.lease)
	} else {
		r.pending[w.lease] = left
	}
}

// run is a line's goroutine. It opens the stream, which takes until etcd can be reached, and receives the answers;
// another goroutine sends.
func (r *Renewer) run(l *line) {
	err := r.serve(l)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(l)
	for _, w := range l.waiting {
		r.forget(w)
		w.answer <- renewed{err: err}
	}
	l.waiting, l.sent = nil, 0
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
		if err := r.answered(l, resp); err != nil {
			return err
		}
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
		for _, lease := range r.unsent(l) {
			if s.Send(&pb.LeaseKeepAliveRequest{ID: lease}) != nil {
				return
			}
		}
	}
}

// unsent returns the leases whose keepalives are to be sent next, and counts them as sent.
func (r *Renewer) unsent(l *line) (leases []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for ; l.sent < min(len(l.waiting), inFlight); l.sent++ {
		l.waiting[l.sent].sent = now
		leases = append(leases, l.waiting[l.sent].lease)
	}
	return leases
}

// answered hands an answer to the oldest unanswered keepalive, since etcd answers the keepalives of a stream in order.
func (r *Renewer) answered(l *line, resp *pb.LeaseKeepAliveResponse) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.sent == 0 || l.waiting[0].lease != resp.ID {
		return fmt.Errorf("etcd answered for lease %x, but another lease is next", resp.ID)
	}
	w, now := l.waiting[0], time.Now()
	began := w.sent // etcd begins with it when it has answered the one before
	if l.heard.After(began) {
		began = l.heard
	}
	r.paced(now.Sub(began))
	r.forget(w)
	w.answer <- renewed{resp: resp}
	l.waiting, l.sent = l.waiting[1:], l.sent-1
	l.silent, l.heard = false, now
	if l.sent <= inFlight/2 && len(l.waiting) > l.sent {
		l.fill()
	}
	return nil
}

// paced takes note of how long etcd took for a keepalive. The caller holds the mutex.
func (r *Renewer) paced(took time.Duration) {
	took = max(took, time.Microsecond)
	if r.pace == 0 {
		r.pace = took
	}
	r.pace += (took - r.pace) / 8
}
