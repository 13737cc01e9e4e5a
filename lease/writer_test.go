package lease_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/lease"
)

// spy counts transactions, and may hold or refuse them.
type spy struct {
	lease.Committer
	mu     sync.Mutex
	txns   int
	refuse func(*pb.TxnRequest) error
	hold   chan struct{} // if not nil, each transaction first receives from it
}

func (s *spy) Commit(ctx context.Context, txn *pb.TxnRequest) (*pb.TxnResponse, error) {
	s.mu.Lock()
	s.txns++
	s.mu.Unlock()
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.refuse != nil {
		if err := s.refuse(txn); err != nil {
			return nil, err
		}
	}
	return s.Committer.Commit(ctx, txn)
}

func (s *spy) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.txns
}

// bench is an etcd with a guard key, and a Writer on it.
type bench struct {
	client  *clientv3.Client
	etcd    *spy
	guard   lease.Guard
	writer  *lease.Writer
	results chan []lease.Result
}

func newBench(tb testing.TB, client *clientv3.Client, opts lease.WriterOptions) *bench {
	tb.Helper()
	if _, err := client.Delete(within(tb), "guard"); err != nil { // a test may make several benches
		tb.Fatal(err)
	}
	resp, err := client.Put(within(tb), "guard", "")
	if err != nil {
		tb.Fatal(err)
	}
	b := &bench{
		client:  client,
		etcd:    &spy{Committer: lease.NewCommitter(client)},
		guard:   lease.Guard{Key: "guard", CreateRevision: resp.Header.Revision},
		results: make(chan []lease.Result, 1<<16),
	}
	b.start(tb, opts)
	return b
}

func (b *bench) start(tb testing.TB, opts lease.WriterOptions) {
	b.writer = lease.NewWriter(b.etcd, b.guard, opts, func(r []lease.Result) { b.results <- r })
	tb.Cleanup(b.writer.Close)
}

func (b *bench) lease(tb testing.TB) clientv3.LeaseID {
	tb.Helper()
	resp, err := b.client.Grant(within(tb), 3600)
	if err != nil {
		tb.Fatal(err)
	}
	return resp.ID
}

// write submits ops and waits for all results. It returns them by key, in the order in which they were delivered.
func (b *bench) write(tb testing.TB, ops ...lease.Op) map[string][]lease.Result {
	tb.Helper()
	b.writer.Submit(ops...)
	return b.collect(tb, len(ops))
}

func (b *bench) collect(tb testing.TB, n int) map[string][]lease.Result {
	tb.Helper()
	results := make(map[string][]lease.Result)
	for n > 0 {
		for _, r := range receive(tb, "results", b.results) {
			results[r.Op.Key] = append(results[r.Op.Key], r)
			n--
		}
	}
	if n < 0 || len(b.results) > 0 {
		tb.Fatalf("more results than ops: %d and %d more", -n, len(b.results))
	}
	return results
}

func (b *bench) get(tb testing.TB, key string) lease.Found {
	tb.Helper()
	return b.all(tb, key)[key]
}

// all returns what etcd has under a prefix.
func (b *bench) all(tb testing.TB, prefix string) map[string]lease.Found {
	tb.Helper()
	resp, err := b.client.Get(within(tb), prefix, clientv3.WithPrefix())
	if err != nil {
		tb.Fatal(err)
	}
	found := make(map[string]lease.Found)
	for _, kv := range resp.Kvs {
		found[string(kv.Key)] = lease.Found{
			CreateRevision: kv.CreateRevision, Lease: clientv3.LeaseID(kv.Lease),
			Value: kv.Value,
		}
	}
	return found
}

func claims(n int, id clientv3.LeaseID) []lease.Op {
	ops := make([]lease.Op, n)
	for i := range ops {
		ops[i] = lease.Op{Key: fmt.Sprintf("key/%05d", i), Group: i / 10, Value: []byte("me"), Lease: id, Tag: i}
	}
	return ops
}

func same(a, b lease.Found) bool {
	return a.CreateRevision == b.CreateRevision && a.Lease == b.Lease && bytes.Equal(a.Value, b.Value)
}

