package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/wire"
)

// stream is some watches over one stream of etcd, which is read only as fast as its caller reads: etcd's client would
// read on, and keep everything. Where nobody reads, gRPC stops etcd, and etcd keeps its place in the history instead of
// the changes. So a stream holds one answer, which has up to 1,000 revisions, as it came. (etcd could send it in
// fragments, but what that costs etcd grows with the square of their length.)
type stream struct {
	remote  pb.Watch_WatchClient
	end     context.CancelCauseFunc
	asking  sync.WaitGroup
	lanes   map[int64]int // by the id that etcd has given to a watch
	wants   atomic.Bool   // etcd is to be asked at once how far the watches are
	waits   atomic.Int64  // since when the caller waits for an answer, in ns; 0: it does not
	timeout time.Duration // after which it is asked whether etcd answers anything; 0: an answer is waited for for ever
	answers func(context.Context) bool
}

// For patience timeouts an answer is waited for while etcd answers other questions, and for impatience otherwise: it
// may have to read a history of millions of changes first, and answers little meanwhile.
const patience, impatience = 24, 2

// behindError says that etcd has compacted the revision from which a watch was to go on. That is no gap if the app had
// no change up to a later revision.
type behindError struct{ revision int64 }

func (e *behindError) Error() string { return fmt.Sprintf("compacted at revision %d", e.revision) }

// errSilent says that etcd does not answer a question about the watches.
var errSilent = errors.New("etcd does not say whether the history is complete")

// open opens a stream that watches some keys from a revision on. With a timeout, it ends with errSilent where an answer
// takes longer and etcd answers nothing else either, or where it takes far longer. The caller calls close.
func (f *Feed) open(ctx context.Context, spans []span, next int64, timeout time.Duration) (*stream, error) {
	ctx, end := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	remote, err := wire.NewWatchClient(f.Client).Watch(ctx)
	if err != nil {
		end(nil)
		return nil, etcd.Unreachable(ctx, err)
	}
	s := &stream{remote: remote, end: end, lanes: map[int64]int{}, timeout: timeout, answers: f.answers}
	for _, keys := range spans {
		create := &pb.WatchCreateRequest{
			Key: []byte(keys.key), RangeEnd: []byte(keys.end), StartRevision: next, PrevKv: true,
		}
		// Where it fails, Recv tells why.
		_ = remote.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	}
	s.asking.Go(func() { s.ask(ctx) })
	return s, nil
}

// answers says whether etcd answers a question that it need not discuss with others.
func (f *Feed) answers(ctx context.Context) bool {
	_, err := f.get(ctx, f.Layout.Config(), clientv3.WithKeysOnly(), clientv3.WithSerializable())
	return err == nil
}

func (s *stream) close() {
	s.end(nil)
	s.asking.Wait()
}

// ask asks etcd how far the watches are: often while that is wanted, and otherwise now and then.
func (s *stream) ask(ctx context.Context) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	progress := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
		ProgressRequest: &pb.WatchProgressRequest{},
	}}
	checked := int64(0) // when etcd was last found to answer, in ns
	for last := time.Now(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		since := s.waits.Load()
		if waited := time.Since(time.Unix(0, since)); s.timeout > 0 && since > 0 &&
			waited > s.timeout && time.Since(time.Unix(0, checked)) > s.timeout {
			answers := s.answers(ctx)
			if waited > patience*s.timeout || !answers && waited > impatience*s.timeout {
				s.end(errSilent)
				return
			}
			checked = time.Now().UnixNano()
		}
		if !s.wants.Load() && time.Since(last) < passEvery {
			continue
		}
		last = time.Now()
		if s.remote.Send(progress) != nil {
			return
		}
	}
}

// recv waits for the next answer. lane is the number of its watch; -1: it is about all.
func (s *stream) recv() (lane int, answer *wire.Watched, err error) {
	for {
		s.waits.Store(time.Now().UnixNano())
		answer, err := wire.RecvWatched(s.remote)
		s.waits.Store(0)
		if err != nil {
			if cause := context.Cause(s.remote.Context()); errors.Is(cause, errSilent) {
				err = fmt.Errorf("%w: %w", etcd.ErrUnreachable, cause)
			}
			return 0, nil, rpctypes.Error(err)
		}
		switch resp := answer.Head; {
		case resp.CompactRevision != 0:
			return 0, nil, &behindError{resp.CompactRevision}
		case resp.Canceled:
			return 0, nil, refusal(resp.CancelReason)
		case resp.Created: // the answers come in the order of the requests
			s.lanes[resp.WatchId] = len(s.lanes)
		default:
			lane, known := s.lanes[resp.WatchId]
			if !known {
				lane = -1
			}
			return lane, answer, nil
		}
	}
}

// refusal makes an error of the reason for which etcd has ended a watch.
func refusal(reason string) error {
	if reason == "" {
		return rpctypes.ErrNoLeader
	}
	return rpctypes.Error(status.Error(codes.Unauthenticated, reason))
}

// take takes over what a watch has received, or that all watches have come to a revision.
func (l *lane) take(answer *wire.Watched) error {
	if answer.Count == 0 {
		l.seen = max(l.seen, answer.Head.Header.GetRevision())
	}
	for e, err := range answer.Events() {
		if err != nil {
			return err
		}
		l.queue = append(l.queue, e)
		l.seen = max(l.seen, e.Kv.ModRevision)
	}
	return nil
}
