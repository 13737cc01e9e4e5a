package lease_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/lease"
)

// streams is an etcd that only renews leases, in a synctest bubble.
type streams struct {
	refuse error                                                  // the error that opening a stream returns
	answer func(nr int, lease int64) (ttl int64, d time.Duration) // by stream nr, from 1; a TTL below 0: none comes
	breaks func(nr int, lease int64) error                        // ends the stream in place of an answer

	mu     sync.Mutex
	opened []*fakeStream
}

type fakeStream struct {
	ctx  context.Context
	nr   int
	of   *streams
	reqs chan int64
}

func (s *streams) renewer(t *testing.T) *lease.Renewer {
	r := lease.NewTestRenewer(func(ctx context.Context) (lease.Stream, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		f := &fakeStream{ctx: ctx, nr: len(s.opened) + 1, of: s, reqs: make(chan int64, 1000)}
		s.opened = append(s.opened, f)
		return f, s.refuse
	})
	t.Cleanup(r.Close)
	return r
}

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.opened)
}

// live is how many streams have not been ended.
func (s *streams) live() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.opened {
		if f.ctx.Err() == nil {
			n++
		}
	}
	return n
}

func (f *fakeStream) Send(req *pb.LeaseKeepAliveRequest) error {
	f.reqs <- req.ID
	return nil
}

func (f *fakeStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	var id int64
	select {
	case id = <-f.reqs:
	case <-f.ctx.Done():
		return nil, status.FromContextError(f.ctx.Err()).Err()
	}
	ttl, lag := int64(10), time.Duration(0)
	if f.of.breaks != nil {
		if err := f.of.breaks(f.nr, id); err != nil {
			return nil, err
		}
	}
	if f.of.answer != nil {
		ttl, lag = f.of.answer(f.nr, id)
	}
	if ttl < 0 {
		<-f.ctx.Done()
		return nil, status.FromContextError(f.ctx.Err()).Err()
	}
	select {
	case <-time.After(lag):
	case <-f.ctx.Done():
		return nil, status.FromContextError(f.ctx.Err()).Err()
	}
	return &pb.LeaseKeepAliveResponse{ID: id, TTL: ttl, Header: &pb.ResponseHeader{Revision: int64(f.nr)}}, nil
}

func TestKeepalivesOfManyLeasesShareAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &streams{}
		r := etcd.renewer(t)
		for range 100 {
			for id := range clientv3.LeaseID(3) {
				resp, err := r.KeepAliveOnce(t.Context(), id+1)
				if err != nil || resp.ID != id+1 || resp.TTL != 10 {
					t.Fatal(resp, err)
				}
			}
			pass(time.Second)
		}
		if etcd.count() != 1 {
			t.Errorf("%d streams were opened", etcd.count())
		}
	})
}

// Keepalives that are asked for at the same time wait for each other only in fours.
func TestKeepalivesAtOnceAreSpreadOverStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &streams{answer: func(int, int64) (int64, time.Duration) { return 10, time.Second }}
		r := etcd.renewer(t)
		const leases = 100
		for round := range 3 {
			began := time.Now()
			var wg sync.WaitGroup
			for id := range clientv3.LeaseID(leases) {
				wg.Go(func() {
					if _, err := r.KeepAliveOnce(t.Context(), id+1); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if took := time.Since(began); took > lease.PerStream*time.Second {
				t.Errorf("round %d: the last of %d keepalives was answered after %v", round, leases, took)
			}
			pass(10 * time.Second)
		}
		if n := etcd.count(); n != leases/lease.PerStream {
			t.Errorf("%d streams for %d leases", n, leases)
		}
		if _, err := r.KeepAliveOnce(t.Context(), 1); err != nil {
			t.Error(err)
		}
		pass(time.Hour)
		if _, err := r.KeepAliveOnce(t.Context(), 1); err != nil {
			t.Error(err)
		}
		if n := etcd.live(); n != 1 {
			t.Errorf("%d streams are kept, of which one is used", n)
		}
	})
}

