package follow_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/follow"
)

func TestFollowMissesNothingOfConcurrentWrites(t *testing.T) {
	prefix := newPrefix()
	for n := range 30 { // written before, so that the list has several pages
		put(t, fmt.Sprintf("%s%02d", prefix, n), "old")
	}
	put(t, prefix[:len(prefix)-1]+"0", "a neighbour")
	m := newMirror(prefix)
	var writers errgroup.Group
	for w := range 4 {
		writers.Go(func() error {
			for n := range 60 {
				key := fmt.Sprintf("%s%02d", prefix, rand.IntN(40))
				other := fmt.Sprintf("%s%02d", prefix, 40+rand.IntN(10))
				var err error
				switch rand.IntN(3) {
				case 0:
					_, err = client.Delete(t.Context(), key)
				case 1:
					_, err = client.Put(t.Context(), key, fmt.Sprint(w, n))
				default:
					_, err = client.Txn(t.Context()).
						Then(clientv3.OpPut(key, fmt.Sprint(w, n)), clientv3.OpDelete(other)).
						Commit()
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	start(t, newHub(t, client, follow.Options{PageSize: 7}), prefix, m)
	if err := writers.Wait(); err != nil {
		t.Fatal(err)
	}
	m.judge(t)
	if m.resets != 1 {
		t.Errorf("%d resets", m.resets)
	}
}

func TestAReaderGetsAFreshListNowAndThen(t *testing.T) {
	prefix := newPrefix()
	put(t, prefix+"a", "1")
	m := newMirror(prefix)
	start(t, newHub(t, client, follow.Options{Resync: 50 * time.Millisecond}), prefix, m)
	for n := range 4 { // a change that the watch has told of leaves a list as the only proof
		m.until(t, "another list", func() bool { return m.resets > n })
		put(t, prefix+"a", fmt.Sprint("after list ", n))
		m.has(t, prefix+"a", fmt.Sprint("after list ", n))
	}
	m.judge(t)
}

func TestTheEventsOfOneTransactionComeTogether(t *testing.T) {
	prefix := newPrefix()
	m := newMirror(prefix)
	start(t, newHub(t, client, follow.Options{}), prefix, m)
	const size = 60
	for n := range 20 {
		ops := make([]clientv3.Op, size)
		for i := range ops {
			ops[i] = clientv3.OpPut(fmt.Sprintf("%s%02d", prefix, i), fmt.Sprint(n))
		}
		if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	m.judge(t)
	for _, events := range m.applies {
		count := map[int64]int{}
		for _, ev := range events {
			count[ev.Kv.ModRevision]++
		}
		for revision, n := range count {
			if n != size {
				t.Errorf("%d of %d events of revision %d came together", n, size, revision)
			}
		}
	}
}

func TestListReadsAllPagesAtOneRevision(t *testing.T) {
	prefix := newPrefix()
	for n := range 40 {
		put(t, fmt.Sprintf("%s%02d", prefix, n), "old")
	}
	h := newHub(t, client, follow.Options{PageSize: 1})
	ctx, stop := context.WithCancel(t.Context())
	var writer errgroup.Group
	writer.Go(func() error {
		for n := 0; ctx.Err() == nil; n++ {
			if _, err := client.Txn(t.Context()).
				Then(clientv3.OpPut(prefix+"00", fmt.Sprint(n)), clientv3.OpPut(prefix+"39", fmt.Sprint(n))).
				Commit(); err != nil {
				return err
			}
		}
		return nil
	})
	for range 10 {
		kvs, revision, err := h.List(t.Context(), prefix)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, kv := range kvs {
			got[string(kv.Key)] = string(kv.Value)
		}
		if want := stateAt(t, prefix, revision); len(kvs) != 40 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("at revision %d: %d keys, %v, want %v", revision, len(kvs), got, want)
		}
		if h.Highest() < revision {
			t.Errorf("the highest revision seen is %d, after %d was", h.Highest(), revision)
		}
	}
	stop()
	if err := writer.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestListOfNothingHasARevision(t *testing.T) {
	kvs, revision, err := newHub(t, client, follow.Options{}).List(t.Context(), newPrefix())
	if err != nil || len(kvs) != 0 || revision == 0 {
		t.Errorf("%d keys at %d, %v", len(kvs), revision, err)
	}
}

// etcd sends such a watch its events in portions, each with etcd's latest revision in the header.
func TestAWatchThatCatchesUpShowsNoStateThatNeverWas(t *testing.T) {
	prefix := newPrefix()
	p := newProxy(t, server.Endpoint())
	m := newMirror(prefix)
	start(t, newHub(t, dial(t, p.endpoint()), follow.Options{}), prefix, m)
	put(t, prefix+"x", "before")
	m.has(t, prefix+"x", "before")
	p.Cut()
	var writers errgroup.Group
	writers.SetLimit(16)
	for n := range 1300 {
		writers.Go(func() error {
			_, err := client.Put(t.Context(), fmt.Sprintf("%s%d", prefix, n%3), fmt.Sprint(n))
			return err
		})
	}
	if err := writers.Wait(); err != nil {
		t.Fatal(err)
	}
	p.Mend(server.Endpoint())
	m.judge(t)
	if m.resets != 1 || len(m.applies) < 2 {
		t.Errorf("%d resets and %d portions: this test shows nothing", m.resets, len(m.applies))
	}
}

func TestACompactionWhileCutOffIsFollowedByAFreshList(t *testing.T) {
	prefix := newPrefix()
	p := newProxy(t, server.Endpoint())
	m := newMirror(prefix)
	start(t, newHub(t, dial(t, p.endpoint()), follow.Options{PageSize: 2}), prefix, m)
	for n := range 5 {
		put(t, fmt.Sprint(prefix, n), "before")
	}
	m.has(t, prefix+"4", "before")
	p.Cut()
	if _, err := client.Delete(t.Context(), prefix+"0"); err != nil {
		t.Fatal(err)
	}
	revision := put(t, prefix+"1", "after")
	if _, err := client.Compact(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	clear(m.history) // etcd can no longer confirm it
	m.mu.Unlock()
	p.Mend(server.Endpoint())
	m.has(t, prefix+"1", "after")
	put(t, prefix+"2", "later")
	m.judge(t)
	if m.resets != 2 {
		t.Errorf("%d resets, want 2", m.resets)
	}
}

func TestManyPrefixesAreFollowedOverOneClient(t *testing.T) {
	p := newProxy(t, server.Endpoint())
	h := newHub(t, dial(t, p.endpoint()), follow.Options{})
	mirrors := make([]*mirror, 60)
	for n := range mirrors {
		mirrors[n] = newMirror(newPrefix())
		start(t, h, mirrors[n].prefix, mirrors[n])
	}
	for _, value := range []string{"1", "2"} {
		for _, m := range mirrors {
			put(t, m.prefix+"x", value)
		}
		for _, m := range mirrors {
			m.has(t, m.prefix+"x", value)
		}
		p.Cut()
		p.Mend(server.Endpoint())
	}
	for _, m := range mirrors {
		m.judge(t)
	}
}

func TestCheckNoticesAStoreThatWasRewoundOrReplaced(t *testing.T) {
	header := func(cluster uint64, revision int64) *pb.ResponseHeader {
		return &pb.ResponseHeader{ClusterId: cluster, Revision: revision}
	}
	for _, tt := range []struct {
		name    string
		before  int64
		header  *pb.ResponseHeader
		rewound bool
	}{
		{"the same revision", 10, header(1, 10), false},
		{"a later one", 10, header(1, 11), false},
		{"an older one than is known now, but not than was then", 5, header(1, 7), false},
		{"an older one", 10, header(1, 9), true},
		{"another cluster", 10, header(2, 11), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var told []error
			h := newHub(t, client, follow.Options{OnRewound: func(err error) { told = append(told, err) }})
			if err := h.Check(0, header(1, 10)); err != nil {
				t.Fatalf("the first answer: %v", err)
			}
			for range 2 { // OnRewound is told once
				if err := h.Check(tt.before, tt.header); errors.Is(err, follow.ErrRewound) != tt.rewound {
					t.Errorf("Check: %v", err)
				}
			}
			if tt.rewound != (len(told) == 1) || tt.rewound && !errors.Is(told[0], follow.ErrRewound) {
				t.Errorf("OnRewound was told %v", told)
			}
			if want := max(10, tt.header.Revision); !tt.rewound && h.Highest() != want ||
				tt.rewound && h.Highest() != 10 {
				t.Errorf("the highest revision seen is %d", h.Highest())
			}
		})
	}
}

func TestObserveKeepsTheHighestRevision(t *testing.T) {
	p := newProxy(t, server.Endpoint())
	p.Cut() // an older header would make the hub ask etcd, whose answer this test does not want
	h := newHub(t, dial(t, p.endpoint()), follow.Options{})
	var group errgroup.Group
	for n := range int64(8) {
		group.Go(func() error {
			for r := range int64(100) {
				if err := h.Observe(&pb.ResponseHeader{Revision: r * n}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if h.Highest() != 7*99 {
		t.Errorf("got %d, want %d", h.Highest(), 7*99)
	}
}

func TestAnEtcdThatWasReplacedIsNoticedThoughNobodyReads(t *testing.T) {
	prefix := newPrefix()
	p := newProxy(t, server.Endpoint())
	told := make(chan error, 10)
	h := newHub(t, dial(t, p.endpoint()), follow.Options{
		Progress: 50 * time.Millisecond, ListTimeout: time.Second, OnRewound: func(err error) { told <- err },
	})
	m := newMirror(prefix)
	start(t, h, prefix, m)
	put(t, prefix+"x", "1")
	m.has(t, prefix+"x", "1")
	other := embeddedtest.Server(t)
	p.Cut()
	p.Mend(other.Endpoint())
	select {
	case err := <-told:
		if !errors.Is(err, follow.ErrRewound) {
			t.Errorf("OnRewound was told %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("OnRewound was not called")
	}
	if _, _, err := h.List(t.Context(), prefix); !errors.Is(err, follow.ErrRewound) {
		t.Errorf("List: %v, want ErrRewound", err)
	}
	if m.resets != 1 {
		t.Errorf("the sink was given what the other etcd has")
	}
	if len(told) != 0 {
		t.Error("OnRewound was called again")
	}
}

// hangs makes watch streams that stop to answer, without an error, when they are told to.
type hangs struct {
	mu       sync.Mutex
	streams  []*hangingStream
	count    atomic.Int64
	progress atomic.Int64 // the revision of the last answer to a request for progress
}

type hangingStream struct {
	grpc.ClientStream
	all  *hangs
	hung atomic.Bool
}

func (h *hangs) intercept(
	ctx context.Context,
	desc *grpc.StreamDesc,
	cc *grpc.ClientConn,
	method string,
	streamer grpc.Streamer,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	inner, err := streamer(ctx, desc, cc, method, opts...)
	if err != nil || method != "/etcdserverpb.Watch/Watch" {
		return inner, err
	}
	s := &hangingStream{ClientStream: inner, all: h}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams = append(h.streams, s)
	h.count.Add(1)
	return s, nil
}

func (h *hangs) hang() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.streams {
		s.hung.Store(true)
	}
}

func (s *hangingStream) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	if s.hung.Load() {
		<-s.Context().Done()
		return s.Context().Err()
	}
	if resp, ok := m.(*pb.WatchResponse); ok && resp.WatchId == clientv3.InvalidWatchID {
		s.all.progress.Store(resp.Header.Revision)
	}
	return nil
}

func TestAStreamThatHangsWithoutAnErrorIsMadeAnew(t *testing.T) {
	prefix, quiet := newPrefix(), newPrefix()
	var hs hangs
	c := dial(t, server.Endpoint(), grpc.WithChainStreamInterceptor(hs.intercept))
	var silences atomic.Int64
	h := newHub(t, c, follow.Options{Progress: 50 * time.Millisecond, OnError: func(prefix string, err error) {
		if prefix != "" || err == nil {
			t.Errorf("%q: %v", prefix, err)
		}
		silences.Add(1)
	}})
	m, q := newMirror(prefix), newMirror(quiet)
	start(t, h, prefix, m)
	start(t, h, quiet, q)
	for _, both := range []*mirror{m, q} { // this comes over the stream, and not with the list
		both.until(t, "a list", func() bool { return both.resets == 1 })
		put(t, both.prefix+"x", "before")
		both.has(t, both.prefix+"x", "before")
	}
	for n := range 3 {
		hs.hang()
		put(t, prefix+"x", fmt.Sprint(n))
		m.has(t, prefix+"x", fmt.Sprint(n))
	}
	put(t, quiet+"x", "after")
	m.judge(t)
	q.judge(t)
	if m.resets != 1 || q.resets != 1 {
		t.Errorf("they were reset %d and %d times", m.resets, q.resets)
	}
	if silences.Load() < 3 {
		t.Errorf("%d silences were reported", silences.Load())
	}
}

func TestAStreamThatAnswersIsLeftAlone(t *testing.T) {
	prefix := newPrefix()
	var hs hangs
	c := dial(t, server.Endpoint(), grpc.WithChainStreamInterceptor(hs.intercept))
	h := newHub(t, c, follow.Options{Progress: 100 * time.Millisecond})
	m := newMirror(prefix)
	start(t, h, prefix, m)
	m.until(t, "a list", func() bool { return m.resets == 1 })
	// The hub hears nothing but the revisions of the answers to its requests for progress.
	for n := range 16 {
		rev := put(t, "/test/elsewhere", fmt.Sprint(n))
		for deadline := time.Now().Add(time.Minute); h.Highest() < rev; {
			if time.Now().After(deadline) {
				t.Fatalf("the hub saw revision %d, and not %d", h.Highest(), rev)
			}
			select {
			case <-t.Context().Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	if n := hs.count.Load(); n > 3 { // one stream, and some more if the machine stood still
		t.Errorf("%d streams were made", n)
	}
}

func TestFailuresAreReportedAndPass(t *testing.T) {
	prefix := newPrefix()
	p := newProxy(t, server.Endpoint())
	p.Cut()
	reports := make(chan error, 1000)
	h := newHub(
		t,
		dial(t, p.endpoint()),
		follow.Options{ListTimeout: 100 * time.Millisecond, OnError: func(got string, err error) {
			if got != prefix {
				t.Errorf("a report of %q", got)
			}
			select {
			case reports <- err:
			default:
			}
		}},
	)
	m := newMirror(prefix)
	stop := start(t, h, prefix, m)
	for range 2 {
		select {
		case err := <-reports:
			if err == nil {
				t.Error("a report of no error")
			}
		case <-time.After(time.Minute):
			t.Fatal("no failure was reported")
		}
	}
	p.Mend(server.Endpoint())
	put(t, prefix+"x", "1")
	m.has(t, prefix+"x", "1")
	stop()
	m.judge(t)
}

func TestFollowReturnsWhenItsContextEnds(t *testing.T) {
	gone := newProxy(t, server.Endpoint())
	gone.Cut()
	for name, c := range map[string]*clientv3.Client{
		"while it watches":        client,
		"while etcd is not there": dial(t, gone.endpoint()),
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(newPrefix())
			failed := make(chan struct{}, 1)
			h := newHub(t, c, follow.Options{ListTimeout: 10 * time.Second, OnError: func(string, error) {
				select {
				case failed <- struct{}{}:
				default:
				}
			}})
			stop := start(t, h, m.prefix, m)
			select {
			case <-m.news:
			case <-failed:
			case <-time.After(50 * time.Millisecond): // in the middle of its first list
			}
			stop() // fails the test if it takes long
		})
	}
}

func TestAFollowWhoseContextHasEndedTellsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := newMirror(newPrefix())
	newHub(t, client, follow.Options{}).Follow(ctx, m.prefix, m)
	if m.resets != 0 {
		t.Error("the sink was called")
	}
}

func TestCloseIsIdempotentAndEndsTheStreams(t *testing.T) {
	var hs hangs
	c := dial(t, server.Endpoint(), grpc.WithChainStreamInterceptor(hs.intercept))
	h := newHub(t, c, follow.Options{})
	m := newMirror(newPrefix())
	stop := start(t, h, m.prefix, m)
	put(t, m.prefix+"x", "1")
	m.has(t, m.prefix+"x", "1")
	h.Close()
	h.Close()
	for _, s := range hs.streams {
		select {
		case <-s.Context().Done():
		case <-time.After(time.Minute):
			t.Error("a stream is open")
		}
	}
	stop() // a Follow that still runs does not hang
}

func TestCloseIsPromptWhileEtcdIsNotThere(t *testing.T) {
	p := newProxy(t, server.Endpoint())
	h := newHub(t, dial(t, p.endpoint()), follow.Options{Progress: 20 * time.Millisecond})
	m := newMirror(newPrefix())
	stop := start(t, h, m.prefix, m)
	put(t, m.prefix+"x", "1")
	m.has(t, m.prefix+"x", "1")
	p.Cut()
	stop()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		h.Close()
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("Close hangs")
	}
}

func TestProgressKeepsAQuietPrefixResumable(t *testing.T) {
	prefix := newPrefix()
	var hs hangs
	hub := newHub(t, dial(t, server.Endpoint(), grpc.WithChainStreamInterceptor(hs.intercept)),
		follow.Options{Progress: 100 * time.Millisecond})
	m := newMirror(prefix)
	start(t, hub, prefix, m)
	m.until(t, "a list", func() bool { return m.resets == 1 })
	// The history from which the quiet prefix would have to resume is compacted, after its watch heard of progress.
	var rev int64
	for range 3 {
		rev = put(t, "/test/elsewhere", "x")
	}
	for deadline := time.Now().Add(time.Minute); hs.progress.Load() < rev && time.Now().Before(deadline); {
		<-time.After(10 * time.Millisecond)
	}
	if _, err := client.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	hs.hang() // until the streams are replaced
	put(t, prefix+"x", "1")
	m.has(t, prefix+"x", "1")
	if m.resets != 1 {
		t.Errorf("it was listed %d times", m.resets)
	}
}

func TestTheOrderOfRevisionsHoldsOverManyCuts(t *testing.T) {
	prefix := newPrefix()
	p := newProxy(t, server.Endpoint())
	m := newMirror(prefix)
	start(t, newHub(t, dial(t, p.endpoint()), follow.Options{}), prefix, m)
	for n := range 8 {
		for i := range 20 {
			put(t, fmt.Sprint(prefix, i%5), fmt.Sprint(n, i))
			if i == 10 {
				p.Cut()
				p.Mend(server.Endpoint())
			}
		}
	}
	m.judge(t)
	if revisions := m.revisions(); !slices.IsSorted(revisions) {
		t.Errorf("revisions %v", revisions)
	}
}

func (m *mirror) revisions() (all []int64) {
	for _, events := range m.applies {
		for _, ev := range events {
			all = append(all, ev.Kv.ModRevision)
		}
	}
	return all
}