func TestClaimUpdateAndRelease(t *testing.T) {
	b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{})
	id := b.lease(t)
	const n = 1000
	token := make(map[string]int64)
	results := b.write(t, claims(n, id)...)
	etcd := b.all(t, "key/")
	for key, rs := range results {
		r := rs[0]
		if !r.Applied || r.Err != nil {
			t.Fatalf("%s: %+v", key, r)
		}
		want := lease.Found{CreateRevision: r.Revision, Lease: id, Value: []byte("me")}
		if got := etcd[key]; !same(got, want) {
			t.Fatalf("%s: etcd has %+v, want %+v", key, got, want)
		}
		if want := fmt.Sprintf("key/%05d", r.Op.Tag); key != want {
			t.Fatalf("%s has the tag of %s", key, want)
		}
		token[key] = r.Revision
	}
	// 127 ops fit into a transaction: 7 would do, but groups of 10 that are kept whole take 9.
	if txns := b.etcd.count(); txns > 9 {
		t.Errorf("%d transactions for %d claims", txns, n)
	}
	var ops []lease.Op
	for key, rev := range token {
		ops = append(ops, lease.Op{Key: key, Expect: rev, Value: []byte("active"), Lease: id})
	}
	results = b.write(t, ops...)
	etcd = b.all(t, "key/")
	for key, rs := range results {
		want := lease.Found{CreateRevision: token[key], Lease: id, Value: []byte("active")}
		if got := etcd[key]; !rs[0].Applied || !same(got, want) {
			t.Fatalf("%s: %+v; etcd has %+v, want %+v", key, rs[0], got, want)
		}
	}
	ops = nil
	for key, rev := range token {
		ops = append(ops, lease.Op{Key: key, Expect: rev, Delete: true})
	}
	for key, rs := range b.write(t, ops...) {
		if !rs[0].Applied {
			t.Fatalf("%s: %+v", key, rs[0])
		}
	}
	if etcd = b.all(t, "key/"); len(etcd) != 0 {
		t.Fatalf("%d keys are left", len(etcd))
	}
	if n := b.writer.Pending(); n != 0 {
		b.writer.Close() // the last results were delivered, but may not be counted yet
		if n = b.writer.Pending(); n != 0 {
			t.Errorf("%d pending", n)
		}
	}
}

func TestConflictsAreIsolated(t *testing.T) {
	// For negative numbers of keys the writer is told that they are vacant, which is wrong.
	for _, n := range []int{1, -1, 5, -5, 8, -8, 9, -9, 127, -127, 300, -300} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			vacant := n < 0
			n := max(n, -n)
			b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{})
			mine, theirs := b.lease(t), b.lease(t)
			taken := make(map[string]bool)
			for i := 0; i < n; i += 3 {
				key := fmt.Sprintf("key/%05d", i)
				taken[key] = true
				if _, err := b.client.Put(within(t), key, "them", clientv3.WithLease(theirs)); err != nil {
					t.Fatal(err)
				}
			}
			ops := claims(n, mine)
			for i := range ops {
				ops[i].Vacant = vacant
			}
			results := b.write(t, ops...)
			etcd := b.all(t, "key/")
			for key, rs := range results {
				r := rs[0]
				if r.Err != nil || r.Applied == taken[key] || r.Revision == 0 {
					t.Fatalf("%s: %+v", key, r)
				}
				got := etcd[key]
				if taken[key] {
					if !same(r.Found, got) || r.Found.Lease != theirs || string(r.Found.Value) != "them" {
						t.Fatalf("%s: found %+v, and there is %+v", key, r.Found, got)
					}
				} else if got.CreateRevision != r.Revision || got.Lease != mine {
					t.Fatalf("%s: %+v, and there is %+v", key, r, got)
				}
			}
			// Neither a token that is no longer the key's, nor a key that does not exist, lets anything be deleted.
			rs := b.write(t, lease.Op{Key: "key/00000", Expect: 1, Delete: true},
				lease.Op{Key: "none", Expect: 1, Value: []byte("x")})
			if r := rs["key/00000"][0]; r.Applied || r.Err != nil || r.Found.Lease != theirs {
				t.Errorf("an old token: %+v", r)
			}
			if r := rs["none"][0]; r.Applied || r.Err != nil || r.Found.CreateRevision != 0 {
				t.Errorf("no key: %+v", r)
			}
		})
	}
}