// The keeper asks again while the first keepalive is not answered: the second one must not wait behind the first.
func TestAKeepaliveThatIsAskedForAgainGoesAroundASilentStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &streams{answer: func(nr int, _ int64) (int64, time.Duration) {
			if nr == 1 {
				return -1, 0
			}
			return 10, 0
		}}
		r := etcd.renewer(t)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		var first sync.WaitGroup
		first.Go(func() {
			if _, err := r.KeepAliveOnce(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the first: %v", err)
			}
		})
		pass(time.Second)
		for id := range clientv3.LeaseID(5) {
			if resp, err := r.KeepAliveOnce(ctx, id+1); err != nil || resp.Revision != 2 {
				t.Errorf("lease %d: %v, %v, want an answer of stream 2", id+1, resp, err)
			}
		}
		first.Wait()
		pass(0)
		if etcd.count() != 2 || etcd.live() != 1 {
			t.Errorf("%d streams opened, %d live: want 2 and 1", etcd.count(), etcd.live())
		}
	})
}

// A slow stream is used again when it has answered, and its answers are taken for the keepalives that they answer.
func TestASlowStreamIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &streams{
			answer: func(nr int, id int64) (int64, time.Duration) { return 10 + id, 1500 * time.Millisecond },
		}
		r := etcd.renewer(t)
		for range 20 {
			var wg sync.WaitGroup
			for id := range clientv3.LeaseID(2) {
				for i := range 2 { // at 0 s and, as a retry, at 1 s
					wg.Go(func() {
						elapse(time.Duration(i) * time.Second)
						resp, err := r.KeepAliveOnce(t.Context(), id)
						if err != nil || resp.ID != id || resp.TTL != 10+int64(id) {
							t.Error(resp, err)
						}
					})
				}
			}
			wg.Wait()
			pass(10 * time.Second)
		}
		if n := etcd.count(); n > 2 {
			t.Errorf("%d streams were opened", n)
		}
	})
}

// The answer to a keepalive that nobody waits for any more is not taken for the next one's answer.
func TestAnswersAreMatchedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &streams{answer: func(_ int, id int64) (int64, time.Duration) { return 10 + id, time.Second }}
		r := etcd.renewer(t)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.KeepAliveOnce(ctx, 1); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		pass(100 * time.Millisecond)
		cancel()
		wg.Wait()
		began := time.Now()
		resp, err := r.KeepAliveOnce(t.Context(), 2)
		if err != nil || resp.TTL != 12 || time.Since(began) != 1900*time.Millisecond {
			t.Errorf("got %v, %v after %v", resp, err, time.Since(began))
		}
		if etcd.count() != 1 {
			t.Errorf("%d streams were opened", etcd.count())
		}
	})
}

func TestAStreamThatBrokeUnnoticedCostsNoKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		etcd := &streams{}
		r := etcd.renewer(t)
		if _, err := r.KeepAliveOnce(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		etcd.breaks = func(nr int, _ int64) error {
			if nr == 1 {
				return broken
			}
			return nil
		}
		if _, err := r.KeepAliveOnce(t.Context(), 1); err != nil {
			t.Errorf("after the old stream broke: %v", err)
		}
		etcd.breaks = func(int, int64) error { return io.EOF }
		if _, err := r.KeepAliveOnce(t.Context(), 1); !errors.Is(err, io.EOF) {
			t.Errorf("a new stream that breaks: %v", err)
		}
		if etcd.count() != 3 {
			t.Errorf("%d streams were opened, want 3", etcd.count())
		}
	})
}

func TestALeaseThatIsGoneIsToldAndTheStreamGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &streams{answer: func(_ int, id int64) (int64, time.Duration) { return id, 0 }}
		r := etcd.renewer(t)
		for range 3 {
			if _, err := r.KeepAliveOnce(t.Context(), 0); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
				t.Error(err)
			}
			if resp, err := r.KeepAliveOnce(t.Context(), 7); err != nil || resp.TTL != 7 {
				t.Error(resp, err)
			}
		}
		if etcd.count() != 1 {
			t.Errorf("%d streams were opened", etcd.count())
		}
		r.Close()
		if _, err := r.KeepAliveOnce(t.Context(), 7); !errors.Is(err, lease.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// If etcd refuses at once (as a proxy without backends does), only the keeper's own pace limits the attempts.
func TestKeeperKeepsItsPaceWhereEtcdRefusesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &streams{refuse: status.Error(codes.Unavailable, "no backend")}
		fake := &lessor{clock: newBubbleTime()}
		k, err := lease.Grant(t.Context(), renewedBy{fake, etcd.renewer(t)},
			lease.Options{TTL: 10 * time.Second, Clock: fake.clock})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(k.Close)
		pass(7900 * time.Millisecond) // the lease is fenced at 8 s
		if n, most := etcd.count(), 10; n < 2 || n > most {
			t.Errorf("%d streams were asked for in 8 s, want at most %d, one each TTL/15 after the first 2 s", n, most)
		}
		pass(time.Second)
		if !k.Fenced() {
			t.Error("not fenced")
		}
	})
}

