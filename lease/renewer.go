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

// perStream is how many keepalives may be in progress on one stream. etcd renews the leases of a stream one after the
// other, and a member of the cluster that is not the leader asks the leader for each, so the last one of many would
// come late.
const perStream = 4

// idleStream is how long a Renewer keeps a stream that it does not use. It is longer than the pause between two
// keepalives of the longest TTL.
const idleStream = 5 * time.Minute

// Renewer is a Lessor on an etcd client. Grant and Revoke are the client's. The keepalives of all leases share
// long-lived streams, while the client's own KeepAliveOnce opens a stream each time. Where etcd has users and
// passwords, each new stream may cost etcd the comparison of a password, which is slow on purpose.
//
// Each stream carries up to four keepalives at a time. A Renewer sends a keepalive once, and once more on a new stream
// if an old stream turns out to be broken; after that the caller decides when to try again. When a lease is to be
// renewed while its previous keepalive is still unanswered, the new keepalive goes over another stream, which the
// client's balancer places on the next endpoint. A stream that did not answer in time is not used until it does, and is
// closed when nobody waits for its answers any more.
//
// Its methods are safe for concurrent use. The owner calls Close when there is no lease left to renew.
type Renewer struct {
	client *clientv3.Client
	open   func(context.Context) (stream, error)
	ctx    context.Context
	cancel context.CancelFunc
	ends   sync.WaitGroup // the goroutines of all streams

	mu     sync.Mutex
	closed bool
	made   int // how many lines have been made so far
	lines  []*line
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
	queue  chan int64 // the leases to renew, in the order of waiting

	waiting []*renewal // the keepalives without an answer, in the order in which they are sent and answered
	silent  bool       // a keepalive was not answered in time, and no keepalive has been answered since
	used    time.Time  // when it was last given a keepalive to send
}

// renewal is one keepalive.
type renewal struct {
	lease  int64
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
	r := &Renewer{open: open}
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
// stream's error if the stream broke, the error of ctx if ctx ended before an answer came, and ErrClosed after Close.
func (r *Renewer) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	newest := r.newest()
	after, again := 0, false
	for {
		l, asked, err := r.ask(int64(id), after)
		if err != nil {
			return nil, err
		}
		select {
		case got := <-asked.answer:
			switch {
			case got.err != nil && !again && (l.nr <= newest || login.IsStale(got.err)):
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
			r.giveUp(l, asked, errors.Is(ctx.Err(), context.DeadlineExceeded))
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
func (r *Renewer) ask(lease int64, after int) (l *line, asked *renewal, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, ErrClosed
	}
	now := time.Now()
	for _, other := range slices.Clone(r.lines) {
		switch {
		case slices.ContainsFunc(other.waiting, func(w *renewal) bool { return w.lease == lease }):
			other.silent = true
			r.dropIfForlorn(other)
		case len(other.waiting) == 0 && now.Sub(other.used) > idleStream:
			r.drop(other)
		case l == nil && other.nr > after && !other.silent && len(other.waiting) < perStream:
			l = other
		}
	}
	if l == nil {
		r.made++
		l = &line{nr: r.made, queue: make(chan int64, perStream)}
		l.ctx, l.cancel = context.WithCancel(r.ctx)
		r.lines = append(r.lines, l)
		r.ends.Go(func() { r.run(l) })
	}
	asked = &renewal{lease: lease, answer: make(chan renewed, 1)}
	l.waiting = append(l.waiting, asked)
	l.used = now
	l.queue <- lease // never blocks, since the queue has room for all that wait
	return l, asked, nil
}

// giveUp notes that nobody waits for an answer any more. late says that the answer is overdue.
func (r *Renewer) giveUp(l *line, asked *renewal, late bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked.gone = true
	l.silent = l.silent || late && slices.Contains(l.waiting, asked)
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

// run is a line's goroutine. It opens the stream, which takes until etcd can be reached, and receives the answers;
// another goroutine sends.
func (r *Renewer) run(l *line) {
	err := r.serve(l)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(l)
	for _, w := range l.waiting {
		w.answer <- renewed{err: err}
	}
	l.waiting = nil
}

func (r *Renewer) serve(l *line) error {
	s, err := r.open(l.ctx)
	if err != nil {
		return err
	}
	var sending sync.WaitGroup
	sending.Go(func() { l.send(s) })
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

// send sends the keepalives in the queue until the line ends. It ignores why sending fails, since Recv returns the
// reason.
func (l *line) send(s stream) {
	for {
		select {
		case lease := <-l.queue:
			if s.Send(&pb.LeaseKeepAliveRequest{ID: lease}) != nil {
				return
			}
		case <-l.ctx.Done():
			return
		}
	}
}

// answered hands an answer to the oldest unanswered keepalive, since etcd answers the keepalives of a stream in order.
func (r *Renewer) answered(l *line, resp *pb.LeaseKeepAliveResponse) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(l.waiting) == 0 || l.waiting[0].lease != resp.ID {
		return fmt.Errorf("etcd answered for lease %x, but another lease is next", resp.ID)
	}
	l.waiting[0].answer <- renewed{resp: resp}
	l.waiting = l.waiting[1:]
	l.silent = false
	return nil
}
