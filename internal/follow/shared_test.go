package follow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/follow"
)

// deaf makes watches silently lose the events of keys that contain a text, as etcd's watches have been known to do. It
// counts the streams, and the questions about ranges by what is asked about.
type deaf struct {
	to      atomic.Pointer[string]
	lost    atomic.Int64
	streams atomic.Int64
	watches atomic.Int64

	mu    sync.Mutex
	asked map[string]int
}

// read notes a request.
func (d *deaf) read(req any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked == nil {
		d.asked = map[string]int{}
	}
	switch req := req.(type) {
	case *pb.RangeRequest:
		d.asked[string(req.Key)]++
	case *pb.TxnRequest:
		for _, op := range req.Success {
			d.asked[string(op.GetRequestRange().GetKey())]++
		}
	}
}

// counts returns how many questions were about a range, and how many about anything else.
func (d *deaf) counts(whole string) (about, other int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, n := range d.asked {
		if key == whole {
			about += n
		} else {
			other += n
		}
	}
	return about, other
}

// until waits until so many questions were about a range, and returns how many were about anything else.
func (d *deaf) until(t *testing.T, whole string, questions int) (other int) {
	t.Helper()
	deadline := time.After(time.Minute)
	for look := time.NewTicker(10 * time.Millisecond); ; {
		about, other := d.counts(whole)
		if about >= questions {
			return other
		}
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("%d questions about the whole range, want %d", about, questions)
		}
	}
}

func (d *deaf) options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainStreamInterceptor(func(
			ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
			open grpc.Streamer, opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			if strings.HasSuffix(method, "/Watch") {
				d.streams.Add(1)
			}
			s, err := open(ctx, desc, cc, method, opts...)
			return deafStream{s, d}, err
		}),
		grpc.WithChainUnaryInterceptor(func(
			ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
			invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
		) error {
			d.read(req)
			return invoke(ctx, method, req, reply, cc, opts...)
		}),
	}
}

type deafStream struct {
	grpc.ClientStream
	deaf *deaf
}

func (s deafStream) SendMsg(m any) error {
	if req, ok := m.(*pb.WatchRequest); ok && req.GetCreateRequest() != nil {
		s.deaf.watches.Add(1)
	}
	return s.ClientStream.SendMsg(m)
}

func (s deafStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	to := s.deaf.to.Load()
	if resp, ok := m.(*pb.WatchResponse); ok && err == nil && to != nil {
		var kept []*mvccpb.Event
		for _, ev := range resp.Events {
			if strings.Contains(string(ev.Kv.Key), *to) {
				s.deaf.lost.Add(1)
			} else {
				kept = append(kept, ev)
			}
		}
		resp.Events = kept
	}
	return err
}

// parts are mirrors of the parts of a range.
func parts(t *testing.T, h *follow.Hub, whole string, n int) []*mirror {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	t.Cleanup(func() { cancel(); following.Wait() })
	ps := h.Parts(ctx, whole)
	following.Go(ps.Run)
	var all []*mirror
	for i := range n {
		m := newMirror(fmt.Sprintf("%s%03d/", whole, i))
		all = append(all, m)
		ps.Follow(m.prefix, m)
	}
	for _, m := range all {
		m.until(t, "a list", func() bool { return m.resets > 0 })
	}
	return all
}

func TestWhatAWatchHasLostIsFound(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, key string){
		"a new key":     func(t *testing.T, key string) { put(t, key+"2", "new") },
		"another value": func(t *testing.T, key string) { put(t, key, "changed") },
		"a delete": func(t *testing.T, key string) {
			if _, err := client.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		},
		"a delete and a new key": func(t *testing.T, key string) { // as many keys as before
			if _, err := client.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			put(t, key+"2", "new")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole, d := newPrefix(), new(deaf)
			for i := range 5 {
				put(t, fmt.Sprintf("%s%03d/key", whole, i), "1")
			}
			h := newHub(t, dial(t, server.Endpoint(), d.options()...), follow.Options{Resync: 300 * time.Millisecond})
			all := parts(t, h, whole, 5)
			to := all[2].prefix
			d.to.Store(&to)
			lose(t, to+"key")
			for _, m := range all {
				m.patience = 20 * time.Second // it is found within 0.3 s
				m.judge(t)
			}
			if d.lost.Load() == 0 {
				t.Error("nothing was lost")
			}
		})
	}
}