// renewedBy is a lessor whose keepalives go through a Renewer.
type renewedBy struct {
	*lessor
	renewer *lease.Renewer
}

func (r renewedBy) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	return r.renewer.KeepAliveOnce(ctx, id)
}

func TestRenewerTellsWhatEtcdSays(t *testing.T) {
	t.Parallel()
	client := embeddedtest.Client(t)
	r := lease.NewRenewer(client)
	t.Cleanup(r.Close)
	granted, err := r.Grant(within(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.KeepAliveOnce(within(t), granted.ID)
	if err != nil || resp.ID != granted.ID || resp.TTL != 60 || resp.Revision == 0 {
		t.Fatalf("got %v, %v", resp, err)
	}
	if _, err := r.Revoke(within(t), granted.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.KeepAliveOnce(within(t), granted.ID); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("a lease that was revoked: %v", err)
	}
}

// asksAt makes a renewal of each lease at a moment, and counts how they end.
func asksAt(t *testing.T, r *lease.Renewer, wg *sync.WaitGroup, leases int, patience time.Duration) *outcomes {
	o := &outcomes{}
	for id := range clientv3.LeaseID(leases) {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := r.KeepAliveOnce(ctx, id+1)
			o.count(err)
		})
	}
	return o
}

// outcomes counts how keepalives have ended.
type outcomes struct {
	mu                         sync.Mutex
	renewed, underWay, without int
}

func (o *outcomes) count(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil:
		o.renewed++
	case errors.Is(err, lease.ErrUnderWay):
		o.underWay++
	default:
		o.without++
	}
}

func TestAStreamThatAnswersQuicklyCarriesThousands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &streams{answer: func(int, int64) (int64, time.Duration) { return 10, 20 * time.Microsecond }}
		r := etcd.renewer(t)
		if _, err := r.KeepAliveOnce(t.Context(), 1); err != nil { // which shows how quick it is
			t.Fatal(err)
		}
		const leases = 2 * lease.InFlight
		for range 10 {
			var wg sync.WaitGroup
			o := asksAt(t, r, &wg, leases, time.Second)
			wg.Wait()
			if o.renewed != leases {
				t.Errorf("of %d leases %d were renewed", leases, o.renewed)
			}
			pass(time.Second)
		}
		if n := etcd.count(); n != 1 {
			t.Errorf("%d leases have %d streams, want 1", leases, n)
		}
	})
}

// etcd is so busy that the last of many keepalives is answered after the keeper has asked again. What is on its way is
// not sent twice, since that would make etcd busier still.
func TestAnEtcdThatIsBehindIsNotAskedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int64
		etcd := &streams{answer: func(int, int64) (int64, time.Duration) {
			if sent.Add(1) == 1 {
				return 10, 20 * time.Microsecond
			}
			return 10, 2 * time.Millisecond
		}}
		r := etcd.renewer(t)
		if _, err := r.KeepAliveOnce(t.Context(), 601); err != nil {
			t.Fatal(err)
		}
		const leases = 600 // at 2 ms each, the last one is answered after 1.2 s
		var wg sync.WaitGroup
		var rounds []*outcomes
		for range 3 {
			rounds = append(rounds, asksAt(t, r, &wg, leases, 2500*time.Millisecond))
			pass(333 * time.Millisecond)
		}
		wg.Wait()
		if n := rounds[0].renewed; n != leases {
			t.Errorf("of %d leases %d were renewed", leases, n)
		}
		again := rounds[1].renewed + rounds[2].renewed
		if n := int(sent.Load()) - 1; n != leases+again {
			t.Errorf("%d keepalives were sent for %d that were answered", n, leases+again)
		}
		if rounds[1].underWay == 0 || rounds[1].without > 0 || rounds[2].without > 0 {
			t.Errorf("the second round: %+v, the third: %+v", rounds[1], rounds[2])
		}
	})
}

// A stream hangs with the keepalives of hundreds of leases on it. All of them find another way at their next attempt.
func TestAHangingStreamFencesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := false
		etcd := &streams{answer: func(nr int, _ int64) (int64, time.Duration) {
			if hangs && nr == 1 {
				return -1, 0
			}
			return 10, 20 * time.Microsecond
		}}
		r := etcd.renewer(t)
		if _, err := r.KeepAliveOnce(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		hangs = true
		var wg sync.WaitGroup
		first := asksAt(t, r, &wg, 600, 2500*time.Millisecond)
		pass(333 * time.Millisecond)
		second := asksAt(t, r, &wg, 600, 2500*time.Millisecond)
		pass(100 * time.Millisecond)
		if second.renewed != 600 {
			t.Errorf("of 600 leases %d were renewed over another stream", second.renewed)
		}
		wg.Wait()
		if first.renewed != 0 || etcd.count() != 2 || etcd.live() != 1 {
			t.Errorf("%d answers of the stream that hangs; %d streams, %d of them live",
				first.renewed, etcd.count(), etcd.live())
		}
	})
}