// The ops of a vacant group are compared as one range for each group and batch. A key between them that no op writes is
// in the way of that comparison, and of nothing else.
func TestAVacantGroupIsComparedAsOne(t *testing.T) {
	for _, inTheWay := range []bool{false, true} {
		b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{MaxInFlight: 1})
		id := b.lease(t)
		if inTheWay {
			if _, err := b.client.Put(within(t), "group-1/0050x", ""); err != nil {
				t.Fatal(err)
			}
		}
		var mu sync.Mutex
		compares := make(map[string]int) // by the start of the range
		b.etcd.refuse = func(txn *pb.TxnRequest) error {
			mu.Lock()
			defer mu.Unlock()
			for _, c := range txn.Compare {
				if len(c.RangeEnd) > 0 {
					compares[string(c.Key)]++
				}
			}
			return nil
		}
		var ops []lease.Op
		for i := range 100 { // in reverse order of the keys
			ops = append(ops, lease.Op{Key: fmt.Sprintf("group-1/%04d", 99-i), Group: 1, Lease: id, Vacant: true})
		}
		for i := range 200 { // two batches
			ops = append(ops, lease.Op{Key: fmt.Sprintf("group-2/%04d", i), Group: 2, Lease: id, Vacant: true})
		}
		for key, r := range b.write(t, ops...) {
			if !r[0].Applied {
				t.Fatalf("in the way: %v: %s: %+v", inTheWay, key, r[0])
			}
		}
		if compares["group-1/0000"] != 1 || len(compares) != 3 {
			t.Errorf("in the way: %v: ranges from %v, want one for the first group, and two for the second", inTheWay,
				compares)
		}
		if n := len(b.all(t, "group-")); n != 300 && !inTheWay || n != 301 && inTheWay {
			t.Errorf("in the way: %v: %d keys", inTheWay, n)
		}
	}
}

// Ops with Any are applied whatever is there: beside ops in conflict too, and alone with the guard.
func TestAnyWritesWhateverIsThere(t *testing.T) {
	for _, n := range []int{1, 8, 9, 60} {
		b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{})
		id := b.lease(t)
		if _, err := b.client.Put(within(t), "any/0000", "them"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.client.Put(within(t), "key/00000", "them"); err != nil {
			t.Fatal(err)
		}
		ops := claims(1, id) // in conflict with what is there
		for i := range n {
			ops = append(ops, lease.Op{Key: fmt.Sprintf("any/%04d", i), Any: true, Lease: id, Value: []byte("us")})
		}
		for key, rs := range b.write(t, ops...) {
			if r := rs[0]; r.Err != nil || r.Revision == 0 || r.Applied == (key == "key/00000") {
				t.Errorf("%d: %s: %+v", n, key, r)
			}
		}
		etcd := b.all(t, "any/")
		for i := range n {
			if got := etcd[fmt.Sprintf("any/%04d", i)]; got.Lease != id || string(got.Value) != "us" {
				t.Errorf("%d: the %d-th is %+v", n, i, got)
			}
		}
		for key, rs := range b.write(t, lease.Op{Key: "any/0000", Any: true, Delete: true},
			lease.Op{Key: "any/none", Any: true, Delete: true}) {
			if r := rs[0]; !r.Applied || r.Err != nil {
				t.Errorf("%d: delete %s: %+v", n, key, r)
			}
		}
		if left := b.all(t, "any/"); len(left) != n-1 {
			t.Errorf("%d: %d keys are left", n, len(left))
		}
		if _, err := b.client.Delete(within(t), "guard"); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "any/0001", b.write(t, lease.Op{Key: "any/0001", Any: true, Lease: id})["any/0001"][0].Err,
			lease.ErrGuard)
	}
}