// While nothing happens, one question shows for all parts that nothing was missed, and each watch goes on.
func TestOneQuestionProvesThatNothingWasMissed(t *testing.T) {
	const n = 100
	whole, d := newPrefix(), new(deaf)
	for i := range n {
		put(t, fmt.Sprintf("%s%03d/key", whole, i), "1")
	}
	h := newHub(t, dial(t, server.Endpoint(), d.options()...), follow.Options{Resync: 500 * time.Millisecond})
	all := parts(t, h, whole, n)
	streams := d.streams.Load()
	before := d.until(t, whole, 20) // each part has been proven right twice by then, the first time by itself
	if more := d.until(t, whole, 40) - before; more != 0 {
		t.Errorf("the parts were asked about %d times", more)
	}
	if more := d.streams.Load() - streams; more != 0 {
		t.Errorf("%d more streams were opened", more)
	}
	for _, m := range all {
		m.until(t, "no further list", func() bool { return m.resets == 1 })
		m.judge(t)
	}
}

func TestHubsOfAClientShareStreams(t *testing.T) {
	d := new(deaf)
	shared := follow.NewShared(dial(t, server.Endpoint(), d.options()...))
	var hubs []*follow.Hub
	prefix := newPrefix()
	m := newMirror(prefix)
	for range 20 {
		h := shared.NewHub(follow.Options{Probe: "/test/probe"})
		hubs = append(hubs, h)
		t.Cleanup(h.Close)
		other := newMirror(prefix)
		start(t, h, prefix, other)
		other.until(t, "a list", func() bool { return other.resets > 0 })
	}
	start(t, hubs[0], prefix, m)
	for _, h := range hubs[1:] {
		h.Close() // the streams stay, since one hub is left
	}
	put(t, prefix+"a", "1")
	m.has(t, prefix+"a", "1")
	if n := d.streams.Load(); n != 1 {
		t.Errorf("20 hubs have opened %d streams, want 1", n)
	}
}

func TestAHubThatBeginsAfterARewindKnowsNothingOfTheOldHistory(t *testing.T) {
	shared := follow.NewShared(client)
	told := make(chan error, 2)
	var old []*follow.Hub
	for range 2 {
		h := shared.NewHub(follow.Options{Probe: "/test/probe", OnRewound: func(err error) { told <- err }})
		t.Cleanup(h.Close)
		old = append(old, h)
	}
	header := &pb.ResponseHeader{ClusterId: 1, Revision: 1 << 40}
	if err := old[0].Check(0, header); err != nil {
		t.Fatal(err)
	}
	if err := old[1].Check(1<<40, &pb.ResponseHeader{ClusterId: 1, Revision: 5}); !errors.Is(err, follow.ErrRewound) {
		t.Fatalf("what one hub has seen does not count for another: %v", err)
	}
	for range old {
		if err := <-told; !errors.Is(err, follow.ErrRewound) {
			t.Error(err)
		}
	}
	h := shared.NewHub(follow.Options{Probe: "/test/probe"})
	t.Cleanup(h.Close)
	if _, err := h.KV().Get(t.Context(), "x", clientv3.WithKeysOnly()); err != nil {
		t.Errorf("a hub that begins later: %v", err)
	}
	if _, err := old[0].KV().Get(t.Context(), "x"); !errors.Is(err, follow.ErrRewound) {
		t.Errorf("a hub that has seen it: %v", err)
	}
}

