package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/etcd"
)

// wire is one member's connection to etcd. It counts what passes. It can be cut, as when the machine dies: then nothing
// passes any more, and nobody is told.
type wire struct {
	client *clientv3.Client

	mu    sync.Mutex
	cutAt chan struct{} // closed when the wire is cut

	groupEvents, otherEvents atomic.Int64 // watch events, below group/ and elsewhere
	// groupKeys and otherKeys count the keys that were read, below group/ and elsewhere. config does not count: every
	// member reads it every 30 s, to see whether etcd went back.
	groupKeys, otherKeys atomic.Int64
	entryWrites          atomic.Int64 // puts and deletes of catalogue entries

	actives  actives
	requests requests
	open     atomic.Int64 // streams that are open
}

// actives counts the claims of a member that are active according to etcd.
type actives struct {
	mu      sync.Mutex
	claimed map[summed]int // claims that say claimed, by what a summary would stand for
	count   int
	until   int
	all     chan struct{} // closed when count reaches until
	allAt   time.Time
}

// summed is what a summary stands for: the claims of a shard on a lease.
type summed struct {
	shard [4]byte // as in the summary's key
	lease int64
}

func newWire(c drm.EtcdConfig) (*wire, error) {
	w := &wire{cutAt: make(chan struct{})}
	cfg := clientConfig(c)
	cfg.DialOptions = []grpc.DialOption{
		grpc.WithContextDialer(w.dial),
		grpc.WithChainUnaryInterceptor(w.unary), grpc.WithChainStreamInterceptor(w.stream),
	}
	client, err := etcd.NewClient(cfg)
	w.client = client
	return w, err
}

func (w *wire) close() error {
	w.cut() // so that closing the client waits for nothing
	return w.client.Close()
}

// cut stops everything from passing.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.isCut() {
		close(w.cutAt)
	}
}

func (w *wire) isCut() bool {
	select {
	case <-w.cutAt:
		return true
	default:
		return false
	}
}

// expect returns a channel that is closed when n claims are active according to etcd. It counts only the first life of
// the member on this wire.
func (a *actives) expect(n int) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.claimed, a.count, a.until, a.all = map[summed]int{}, 0, n, make(chan struct{})
	return a.all
}

// put notes a put of a claim or of a summary in a shard.
func (a *actives) put(shard [4]byte, put *pb.PutRequest, summary bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.claimed == nil {
		return
	}
	of := summed{shard, put.Lease}
	before := a.count
	switch {
	case summary:
		a.count += a.claimed[of]
		delete(a.claimed, of)
	case bytes.Contains(put.Value, []byte(`"state":"claimed"`)):
		a.claimed[of]++
	default:
		a.count++
		a.claimed[of]--
	}
	if before < a.until && a.count >= a.until {
		a.allAt = time.Now()
		close(a.all)
	}
}

func (w *wire) dial(ctx context.Context, address string) (net.Conn, error) {
	if w.isCut() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(address, "http://"))
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, wire: w, closed: make(chan struct{})}, nil
}

// conn is a connection of a wire. Once the wire is cut, what is written to it goes nowhere, and nothing arrives.
type conn struct {
	net.Conn
	wire   *wire
	once   sync.Once
	closed chan struct{}
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.wire.isCut() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	if c.wire.isCut() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// reset sets all counts to zero.
func (w *wire) reset() {
	for _, n := range []*atomic.Int64{&w.groupEvents, &w.otherEvents, &w.groupKeys, &w.otherKeys, &w.entryWrites} {
		n.Store(0)
	}
	w.requests.reset()
}

func (w *wire) unary(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	w.requests.call(method)
	if err := invoke(ctx, method, req, reply, cc, opts...); err != nil {
		return err
	}
	switch resp := reply.(type) {
	case *pb.RangeResponse:
		w.read(resp)
	case *pb.TxnResponse:
		w.txn(req.(*pb.TxnRequest), resp)
	}
	return nil
}

func (w *wire) read(resp *pb.RangeResponse) {
	for _, kv := range resp.Kvs {
		switch {
		case isGroup(kv.Key):
			w.groupKeys.Add(1)
		case !bytes.HasSuffix(kv.Key, []byte("/config")):
			w.otherKeys.Add(1)
		}
	}
}

// txn counts what a transaction did, and the transactions in it.
func (w *wire) txn(req *pb.TxnRequest, resp *pb.TxnResponse) {
	ops := req.Failure
	if resp.Succeeded {
		ops = req.Success
	}
	for i, op := range ops {
		switch {
		case op.GetRequestPut() != nil:
			w.put(op.GetRequestPut())
		case op.GetRequestDeleteRange() != nil && deleted(resp.Responses, i):
			w.wrote(op.GetRequestDeleteRange().Key)
		case op.GetRequestTxn() != nil:
			w.txn(op.GetRequestTxn(), resp.Responses[i].GetResponseTxn())
		case op.GetRequestRange() != nil:
			w.read(resp.Responses[i].GetResponseRange())
		}
	}
}

// deleted reports whether a deletion found its key. Where the answer does not say it, a condition of the transaction
// has made sure of it.
func deleted(responses []*pb.ResponseOp, i int) bool {
	return len(responses) == 0 || responses[i].GetResponseDeleteRange().GetDeleted() > 0
}

func (w *wire) put(put *pb.PutRequest) {
	w.wrote(put.Key)
	for _, kind := range []string{"/claims/", "/active/"} {
		if i := bytes.LastIndex(put.Key, []byte(kind)); i >= 4 {
			w.actives.put([4]byte(put.Key[i-4:i]), put, kind == "/active/")
		}
	}
}

func (w *wire) wrote(key []byte) {
	if bytes.Contains(key, []byte("/resources/")) {
		w.entryWrites.Add(1)
	}
}

func isGroup(key []byte) bool { return bytes.Contains(key, []byte("/group/")) }

func (w *wire) stream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	w.requests.count("stream")
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	w.open.Add(1)
	context.AfterFunc(s.Context(), func() { w.open.Add(-1) })
	return &watched{s, w}, nil
}

// watched counts the events on a stream of watches.
type watched struct {
	grpc.ClientStream
	wire *wire
}

func (s *watched) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if resp, ok := m.(*pb.WatchResponse); ok && err == nil {
		for _, ev := range resp.Events {
			if isGroup(ev.Kv.Key) {
				s.wire.groupEvents.Add(1)
			} else {
				s.wire.otherEvents.Add(1)
			}
		}
	}
	return err
}

// deletions follows the deletions below the app's shards. It returns a function that waits for n of them, and returns
// when the first and the last came.
func (l *lab) deletions(ctx context.Context, n int) func() (first, last time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	watch := l.client.Watch(clientv3.WithRequireLeader(ctx), l.layout.Shards(),
		clientv3.WithPrefix(), clientv3.WithFilterPut())
	type span struct {
		first, last time.Time
		err         error
	}
	done := make(chan span, 1)
	go func() {
		defer cancel()
		var s span
		seen := 0
		for resp := range watch {
			if s.first.IsZero() && len(resp.Events) > 0 {
				s.first = time.Now()
			}
			if seen += len(resp.Events); seen >= n {
				s.last = time.Now()
				done <- s
				return
			}
		}
		s.err = fmt.Errorf("etcd told of %d of %d deletions: %w", seen, n, errors.Join(context.Cause(ctx)))
		done <- s
	}()
	return func() (time.Time, time.Time, error) {
		s := <-done
		return s.first, s.last, s.err
	}
}