func TestNothingIsWrittenWithoutTheGuard(t *testing.T) {
	for _, tt := range []struct{ n, taken int }{{1, 0}, {1, 1}, {50, 0}, {50, 1}} {
		n, before := tt.n, []clientv3.Op{clientv3.OpDelete("guard"), clientv3.OpDelete("key/", clientv3.WithPrefix())}
		if tt.taken > 0 { // a key besides would hide what this is about
			before = []clientv3.Op{clientv3.OpDelete("guard"), clientv3.OpPut("key/00000", "them")}
		}
		b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{})
		if _, err := b.client.Txn(within(t)).Then(before...).Commit(); err != nil {
			t.Fatal(err)
		}
		for key, rs := range b.write(t, claims(n, b.lease(t))...) {
			wantErr(t, key, rs[0].Err, lease.ErrGuard)
			if rs[0].Revision == 0 || rs[0].Applied || rs[0].Found.CreateRevision != 0 {
				t.Fatalf("%s: %+v", key, rs[0])
			}
		}
		if keys := b.all(t, "key/"); len(keys) != tt.taken {
			t.Fatalf("%d keys were written", len(keys)-tt.taken)
		}
		// Nothing is written either while another key has the guard's place.
		if _, err := b.client.Put(within(t), "guard", ""); err != nil {
			t.Fatal(err)
		}
		for key, rs := range b.write(t, claims(n, b.lease(t))...) {
			wantErr(t, key, rs[0].Err, lease.ErrGuard)
		}
	}
}

// Deletions need no guard: the guard may be gone before the claims are.
func TestDeletionsNeedNoGuard(t *testing.T) {
	for _, n := range []int{1, 8, 50} {
		b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{})
		var ops []lease.Op
		for key, rs := range b.write(t, claims(n, b.lease(t))...) {
			ops = append(ops, lease.Op{Key: key, Expect: rs[0].Revision, Delete: true})
		}
		if _, err := b.client.Delete(within(t), "guard"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.client.Put(within(t), "key/none", "them"); err != nil {
			t.Fatal(err)
		}
		ops = append(ops, lease.Op{Key: "key/none", Expect: 1, Delete: true}) // in conflict
		for key, rs := range b.write(t, ops...) {
			if r := rs[0]; r.Err != nil || r.Applied == (key == "key/none") {
				t.Errorf("%d: %s: %+v", n, key, r)
			}
		}
		if left := b.all(t, "key/"); len(left) != 1 {
			t.Errorf("%d: %d keys are left, want one", n, len(left))
		}
	}
}

func TestGuardThatGoesBetweenTheTwoTriesIsSeen(t *testing.T) {
	b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{})
	if _, err := b.client.Put(within(t), "key/00000", "them"); err != nil {
		t.Fatal(err)
	}
	b.etcd.refuse = func(*pb.TxnRequest) error {
		if b.etcd.count() == 2 {
			_, err := b.client.Delete(within(t), "guard")
			return err
		}
		return nil
	}
	for key, rs := range b.write(t, claims(20, b.lease(t))...) {
		wantErr(t, key, rs[0].Err, lease.ErrGuard)
	}
}

func TestLostAnswersLeaveTheOutcomeUnknown(t *testing.T) {
	server := embeddedtest.Server(t)
	proxy := newProxy(t, server.Endpoint())
	direct := embeddedtest.Client(t, server.Endpoint())
	for _, test := range []struct {
		name    string
		cut     func()
		applied bool
	}{
		{"the answer is swallowed", func() { proxy.pass(true, false) }, true},
		{"the request is swallowed", func() { proxy.pass(false, true) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := direct.Delete(within(t), "", clientv3.WithPrefix()); err != nil {
				t.Fatal(err)
			}
			b := newBench(t, embeddedtest.Client(t, proxy.endpoint()), lease.WriterOptions{Timeout: time.Second})
			id := b.lease(t)
			test.cut()
			results := b.write(t, claims(20, id)...)
			b.client = direct
			for key, rs := range results {
				wantErr(t, key, rs[0].Err, lease.ErrUnknown, context.DeadlineExceeded)
				if rs[0].Applied || rs[0].Revision != 0 {
					t.Errorf("%s: %+v", key, rs[0])
				}
				if got := b.get(t, key).Lease == id; got != test.applied {
					t.Errorf("%s: in etcd: %v, want %v", key, got, test.applied)
				}
			}
			proxy.reset()
			proxy.pass(true, true)
		})
	}
	t.Run("the connection breaks", func(t *testing.T) {
		b := newBench(t, embeddedtest.Client(t, proxy.endpoint()), lease.WriterOptions{})
		proxy.pass(true, false)
		b.writer.Submit(lease.Op{Key: "broken", Value: []byte("x")})
		watch := direct.Watch(within(t), "broken", clientv3.WithRev(1))
		receive(t, "the write", watch)
		proxy.reset()
		wantErr(t, "write", b.collect(t, 1)["broken"][0].Err, lease.ErrUnknown)
	})
}

