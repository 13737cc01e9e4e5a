package follow

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/login"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/wire"
)

// NewWatcher makes a watcher on a client, with its own streams. It differs from the client's watcher in two ways:
//
//   - It reads answers with the codec of package wire.
//   - If etcd refuses a watch because of the user, the stream ends. A stream keeps the token that it was opened with,
//     so once that token is no longer good, each further watch on the stream is refused; and the client, which would
//     keep the stream, sometimes comes to a standstill when several watches are refused. After a bad token the client
//     opens another stream and resumes all watches on it, as after a lost connection; after any other refusal they
//     end with the error.
func NewWatcher(client *clientv3.Client) clientv3.Watcher {
	return clientv3.NewWatchFromWatchClient(newRefusals(client), client)
}

func newRefusals(client *clientv3.Client) *refusals {
	return &refusals{WatchClient: wire.NewWatchClient(client), pauses: pace.New(firstPause, maxRefusedPause, 0)}
}

// refusals is a client of watches that ends every stream on which a watch was refused. It opens the next streams at
// growing intervals.
type refusals struct {
	pb.WatchClient

	mu     sync.Mutex
	inRow  int          // how many streams in a row had a watch refused, and none opened
	pauses *pace.Pauses // the intervals between those streams
	next   time.Time    // no stream is opened before this time; zero: no need to wait
}

// quietly is after how many such streams in a row the watches end, so that their followers learn of it.
const quietly = 3

// Watch implements pb.WatchClient.
func (r *refusals) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	r.mu.Lock()
	wait := time.Until(r.next)
	r.mu.Unlock()
	if wait > 0 && !pace.Wait(ctx, wait) {
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	ctx, cancel := context.WithCancel(ctx)
	s, err := r.WatchClient.Watch(ctx, opts...)
	if err != nil {
		cancel()
		return nil, err
	}
	return &refusable{s, r, cancel}, nil
}

// refusable is one of these streams.
type refusable struct {
	pb.Watch_WatchClient
	of  *refusals
	end context.CancelFunc
}

// Recv implements pb.Watch_WatchClient.
func (s *refusable) Recv() (*pb.WatchResponse, error) {
	resp, err := s.Watch_WatchClient.Recv()
	if err == nil && resp.Created {
		err = s.of.judge(resp)
	}
	if err != nil {
		s.end()
		return nil, err
	}
	return resp, nil
}

// judge returns the error that a stream is to end with, after etcd's answer to a request for a watch; nil if the stream
// goes on.
func (r *refusals) judge(resp *pb.WatchResponse) error {
	said := status.Error(codes.Unauthenticated, resp.CancelReason)
	stale := login.IsStale(said)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !resp.Canceled:
		r.inRow, r.next = 0, time.Time{}
		r.pauses.Reset()
		return nil
	case !stale && !login.IsDenied(said):
		return nil
	}
	r.inRow++
	r.next = time.Now().Add(r.pauses.Next())
	if stale && r.inRow <= quietly {
		return status.Error(codes.Unavailable, resp.CancelReason) // the client opens another stream
	}
	return said
}
