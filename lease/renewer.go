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

// perStream is how many keepalives are under way on one stream at most. etcd renews those of a stream one after the other,
// and a member of the cluster that is not the leader asks the leader for each, so the last of many would come late.
const perStream = 4

// idleStream is how long a stream that nothing is sent on is kept: longer than the pause between two keepalives of the
// longest TTL.
const idleStream = 5 * time.Minute

// Renewer is a Lessor on an etcd client: Grant and Revoke are the client's, and keepalives of all leases share long-lived
// streams, where the client's own KeepAliveOnce opens one each time. With users and passwords each new stream can cost etcd
// a comparison of a password, which is meant to be slow.
//
// There is one stream for up to four keepalives at a time. A keepalive is sent once, and once more on a new stream if an
// old one turns out to be broken: whoever asks paces what comes after. A lease whose keepalive is asked for again while the one before
// is not answered yet gets another stream, which the client's balancer places on the next endpoint; a stream that was left so is
// not used until it answers, and is given up when nobody waits for that any more.
//
// Its methods are safe for concurrent use. Close it when nothing is renewed any more.
type Renewer struct {
	client *clientv3.Client
	open   func(context.Context) (stream, error)
	ctx    context.Context
	cancel context.CancelFunc
	ends   sync.WaitGroup // the goroutines of all streams

	mu     sync.Mutex
	closed bool
	made   int // how many lines were made
	lines  []*line
}

// stream is what a Renewer needs of a gRPC stream.
type stream interface {
	Send(*pb.LeaseKeepAliveRequest) error
	Recv() (*pb.LeaseKeepAliveResponse, error)
}

// line is a stream, from before it is open until it has ended. The Renewer's mutex guards what changes.
type line struct {
	nr     int // it is the nr-th
	ctx    context.Context
	cancel context.CancelFunc
	queue  chan int64 // leases to be renewed, in the order of waiting

	waiting []*renewal // not answered yet, in the order in which they are sent, and so answered
	silent  bool       // something was not answered in time, and nothing was since
	used    time.Time
}

// renewal is one keepalive.
type renewal struct {
	lease  int64
	answer chan renewed // has room
	gone   bool         // nobody waits for it any more
}

type renewed struct {
	resp *pb.LeaseKeepAliveResponse
	err  error
}

// NewRenewer makes a Renewer on a client, which it does not close. It opens its first stream at the first keepalive.
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

// Close ends all streams; what is asked of it from then on fails. It returns when its goroutines have ended.
func (r *Renewer) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.ends.Wait()
}

// Grant is the client's.
func (r *Renewer) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	return r.client.Grant(ctx, ttl)
}

// Revoke is the client's.
func (r *Renewer) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	return r.client.Revoke(ctx, id)
}

// KeepAliveOnce renews a lease once. The lease's life counts from the call, or from any later moment before the request was sent,
// which is never after it. The error is rpctypes.ErrLeaseNotFound if etcd does not know the lease, the stream's if that
// broke, ctx's if there was no answer before it ended, or ErrClosed.
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
				// A stream may have been broken for long, or its token no good, and nobody noticed before it was used. Others as old
				// are no better.
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

// newest is the number of the line that was made last.
func (r *Renewer) newest() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.made
}

// ask puts a keepalive on a line that was made after the one of that number, which is not known to be silent, and on which none of the
// lease is under way; on a new one if there is none.
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
	l.queue <- lease // has room for all that wait
	return l, asked, nil
}

// giveUp notes that nobody waits for an answer any more; late says that it should have come by now.
func (r *Renewer) giveUp(l *line, asked *renewal, late bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked.gone = true
	l.silent = l.silent || late && slices.Contains(l.waiting, asked)
	r.dropIfForlorn(l)
}

// dropIfForlorn ends a silent line that nobody waits for. The mutex is held, as for drop.
func (r *Renewer) dropIfForlorn(l *line) {
	if l.silent && !slices.ContainsFunc(l.waiting, func(w *renewal) bool { return !w.gone }) {
		r.drop(l)
	}
}

func (r *Renewer) drop(l *line) {
	l.cancel()
	r.lines = slices.DeleteFunc(r.lines, func(other *line) bool { return other == l })
}

// run is a line's goroutine. It opens the stream, which may take until etcd can be reached, and takes its answers; another one
// sends.
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

// send sends what is asked for until the line ends. Why it cannot be sent is what Recv tells.
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

// answered hands an answer to the oldest keepalive that has none: etcd answers those of a stream in turn.
func (r *Renewer) answered(l *line, resp *pb.LeaseKeepAliveResponse) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(l.waiting) == 0 || l.waiting[0].lease != resp.ID {
		return fmt.Errorf("etcd answered for lease %x, which was not asked for next", resp.ID)
	}
	l.waiting[0].answer <- renewed{resp: resp}
	l.waiting = l.waiting[1:]
	l.silent = false
	return nil
}