func TestALeaseThatIsGoneSpoilsOnlyItsOwn(t *testing.T) {
	b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{})
	good, gone := b.lease(t), b.lease(t)
	if _, err := b.client.Revoke(within(t), gone); err != nil {
		t.Fatal(err)
	}
	ops := claims(100, good)
	for i := range ops {
		if i%2 == 0 {
			ops[i].Lease = gone
		}
	}
	for key, rs := range b.write(t, ops...) {
		if rs[0].Op.Lease == good {
			if !rs[0].Applied {
				t.Errorf("%s: %+v", key, rs[0])
			}
			continue
		}
		wantErr(t, key, rs[0].Err, lease.ErrLeaseGone, lease.ErrGone)
		if b.get(t, key).CreateRevision != 0 {
			t.Errorf("%s was written under a lease that is gone", key)
		}
	}
}

func TestLargeValues(t *testing.T) {
	b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{MaxBytes: 8 << 20})
	id := b.lease(t)
	sizes := map[string]int{"a": 1 << 20, "b": 1600 << 10, "c": 3 << 20, "d": 100, "e": 700 << 10, "f": 700 << 10}
	var ops []lease.Op
	for key, n := range sizes {
		ops = append(ops, lease.Op{Key: key, Value: bytes.Repeat([]byte("v"), n), Lease: id})
	}
	// As one batch these ops are more than etcd takes, and even more than its client sends.
	for key, rs := range b.write(t, ops...) {
		if tooLarge := sizes[key] > 1500<<10; tooLarge {
			wantErr(t, key, rs[0].Err, lease.ErrTooLarge)
		} else if !rs[0].Applied || len(b.get(t, key).Value) != sizes[key] {
			t.Errorf("%s: applied %v, %v", key, rs[0].Applied, rs[0].Err)
		}
	}
	before := b.etcd.count()
	b.start(t, lease.WriterOptions{})
	again := b.write(t, lease.Op{Key: "x", Value: make([]byte, 1<<20)}, lease.Op{Key: "y", Value: make([]byte, 1<<20)})
	if !again["x"][0].Applied || !again["y"][0].Applied || b.etcd.count() != before+2 {
		t.Errorf("two values of 1 MiB took %d transactions: %v, %v", b.etcd.count()-before, again["x"][0].Err,
			again["y"][0].Err)
	}
}

func TestALowerLimitOfOperationsIsLearnt(t *testing.T) {
	b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{MaxInFlight: 1})
	b.etcd.refuse = func(txn *pb.TxnRequest) error {
		if len(txn.Success) > 40 {
			return rpctypes.ErrTooManyOps
		}
		return nil
	}
	for key, rs := range b.write(t, claims(1000, b.lease(t))...) {
		if !rs[0].Applied {
			t.Fatalf("%s: %+v", key, rs[0])
		}
	}
	if n := b.etcd.count(); n > 50 {
		t.Errorf("%d transactions of up to 31 ops for 1000", n)
	}
}

func TestWhatOneWriterLearnsOfEtcdsLimitsAnotherNeedNotLearn(t *testing.T) {
	for _, limit := range []func(*embedded.Config){
		func(c *embedded.Config) { c.MaxTxnOps = 2 },
		func(c *embedded.Config) { c.MaxTxnOps = 3 },
		func(c *embedded.Config) { c.MaxTxnOps = 9 },
		func(c *embedded.Config) { c.MaxRequestBytes = 1000 },
	} {
		client := embeddedtest.Client(t, embeddedtest.ServerOf(t, limit).Endpoint())
		opts := lease.WriterOptions{MaxInFlight: 1, Limits: lease.NewLimits()}
		b := newBench(t, client, opts)
		var sent []int // how many transactions each of the two writers sent
		for _, prefix := range []string{"first", "second"} {
			b.start(t, opts)
			before := b.etcd.count()
			ops := claims(200, b.lease(t))
			for i := range ops {
				ops[i].Key = prefix + ops[i].Key
			}
			ops = append(ops, lease.Op{Key: ops[7].Key}) // sent after the first, and in conflict with it
			for key, rs := range b.write(t, ops...) {
				if !rs[0].Applied ||
					len(rs) > 1 && (rs[1].Applied || rs[1].Err != nil || rs[1].Found.CreateRevision == 0) {
					t.Fatalf("%s: %+v", key, rs)
				}
			}
			sent = append(sent, b.etcd.count()-before)
		}
		if sent[1] >= sent[0] {
			t.Errorf("the first took %d transactions, and the second %d", sent[0], sent[1])
		}
	}
}

