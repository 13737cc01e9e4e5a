package scenario_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// kind says what a request of a member to etcd is for.
type kind string

// The kinds of requests.
const (
	reads      kind = "read"
	createApp  kind = "create the app"
	claims     kind = "claim"
	releases   kind = "release"
	states     kind = "state"
	summaries  kind = "summary"
	trails     kind = "trail" // and nothing else: most trails go with claims
	registers  kind = "register"
	setStates  kind = "set state"
	stands     kind = "stand for coordinator"
	resigns    kind = "resign"
	catalogues kind = "write the catalogue"
	allocates  kind = "allocate"
	suspends   kind = "deallocate"
	records    kind = "source record"
	stats      kind = "stats"
	grants     kind = "grant"
	keepalives kind = "keepalive"
	revokes    kind = "revoke"
	watches    kind = "watch"
	probes     kind = "state of etcd"
)

// fault says what becomes of a request.
type fault int

// The faults.
const (
	noFault     fault = iota
	loseAnswer        // the request is carried out, and the connection breaks before the answer
	loseRequest       // the request never arrives, and nobody is told
	beLate            // the request is carried out after its sender has given it up
	refuse            // etcd answers that it has no space
)

var faultNames = [...]string{"no fault", "answer lost", "request lost", "applied late", "refused"}

func (f fault) String() string { return faultNames[f] }

// lateness is how long a late request is on its way after its sender has given it up.
const lateness = 150 * time.Millisecond

// requests sees all requests of its clients to etcd, below the retries of clientv3, and spoils those that it is told
// to. It knows one app.
type requests struct {
	awaited bool // whether the test has to wait for the fault, which comes by itself
	layout  keys.Layout
	// spoil, if set, decides what becomes of a request. ofKind and ofAll count the requests of its kind, and all
	// requests, from 1.
	spoil func(k kind, ofKind, ofAll int) fault

	mu     sync.Mutex
	counts map[kind]int
	total  int
	faults int
	late   sync.WaitGroup
}

func newRequests(app string) *requests {
	return &requests{layout: keys.New(drm.DefaultPrefix, app), counts: map[kind]int{}}
}

// client makes a client whose requests are seen. It is closed at the end of the test.
func (q *requests) client(tb testing.TB, endpoint string) *clientv3.Client {
	tb.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithChainUnaryInterceptor(q.unary), grpc.WithChainStreamInterceptor(q.stream),
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		q.late.Wait()
		_ = c.Close()
	})
	return c
}

// count returns how many requests of the kinds there were so far, or of all kinds where none is given.
func (q *requests) count(kinds ...kind) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, k := range kinds {
		n += q.counts[k]
	}
	if len(kinds) == 0 {
		n = q.total
	}
	return n
}

// injected returns how many requests were spoilt.
func (q *requests) injected() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.faults
}

func (q *requests) next(k kind) fault {
	q.mu.Lock()
	q.counts[k]++
	q.total++
	ofKind, ofAll := q.counts[k], q.total
	q.mu.Unlock()
	if q.spoil == nil {
		return noFault
	}
	f := q.spoil(k, ofKind, ofAll)
	if f != noFault {
		q.mu.Lock()
		q.faults++
		q.mu.Unlock()
	}
	return f
}

var errBroken = status.Error(codes.Unavailable, "error reading from server: EOF")

func (q *requests) unary(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	switch q.next(q.kindOf(req)) {
	case loseAnswer:
		if err := invoke(ctx, method, req, reply, cc, opts...); err != nil {
			return err
		}
		return errBroken
	case loseRequest:
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	case beLate:
		<-ctx.Done()
		q.late.Go(func() {
			timer := time.NewTimer(lateness)
			defer timer.Stop()
			<-timer.C
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
			defer cancel()
			_ = invoke(bounded, method, req, reflect.New(reflect.TypeOf(reply).Elem()).Interface(), cc,
				forNobody(opts)...)
		})
		return status.FromContextError(ctx.Err()).Err()
	case refuse:
		return rpctypes.ErrGRPCNoSpace
	default:
		return invoke(ctx, method, req, reply, cc, opts...)
	}
}

// forNobody leaves out the options that tell the caller about the call, since the caller has gone.
func forNobody(opts []grpc.CallOption) []grpc.CallOption {
	return slices.DeleteFunc(slices.Clone(opts), func(o grpc.CallOption) bool {
		switch o.(type) {
		case grpc.PeerCallOption, grpc.HeaderCallOption, grpc.TrailerCallOption:
			return true
		}
		return false
	})
}