// numbered is a lessor that grants one lease.
type numbered struct {
	renewedBy
	id clientv3.LeaseID
}

func (n numbered) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	resp, err := n.renewedBy.Grant(ctx, ttl)
	if err == nil {
		resp.ID = n.id
	}
	return resp, err
}

// keepers keep leases alive through one Renewer.
func keepers(t *testing.T, r *lease.Renewer, n int) (all []*lease.Keeper) {
	t.Helper()
	for id := range clientv3.LeaseID(n) {
		fake := &lessor{clock: newBubbleTime()}
		k, err := lease.Grant(t.Context(), numbered{renewedBy{fake, r}, id + 1}, lease.Options{
			TTL: 10 * time.Second, Clock: fake.clock, AttemptTimeout: 5 * time.Second, // as a member's leases have it
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(k.Close)
		all = append(all, k)
	}
	return all
}

// A stream answers some keepalives of a burst and then hangs, as with a member of etcd that loses its leader meanwhile.
// Its early answers do not make anybody wait for the others, also if those who got them do not ask again.
func TestAStreamThatHangsAfterSomeAnswersFencesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answers atomic.Int64
		etcd := &streams{answer: func(nr int, _ int64) (int64, time.Duration) {
			if nr == 1 && answers.Add(1) > 150 {
				return -1, 0
			}
			return 10, 20 * time.Microsecond
		}}
		r := etcd.renewer(t)
		if _, err := r.KeepAliveOnce(t.Context(), 1); err != nil { // which shows how quick it is
			t.Fatal(err)
		}
		all := keepers(t, r, 100)
		pass(4*time.Second + 100*time.Millisecond) // the second burst is cut off
		var cut []*lease.Keeper
		for _, k := range all {
			if k.Remaining() > 8*time.Second {
				k.Close()
			} else {
				cut = append(cut, k)
			}
		}
		if len(cut) != 51 {
			t.Fatalf("%d of 100 leases were not renewed at 4 s, want 51", len(cut))
		}
		pass(30 * time.Second)
		for _, k := range cut {
			if k.Fenced() {
				t.Fatalf("lease %d is fenced: %v", k.ID(), context.Cause(k.Context()))
			}
		}
		if etcd.count() != 2 || etcd.live() != 1 {
			t.Errorf("%d streams opened, %d live: want 2 and 1", etcd.count(), etcd.live())
		}
	})
}

// The answer to a keepalive that nobody waits for any more renews nothing, so it keeps nobody from asking again.
func TestAKeepaliveThatWasGivenUpIsNotUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &streams{answer: func(nr int, id int64) (int64, time.Duration) {
			if nr == 1 && id == 2 {
				return 10, 3 * time.Second
			}
			return 10, 20 * time.Microsecond
		}}
		r := etcd.renewer(t)
		var wg sync.WaitGroup
		first := asksAt(t, r, &wg, 1, time.Minute) // lease 1 is answered first
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wg.Go(func() {
			synctest.Wait()
			if _, err := r.KeepAliveOnce(ctx, 2); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("lease 2: %v", err)
			}
		})
		wg.Wait()
		if _, err := r.KeepAliveOnce(t.Context(), 2); err != nil || first.renewed != 1 {
			t.Errorf("after the first keepalive was given up: %v; %+v", err, first)
		}
	})
}

func TestAThousandLeasesOfASlowEtcdShareSixtyFourStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &streams{answer: func(int, int64) (int64, time.Duration) { return 10, 100 * time.Millisecond }}
		r := etcd.renewer(t)
		for range 3 {
			var wg sync.WaitGroup
			o := asksAt(t, r, &wg, 1000, 2500*time.Millisecond)
			wg.Wait()
			if o.renewed != 1000 {
				t.Errorf("of 1000 leases %d were renewed", o.renewed)
			}
			pass(time.Second)
		}
		if n := etcd.count(); n != lease.MostStreams {
			t.Errorf("%d streams, want %d", n, lease.MostStreams)
		}
	})
}
