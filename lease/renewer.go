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
	// inFlight is how many keepalives may be sent on one stream without an answer. Others wait for answers. So many
	// fill a third of the window that gRPC gives a stream, so that Send does not wait for etcd. With fewer, both ends
	// would wake up more often for the keepalives of a round.
	inFlight = 1024
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
// was heard on it since that lease was last asked about, it is silent: the new keepalive goes over another stream. If
// that one is silent too, only streams will do on which something was heard since, and new ones, which the client's
// balancer places on the next endpoint. If other answers came, the one for this lease will come too, unless it is so
// far behind that it would be late. Then nothing is sent, and the error is ErrUnderWay: an etcd that is overloaded does
// not get everything twice. A stream that is silent is not used until it answers, and is closed when nobody waits for
// its answers any more.
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
	pending map[int64]*renewal // the latest keepalive without an answer, by lease; it leads to those before it
	pace    time.Duration      // how long etcd takes for one keepalive of a stream, by the latest ones; 0: not known
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
	r := &Renewer{open: open, pending: map[int64]*renewal{}}
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
		answer := make(waiter, 1)
		asked, err := r.ask(ctx, int64(id), after, answer)
		if err != nil {
			return nil, err
		}
		select {
		case got := <-answer:
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
// of that lease in progress. If there is no such line, ask makes one. The outcome is told to whom it is for.
func (r *Renewer) ask(ctx context.Context, lease int64, after int, to receiver) (*renewal, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	now := time.Now()
	var d doubt
	for earlier := r.pending[lease]; earlier != nil; earlier = earlier.earlier {
		switch {
		case r.isStuck(ctx, earlier, now):
			d.add(earlier.looked)
			earlier.line.silent = true
			r.dropIfForlorn(earlier.line, now)
		case !earlier.isGone(now):
			earlier.looked = now
			return nil, ErrUnderWay
		}
	}
	asked := &renewal{lease: lease, to: to}
	r.give(asked, r.pick(lease, after, d, now), now)
	asked.line.fill()
	return asked, nil
}

// doubt is what the keepalives of a lease that are stuck say about other lines than theirs. After one of them, another
// line is tried, since etcd may only be slow. After more of them, a server may swallow requests that is at the end of
// many lines, and to try these one after the other would take longer than the lease lives.
type doubt struct {
	first, last time.Time // when keepalives were sent that are stuck
	many        bool
}

func (d *doubt) add(sent time.Time) {
	d.many = !d.first.IsZero()
	if !d.many || sent.Before(d.first) {
		d.first = sent
	}
	if sent.After(d.last) {
		d.last = sent
	}
}

// concerns reports whether nothing shows that a line works.
func (d *doubt) concerns(l *line) bool {
	return d.many && !l.heard.After(d.first) && !l.born.After(d.last)
}

// renewAll gives keepalives to lines, and does not wait for the answers. Each lease and receiver is set. Where an
// earlier keepalive of a lease has no answer yet, nothing is sent, and nothing is told. After the time given for that,
// nobody waits for the answers any more.
func (r *Renewer) renewAll(all []turn, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	now := time.Now()
	var l *line
	for i := range all {
		w := &all[i].renewal
		if r.pending[w.lease] != nil {
			continue
		}
		if l == nil || !r.hasRoom(l) {
			l = r.pick(w.lease, 0, doubt{}, now)
		}
		w.until = until
		r.give(w, l, now)
	}
	for _, l := range r.lines { // only now, so that all of them are sent together
		if len(l.waiting) > l.sent {
			l.fill()
		}
	}
}

// pick returns the line for another keepalive of a lease, which must be newer than the one with the number after, and
// not in doubt. The caller holds the mutex, also for give.
func (r *Renewer) pick(lease int64, after int, d doubt, now time.Time) *line {
	var l, least *line
	for _, other := range slices.Clone(r.lines) {
		switch {
		case len(other.waiting) == 0 && now.Sub(other.used) > idleStream:
			r.drop(other)
		case other.silent:
			r.dropIfForlorn(other, now)
		case other.nr <= after || r.carries(other, lease):
		case d.concerns(other):
			if len(other.waiting) == 0 { // nobody is to try it again
				r.drop(other)
			}
		case l == nil && r.hasRoom(other):
			l = other
		case least == nil || len(other.waiting) < len(least.waiting):
			least = other
		}
	}
	switch {
	case l != nil:
		return l
	case least != nil && len(r.lines) >= mostStreams:
		return least
	}
	return r.another()
}

// give makes a keepalive the last one of a line. The caller fills the line.
func (r *Renewer) give(w *renewal, l *line, now time.Time) {
	w.line, w.looked, w.earlier = l, now, r.pending[w.lease]
	r.pending[w.lease] = w
	if l.waiting = append(l.waiting, w); cap(l.waiting) > cap(l.room) {
		l.room = l.waiting
	}
	l.used = now
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

// carries reports whether a keepalive of a lease waits on the line. The caller holds the mutex.
func (r *Renewer) carries(l *line, lease int64) bool {
	for w := r.pending[lease]; w != nil; w = w.earlier {
		if w.line == l {
			return true
		}
	}
	return false
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
	r.dropIfForlorn(l, time.Now())
}

// dropIfForlorn ends a silent line if nobody waits for its answers. The caller holds the mutex, also for drop.
func (r *Renewer) dropIfForlorn(l *line, now time.Time) {
	if l.silent && !slices.ContainsFunc(l.waiting, func(w *renewal) bool { return !w.isGone(now) }) {
		r.drop(l)
	}
}

func (r *Renewer) drop(l *line) {
	l.cancel()
	r.lines = slices.DeleteFunc(r.lines, func(other *line) bool { return other == l })
}

// forget notes that a keepalive is not in progress any more. The caller holds the mutex.
func (r *Renewer) forget(w *renewal) {
	latest := r.pending[w.lease]
	if latest != w {
		for latest.earlier != w {
			latest = latest.earlier
		}
		latest.earlier = w.earlier
		return
	}
	if w.earlier == nil {
		delete(r.pending, w.lease)
	} else {
		r.pending[w.lease] = w.earlier
	}
}

// paced takes note of how long etcd took for a keepalive. The caller holds the mutex.
func (r *Renewer) paced(took time.Duration) {
	took = max(took, time.Microsecond)
	if r.pace == 0 {
		r.pace = took
	}
	r.pace += (took - r.pace) / 8
}