func (q *requests) stream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	keeps := strings.HasSuffix(method, "/LeaseKeepAlive") // each message of such a stream is a request
	if !keeps {
		q.next(watches)
	}
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil || !keeps {
		return s, err
	}
	return &keepaliveStream{ClientStream: s, q: q, breaks: map[int]bool{}}, nil
}

// keepaliveStream is a stream of keepalives whose requests are seen and spoilt. Answers come in the order of requests.
type keepaliveStream struct {
	grpc.ClientStream
	q *requests

	mu             sync.Mutex
	sent, answered int
	breaks         map[int]bool // requests whose answers are lost, since the connection breaks before
}

func (s *keepaliveStream) SendMsg(m any) error {
	f := s.q.next(keepalives)
	if f == loseRequest {
		return nil
	}
	s.mu.Lock()
	s.breaks[s.sent] = f == loseAnswer
	s.sent++
	s.mu.Unlock()
	return s.ClientStream.SendMsg(m)
}

func (s *keepaliveStream) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	breaks := s.breaks[s.answered]
	delete(s.breaks, s.answered)
	s.answered++
	if breaks {
		return errBroken
	}
	return nil
}

// kindOf finds out from what a request writes what it is for.
func (q *requests) kindOf(req any) kind {
	switch req := req.(type) {
	case *pb.PutRequest:
		return stats
	case *pb.StatusRequest:
		return probes
	case *pb.LeaseGrantRequest:
		return grants
	case *pb.LeaseRevokeRequest:
		return revokes
	case *pb.TxnRequest:
		return q.kindOfTxn(req)
	}
	return reads
}

func (q *requests) kindOfTxn(txn *pb.TxnRequest) kind {
	found := reads
	for _, op := range txn.Success {
		var k kind
		put, del, nested := op.GetRequestPut(), op.GetRequestDeleteRange(), op.GetRequestTxn()
		switch {
		case nested != nil:
			k = q.kindOfTxn(&pb.TxnRequest{
				Compare: slices.Concat(nested.Compare, txn.Compare), Success: nested.Success,
			})
		case put != nil:
			k = q.kindOfWrite(txn, q.layout.Parse(string(put.Key)), put.Value)
		case del != nil:
			k = q.kindOfWrite(txn, q.layout.Parse(string(del.Key)), nil)
		default:
			continue
		}
		if found = k; k != trails {
			break
		}
	}
	return found
}

// kindOfWrite is kindOf for a transaction whose first write has this key and value. A delete has no value.
func (q *requests) kindOfWrite(txn *pb.TxnRequest, key keys.Key, value []byte) kind {
	gone := false   // whether a compare wants its key to be absent
	office := false // whether the coordinator's key is compared
	fresh := false  // whether a compare wants the key of a member to be absent
	for _, c := range txn.Compare {
		fresh = fresh || c.Target == pb.Compare_MOD && c.GetModRevision() == 0 &&
			q.layout.Parse(string(c.Key)).Kind == keys.Member
		gone = gone || c.Target == pb.Compare_CREATE && c.GetCreateRevision() == 0
		office = office || string(c.Key) == q.layout.Coordinator()
	}
	switch key.Kind {
	case keys.Config:
		return createApp
	case keys.Claim:
		switch {
		case value == nil:
			return releases
		case gone:
			return claims
		}
		return states
	case keys.Summary:
		return summaries
	case keys.Trail:
		return trails
	case keys.Member:
		if fresh {
			return registers
		}
		return setStates
	case keys.Coordinator:
		if value == nil {
			return resigns
		}
		return stands
	case keys.Source:
		return records
	case keys.Resource:
		switch {
		case office:
			return catalogues
		case value == nil || strings.Contains(string(value), `"suspended":true`):
			return suspends
		}
		return allocates
	default:
		return reads
	}
}

// startAgain starts a member, and tries again after an error, like the supervisor of a process.
func (w *world) startAgain(cfg drm.Config) *drm.Manager {
	w.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		m, err := w.tryStart(ctx, cfg)
		if err == nil {
			w.tb.Cleanup(func() { w.stop(m) })
			return m
		}
		if !errors.Is(err, drm.ErrUnreachable) && !errors.Is(err, drm.ErrIDInUse) || ctx.Err() != nil {
			w.tb.Fatalf("start %s: %v", cfg.ID, err)
		}
	}
}