func TestAnEtcdThatTakesTooFewOperationsForOneWriteIsNamed(t *testing.T) {
	client := embeddedtest.Client(t, embeddedtest.ServerOf(t, func(c *embedded.Config) { c.MaxTxnOps = 1 }).Endpoint())
	b := newBench(t, client, lease.WriterOptions{})
	for key, rs := range b.write(t, claims(3, b.lease(t))...) {
		wantErr(t, key, rs[0].Err, lease.ErrTooLarge, rpctypes.ErrTooManyOps)
		if !strings.Contains(rs[0].Err.Error(), "--max-txn-ops is too low: this needs 2") {
			t.Errorf("%s: %v", key, rs[0].Err)
		}
	}
}

func TestRefusalsSayThatNothingWasWritten(t *testing.T) {
	b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{})
	for want, errs := range map[error][]error{
		lease.ErrRefused: {
			rpctypes.ErrNoSpace, rpctypes.ErrPermissionDenied, rpctypes.ErrTooManyRequests,
			rpctypes.ErrInvalidAuthToken,
		},
		lease.ErrUnknown: {
			rpctypes.ErrTimeout, rpctypes.ErrNoLeader, rpctypes.ErrLeaderChanged, rpctypes.ErrStopped,
			errors.New("?"),
		},
	} {
		for _, err := range errs {
			b.etcd.refuse = func(*pb.TxnRequest) error { return err }
			wantErr(t, err.Error(), b.write(t, lease.Op{Key: "k"})["k"][0].Err, want, err)
		}
	}
}