// The parts of a small range share a watch. When it grows, each gets one of its own, and none misses anything.
func TestPartsShareAWatchWhileTheirRangeIsSmall(t *testing.T) {
	const n, each = 20, 100
	whole, d := newPrefix(), new(deaf)
	h := newHub(t, dial(t, server.Endpoint(), d.options()...), follow.Options{})
	all := parts(t, h, whole, n)
	if got := d.watches.Load(); got != 1 {
		t.Errorf("%d parts of a small range have %d watches", n, got)
	}
	for round := range 5000 / each { // each transaction is about all parts, in turns
		var ops []clientv3.Op
		for i := range each {
			key := fmt.Sprintf("%s%03d/%d", whole, i%n, round*each+i)
			if i%10 == 0 && round > 0 {
				ops = append(ops, clientv3.OpDelete(fmt.Sprintf("%s%03d/%d", whole, i%n, (round-1)*each+i)))
			}
			ops = append(ops, clientv3.OpPut(key, "1"))
		}
		if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range all {
		m.judge(t)
	}
	if got := d.watches.Load(); got != 1+n {
		t.Errorf("%d parts of a range that has grown have had %d watches", n, got)
	}
	for _, m := range all {
		m.until(t, "no further list", func() bool { return m.resets == 1 })
	}
}

// A range that grows bit by bit becomes too large also if its watch is made anew in between.
func TestARangeIsCountedAlsoWhereItsWatchIsMadeAnew(t *testing.T) {
	const n, rounds = 20, 3
	whole, d, own := newPrefix(), new(deaf), embeddedtest.Server(t)
	etcd := embeddedtest.Client(t, own.Endpoint())
	p := newProxy(t, own.Endpoint())
	h := newHub(t, dial(t, p.endpoint(), d.options()...), follow.Options{})
	all := parts(t, h, whole, n)
	grow := func(round, from, to int) (revision int64) {
		for i := from; i < to; i += 100 {
			var ops []clientv3.Op
			for j := range 100 {
				ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%03d/%d-%d", whole, j%n, round, i+j), "1"))
			}
			resp, err := etcd.Txn(t.Context()).Then(ops...).Commit()
			if err != nil {
				t.Fatal(err)
			}
			revision = resp.Header.Revision
		}
		return revision
	}
	for round := range rounds {
		grow(round, 0, 1500)
		p.Cut()
		revision := grow(round, 1500, 2000)
		if _, err := etcd.Compact(t.Context(), revision); err != nil {
			t.Fatal(err)
		}
		p.Mend(own.Endpoint())
		for _, m := range all {
			m.until(t, "all keys", func() bool { return len(m.state) == 2000*(round+1)/n })
		}
	}
	grow(rounds, 0, 100)
	for _, m := range all {
		m.until(t, "all keys", func() bool { return len(m.state) == (2000*rounds+100)/n })
	}
	if got := d.watches.Load(); got < n {
		t.Errorf("%d parts of a range that has grown have had %d watches", n, got)
	}
}

// What is written to parts that are followed elsewhere does not come here for ever.
func TestPartsThatHearTooMuchOfOthersGetWatchesOfTheirOwn(t *testing.T) {
	whole, d := newPrefix(), new(deaf)
	h := newHub(t, dial(t, server.Endpoint(), d.options()...), follow.Options{})
	all := parts(t, h, whole, 2)
	for round := range 5000 / 100 {
		var ops []clientv3.Op
		for i := range 100 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%selsewhere/%d", whole, i), fmt.Sprint(round)))
		}
		if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range all {
		put(t, m.prefix+"key", fmt.Sprint(i))
		m.judge(t)
	}
	if got := d.watches.Load(); got != 3 {
		t.Errorf("2 parts have had %d watches, want that of the whole and one for each", got)
	}
}

// refusing makes etcd refuse, or never answer, what a proof asks: counts, and reads of the key that was modified last.
type refusing struct {
	on, hang atomic.Bool
	counts   atomic.Int64 // of ranges
	refused  atomic.Int64
}

func (r *refusing) option() grpc.DialOption {
	asks := func(req *pb.RangeRequest) bool {
		if req.GetCountOnly() {
			r.counts.Add(1)
		}
		return req.GetCountOnly() || req.GetSortTarget() == pb.RangeRequest_MOD
	}
	return grpc.WithChainUnaryInterceptor(func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
		invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		of := false
		switch req := req.(type) {
		case *pb.RangeRequest:
			of = asks(req)
		case *pb.TxnRequest:
			for _, op := range req.Success {
				of = of || asks(op.GetRequestRange())
			}
		}
		if !of || !r.on.Load() {
			return invoke(ctx, method, req, reply, cc, opts...)
		}
		r.refused.Add(1)
		if r.hang.Load() {
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		}
		return status.Error(codes.ResourceExhausted, "not now")
	})
}