func TestOpsOfOneKeyKeepTheirOrder(t *testing.T) {
	b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{})
	ours, second := b.lease(t), b.lease(t)
	// The second claim must find the first one; the deletion of a key that does not exist must come before both.
	rs := b.write(t,
		lease.Op{Key: "k", Expect: 7, Delete: true, Tag: 0},
		lease.Op{Key: "k", Lease: ours, Value: []byte("1"), Tag: 1},
		lease.Op{Key: "other", Lease: ours},
		lease.Op{Key: "k", Lease: second, Value: []byte("2"), Tag: 2},
		lease.Op{Key: "k", Expect: 7, Lease: second, Value: []byte("3"), Tag: 3},
	)["k"]
	for i, r := range rs {
		if r.Op.Tag != i || r.Err != nil || r.Applied != (i == 1) {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	if rs[0].Found.CreateRevision != 0 || rs[2].Found.Lease != ours || rs[3].Found.CreateRevision != rs[1].Revision {
		t.Errorf("got %+v", rs)
	}
}

// Whatever is submitted at once, each op's result is the one that carrying out its key's ops one after another gives.
func TestWriterDoesWhatOneAfterAnotherWouldDo(t *testing.T) {
	client := embeddedtest.Client(t)
	b := newBench(t, client, lease.WriterOptions{})
	leases := []clientv3.LeaseID{b.lease(t), b.lease(t), clientv3.NoLease}
	type state struct {
		exists bool
		lease  clientv3.LeaseID
		value  string
	}
	type expectation struct {
		applied bool
		found   state
	}
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		b.start(t, lease.WriterOptions{
			MaxInFlight: rapid.IntRange(1, 4).Draw(rt, "in flight"),
			Gather:      rapid.IntRange(0, 1).Draw(rt, "gather"),
			MaxOps:      rapid.IntRange(1, 127).Draw(rt, "max ops"),
			MaxBytes:    rapid.SampledFrom([]int{0, 100, 1000}).Draw(rt, "max bytes"),
		})
		defer b.writer.Close()
		var keys []string
		var before []clientv3.Op
		model := make(map[string]*state)
		for i := range rapid.IntRange(1, 6).Draw(rt, "keys") {
			key := fmt.Sprintf("%d/%d", round, i)
			keys = append(keys, key)
			model[key] = &state{}
			if rapid.Bool().Draw(rt, "exists") {
				before = append(before, clientv3.OpPut(key, "old"))
				model[key] = &state{exists: true, value: "old"}
			}
		}
		resp, err := client.Txn(within(t)).Then(before...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		original := resp.Header.Revision // the revision of the keys that were there from the start

		want := make(map[string][]expectation)
		recreated := make(map[string]bool)
		n := 0
		for range rapid.IntRange(1, 5).Draw(rt, "calls") {
			var ops []lease.Op
			for range rapid.IntRange(0, 12).Draw(rt, "ops") {
				n++
				op := lease.Op{
					Key:    rapid.SampledFrom(keys).Draw(rt, "key"),
					Group:  rapid.IntRange(0, 3).Draw(rt, "group"),
					Delete: rapid.Bool().Draw(rt, "delete"),
					Value:  []byte(fmt.Sprint(n)),
					Lease:  rapid.SampledFrom(leases).Draw(rt, "lease"),
					Tag:    n,
				}
				m := model[op.Key]
				applied := !m.exists
				if rapid.Bool().Draw(rt, "expect the original") {
					op.Expect = original
					applied = m.exists && !recreated[op.Key]
				}
				want[op.Key] = append(want[op.Key], expectation{applied, *m})
				switch {
				case !applied:
				case op.Delete:
					*m = state{}
				default:
					recreated[op.Key] = recreated[op.Key] || !m.exists
					*m = state{exists: true, lease: op.Lease, value: string(op.Value)}
				}
				ops = append(ops, op)
			}
			b.writer.Submit(ops...)
		}
		got := b.collect(t, n)
		for key, wants := range want {
			last := 0
			for i, w := range wants {
				r := got[key][i]
				if r.Op.Tag.(int) < last || r.Err != nil || r.Applied != w.applied {
					rt.Fatalf("%s, op %d: %+v, want applied: %v", key, i, r, w.applied)
				}
				last = r.Op.Tag.(int)
				if !w.applied && ((r.Found.CreateRevision != 0) != w.found.exists || r.Found.Lease != w.found.lease ||
					string(r.Found.Value) != w.found.value) {
					rt.Fatalf("%s, op %d: found %+v, want %+v", key, i, r.Found, w.found)
				}
			}
		}
		etcd := b.all(t, fmt.Sprintf("%d/", round))
		for key, m := range model {
			if f := etcd[key]; (f.CreateRevision != 0) != m.exists || f.Lease != m.lease || string(f.Value) != m.value {
				rt.Fatalf("%s is %+v in the end, want %+v", key, f, *m)
			}
		}
	})
}

func TestWhatWaitsIsBatched(t *testing.T) {
	b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{MaxInFlight: 2})
	b.etcd.hold = make(chan struct{})
	for _, op := range claims(100, b.lease(t)) {
		b.writer.Submit(op) // the first two go at once; the others wait for one of them
	}
	if n := b.writer.Pending(); n != 100 {
		t.Errorf("%d pending", n)
	}
	close(b.etcd.hold)
	b.collect(t, 100)
	if n := b.etcd.count(); n != 3 {
		t.Errorf("%d transactions, want 3", n)
	}
}

// While as many transactions are in progress as Gather says, another one begins only when it is full.
func TestOpsGatherUntilATransactionIsFullOrThereIsLittleToDo(t *testing.T) {
	b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{MaxInFlight: 8, Gather: 1, MaxOps: 10})
	b.etcd.hold = make(chan struct{})
	all := claims(26, b.lease(t))
	b.writer.Submit(all[0])
	for _, op := range all[1:] {
		b.writer.Submit(op)
	}
	for b.etcd.count() < 3 { // one op, and twice ten
		runtime.Gosched()
	}
	b.etcd.hold <- struct{}{}
	b.etcd.hold <- struct{}{}
	if n := b.etcd.count(); n != 3 {
		t.Errorf("%d transactions, want 3, until the last of them is answered", n)
	}
	close(b.etcd.hold)
	b.collect(t, 26)
	if n := b.etcd.count(); n != 4 {
		t.Errorf("%d transactions, want 4", n)
	}
}