// An etcd that does not prove anything now has not shown that the shared watch misses anything.
func TestAFailedProofDoesNotTakeThePartsApart(t *testing.T) {
	const n = 30
	whole, d, r := newPrefix(), new(deaf), new(refusing)
	h := newHub(t, dial(t, server.Endpoint(), append(d.options(), r.option())...),
		follow.Options{Resync: 300 * time.Millisecond})
	all := parts(t, h, whole, n)
	r.on.Store(true)
	for _, m := range all {
		m.until(t, "lists in place of proofs", func() bool { return m.resets > 3 })
	}
	r.on.Store(false)
	for i, m := range all {
		put(t, m.prefix+"key", fmt.Sprint(i))
		m.judge(t)
	}
	if got := d.watches.Load(); r.refused.Load() == 0 || got >= n {
		t.Errorf("%d parts have had %d watches, while %d questions were refused", n, got, r.refused.Load())
	}
}

// The readers of a range do not wait one after the other for the same question to fail.
func TestAQuestionThatHangsIsAskedOnceForAllParts(t *testing.T) {
	const n = 40
	r := new(refusing)
	r.on.Store(true)
	r.hang.Store(true)
	h := newHub(t, dial(t, server.Endpoint(), r.option()), follow.Options{ListTimeout: time.Second})
	for _, m := range parts(t, h, newPrefix(), n) {
		put(t, m.prefix+"key", "1")
		m.judge(t)
	}
	if got := r.counts.Load(); got > n/4 {
		t.Errorf("%d parts have asked %d times", n, got)
	}
}

// Where etcd does not answer, a hub does not wait for longer because another one would.
func TestAHubWaitsNoLongerThanItsOwnTimeout(t *testing.T) {
	var probes atomic.Int64
	swallow := grpc.WithUnaryInterceptor(func(
		ctx context.Context, _ string, req, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption,
	) error {
		if req, ok := req.(*pb.RangeRequest); ok && string(req.Key) == "/test/probe" {
			probes.Add(1)
		}
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	})
	shared := follow.NewShared(dial(t, server.Endpoint(), swallow))
	hub := func(timeout time.Duration) *follow.Hub {
		h := shared.NewHub(follow.Options{
			Probe: "/test/probe", ListTimeout: timeout, Progress: 100 * time.Millisecond,
		})
		t.Cleanup(h.Close)
		return h
	}
	patient, other := hub(10*time.Minute), hub(100*time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	var waiting, lists sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	for range 10 { // the first one is sent by itself, and the others share a request with those of the other hub
		waiting.Go(func() { _, _, _ = patient.List(ctx, "/a/") })
		lists.Go(func() {
			if _, _, err := other.List(ctx, "/b/"); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() { defer close(done); lists.Wait() }()
	deadline := time.After(time.Minute)
	for look := time.NewTicker(10 * time.Millisecond); done != nil || probes.Load() < 3; {
		select {
		case <-done:
			done = nil
		case <-look.C:
		case <-deadline:
			t.Fatalf("a minute has passed: lists wait: %t; %d probes", done != nil, probes.Load())
		}
	}
}