// An etcd that says it has too many requests gets fewer at once, and more again when it answers.
func TestFewerAreUnderWayWhileEtcdIsOverloaded(t *testing.T) {
	client := embeddedtest.Client(t, embeddedtest.Server(t).Endpoint())
	const most = 8
	b := newBench(t, client, lease.WriterOptions{MaxInFlight: most, MaxOps: 1})
	id := b.lease(t)
	var busy atomic.Bool
	b.etcd.refuse = func(*pb.TxnRequest) error {
		if busy.Load() {
			return rpctypes.ErrTooManyRequests
		}
		return nil
	}
	b.etcd.hold = make(chan struct{})
	sent, done := 0, 0
	pass := func(n int) {
		t.Helper()
		for range n {
			b.etcd.hold <- struct{}{}
			b.collect(t, 1)
			done++
		}
	}
	underWay := func(want int) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for b.etcd.count()-done != want {
			if time.Now().After(deadline) {
				t.Fatalf("%d transactions are in progress, want %d", b.etcd.count()-done, want)
			}
			<-time.After(time.Millisecond)
		}
	}
	more := func(n int) {
		for range n {
			b.writer.Submit(lease.Op{Key: fmt.Sprintf("k%04d", sent), Group: sent, Lease: id})
			sent++
		}
	}
	more(200)
	underWay(most)
	busy.Store(true)
	pass(most) // 4, then 2, then 1
	underWay(1)
	pass(5)
	underWay(1)
	busy.Store(false)
	pass(1)
	underWay(2)
	pass(2)
	underWay(3)
	pass(3 + 4 + 5 + 6 + 7 + 50)
	underWay(most)
	pass(sent - done)
}

func TestCloseAnswersEveryOp(t *testing.T) {
	b := newBench(t, embeddedtest.Client(t), lease.WriterOptions{MaxInFlight: 2, MaxOps: 5})
	b.etcd.hold = make(chan struct{})
	id := b.lease(t)
	ops := claims(50, id)
	b.writer.Submit(ops...)
	b.writer.Submit(ops...) // each waits for the first op of its key
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		b.writer.Close()
	}()
	unsent := receive(t, "the rejection of what was not sent", b.results)
	if len(unsent) != 80 {
		t.Errorf("%d were rejected at once, want 40 keys twice", len(unsent))
	}
	select {
	case <-closed:
		t.Error("Close did not wait for the transactions in progress")
	default:
	}
	close(b.etcd.hold)
	receive(t, "Close", closed)
	applied := 0
	for _, rs := range [][]lease.Result{unsent, <-b.results, <-b.results, <-b.results, <-b.results} {
		for _, r := range rs {
			if r.Applied {
				applied++
			} else {
				wantErr(t, r.Op.Key, r.Err, lease.ErrClosed)
			}
		}
	}
	if applied != 10 || len(b.results) != 0 || b.writer.Pending() != 0 {
		t.Errorf("%d applied, %d more results, %d pending", applied, len(b.results), b.writer.Pending())
	}
	b.writer.Submit(lease.Op{Key: "late"})
	wantErr(t, "after Close", b.collect(t, 1)["late"][0].Err, lease.ErrClosed)
	b.writer.Close()
}

func TestNewWriterPanicsOnBadOptions(t *testing.T) {
	for _, opts := range []lease.WriterOptions{
		{MaxOps: 128},
		{MaxOps: -1},
		{MaxInFlight: -1},
		{MaxInFlight: 3, Gather: 4},
		{Gather: -1},
		{MaxBytes: -1},
		{Timeout: -1},
	} {
		func() {
			defer func() {
				if got := recover(); got == nil || !strings.Contains(got.(string), "WriterOptions") {
					t.Errorf("%+v: got %v", opts, got)
				}
			}()
			lease.NewWriter(nil, lease.Guard{}, opts, nil)
		}()
	}
}
