package lease_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/lease"
)

// These tests run in synctest bubbles: time passes when everybody waits, so a second costs nothing. The etcd in them
// consists of a few functions; keeper_etcd_test.go has a real one.

// bubbleTime is a Clock that follows a bubble's time, and leaps when it is told to.
type bubbleTime struct {
	start time.Time
	leapt atomic.Int64
}

func newBubbleTime() *bubbleTime { return &bubbleTime{start: time.Now()} }

func (c *bubbleTime) Now() time.Duration { return time.Since(c.start) + time.Duration(c.leapt.Load()) }

// lessor is an etcd that answers at once, or as the functions say.
type lessor struct {
	clock     *bubbleTime
	granted   int64                                           // the TTL that it grants; 0: the one asked for
	grantLag  time.Duration                                   // how long a grant takes to be answered
	keepAlive func(ctx context.Context, n int) (int64, error) // n counts from 1
	revoke    func(ctx context.Context, n int) error          // n counts from 1

	mu      sync.Mutex
	sent    []time.Duration // when the keepalives were sent
	revoked int
	ttl     int64
}

func (l *lessor) Grant(_ context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	if l.granted != 0 {
		ttl = l.granted
	}
	elapse(l.grantLag)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ttl = ttl
	return &clientv3.LeaseGrantResponse{ID: 0xabc, TTL: ttl}, nil
}

func (l *lessor) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	l.mu.Lock()
	l.sent = append(l.sent, l.clock.Now())
	n, ttl := len(l.sent), l.ttl
	l.mu.Unlock()
	if l.keepAlive != nil {
		var err error
		if ttl, err = l.keepAlive(ctx, n); err != nil {
			return nil, err
		}
	}
	return &clientv3.LeaseKeepAliveResponse{ID: id, TTL: ttl}, nil
}

func (l *lessor) Revoke(ctx context.Context, _ clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	l.mu.Lock()
	l.revoked++
	n := l.revoked
	l.mu.Unlock()
	if l.revoke != nil {
		if err := l.revoke(ctx, n); err != nil {
			return nil, err
		}
	}
	return &clientv3.LeaseRevokeResponse{}, nil
}

func (l *lessor) keepAlives() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sent)
}

// hang waits for the context, and never answers.
func hang(ctx context.Context, _ int) (int64, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// record holds what the callbacks of a keeper were told, and when.
type record struct {
	clock          *bubbleTime
	mu             sync.Mutex
	lines          []string
	fenced, dead   time.Duration
	why, whyFenced error
}

func (l *record) add(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf("%s at %v", what, l.clock.Now().Round(10*time.Millisecond)))
}

func (l *record) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, ", ")
}

// listen makes a keeper with these options tell the record.
func (l *record) listen(t *testing.T, o *lease.Options) {
	o.OnFence = func(k *lease.Keeper, err error) {
		if !k.Fenced() {
			t.Error("OnFence on a keeper that is not fenced")
		}
		l.fenced, l.whyFenced = l.clock.Now(), err
		l.add("fence")
	}
	o.OnDead = func(k *lease.Keeper, err error) {
		if k.Context().Err() == nil || k.Remaining() > 0 {
			t.Error("OnDead on a keeper that is valid")
		}
		l.dead, l.why = l.clock.Now(), err
		l.add("dead")
	}
}

// bubble makes a keeper with a TTL of 10 s: interval 2 s, fence at 8 s after sending, deadline at 9 s.
func bubble(t *testing.T, etcd *lessor, change func(*lease.Options)) (*lease.Keeper, *record) {
	t.Helper()
	etcd.clock = newBubbleTime()
	l := &record{clock: etcd.clock}
	opts := lease.Options{
		TTL:   10 * time.Second,
		Clock: etcd.clock,
	}
	l.listen(t, &opts)
	if change != nil {
		change(&opts)
	}
	k, err := lease.Grant(t.Context(), etcd, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k, l
}

// elapse lets a bubble's time pass.
func elapse(d time.Duration) {
	time.Sleep(d)
}

// pass lets a bubble's time pass, and then lets everything that is due be done.
func pass(d time.Duration) {
	elapse(d)
	synctest.Wait()
}

func TestKeeperRenewsEveryInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{}
		k, l := bubble(t, etcd, nil)
		pass(20*time.Second + 100*time.Millisecond)
		sent := etcd.keepAlives()
		if len(sent) != 10 {
			t.Errorf("keepalives sent at %v, want 10, one each 2 s", sent)
		}
		if left := k.Remaining(); left < 8*time.Second || left > 9*time.Second {
			t.Errorf("%v remain", left)
		}
		if k.Fenced() || k.Context().Err() != nil || l.String() != "" {
			t.Errorf("fenced %v, %v, %s", k.Fenced(), k.Context().Err(), l)
		}
	})
}

func TestKeeperCountsFromBeforeItSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{grantLag: 3 * time.Second, keepAlive: func(ctx context.Context, n int) (int64, error) {
			if n == 1 {
				elapse(time.Second)
				return 10, nil
			}
			return hang(ctx, n)
		}}
		k, _ := bubble(t, etcd, nil)
		if got, want := k.Deadline(), 9*time.Second; got != want {
			t.Errorf("deadline after a slow grant: %v, want %v", got, want)
		}
		pass(2 * time.Second)
		// The interval had passed when the grant was answered, so the first keepalive went out at once, at 3 s.
		if got, want := k.Deadline(), 12*time.Second; got != want {
			t.Errorf("deadline after a slow keepalive: %v, want %v", got, want)
		}
	})
}

func TestKeeperFencesThenDiesWhenEtcdSwallowsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{keepAlive: hang}
		k, l := bubble(t, etcd, nil)
		pass(8*time.Second + time.Millisecond)
		if !k.Fenced() || k.Context().Err() != nil || k.Remaining() <= 0 {
			t.Errorf("at the fence: fenced %v, context %v, %v remain", k.Fenced(), k.Context().Err(), k.Remaining())
		}
		attempts := len(etcd.keepAlives())
		pass(10 * time.Second)
		if got, want := l.String(), "fence at 8s, dead at 9s"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		wantErr(t, "OnFence", l.whyFenced, lease.ErrFenced, context.DeadlineExceeded)
		wantErr(t, "OnDead", l.why, lease.ErrExpired, lease.ErrFenced)
		wantErr(t, "context", context.Cause(k.Context()), lease.ErrExpired)
		if k.Remaining() > 0 {
			t.Errorf("%v remain of a dead lease", k.Remaining())
		}
		// One attempt each TTL/15 from 2 s to 8 s, and none after that.
		if attempts < 8 || len(etcd.keepAlives()) != attempts {
			t.Errorf("%d attempts before the fence, %d after", attempts, len(etcd.keepAlives())-attempts)
		}
	})
}

func TestKeeperGoesAroundAnEndpointThatSwallowsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Two of three attempts hang, in the worst order.
		etcd := &lessor{keepAlive: func(ctx context.Context, n int) (int64, error) {
			if n%3 != 0 {
				return hang(ctx, n)
			}
			return 10, nil
		}}
		k, l := bubble(t, etcd, nil)
		least := 10 * time.Second
		for range 600 {
			pass(100 * time.Millisecond)
			least = min(least, k.Remaining())
		}
		if k.Fenced() || least < 5*time.Second {
			t.Errorf("fenced %v (%s), down to %v", k.Fenced(), l, least)
		}
	})
}

func TestKeeperTakesALateAnswerAsOfItsSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{keepAlive: func(ctx context.Context, n int) (int64, error) {
			if n == 1 { // sent at 2 s, answered at 7 s
				elapse(5 * time.Second)
				return 10, nil
			}
			return hang(ctx, n)
		}}
		_, l := bubble(t, etcd, func(o *lease.Options) { o.AttemptTimeout = 6 * time.Second })
		pass(30 * time.Second)
		if got, want := l.String(), "fence at 10s, dead at 11s"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestKeeperIsFencedForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{keepAlive: func(context.Context, int) (int64, error) {
			elapse(6500 * time.Millisecond)
			return 10, nil
		}}
		k, l := bubble(t, etcd, func(o *lease.Options) { o.AttemptTimeout = 10 * time.Second })
		pass(30 * time.Second)
		if got, want := l.String(), "fence at 8s, dead at 9s"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := k.Deadline(); got != 9*time.Second {
			t.Errorf("deadline moved to %v", got)
		}
	})
}

func TestKeeperDiesAtOnceWhenItsLeaseIsGone(t *testing.T) {
	for name, do := range map[string]func(*lease.Keeper){
		"told by a keepalive":  nil,
		"told by a write":      func(k *lease.Keeper) { k.Fence(fmt.Errorf("claim: %w", lease.ErrLeaseGone)) },
		"told by etcd's error": func(k *lease.Keeper) { k.Fence(rpctypes.ErrLeaseNotFound) },
		"told after a fence":   func(k *lease.Keeper) { k.Fence(errors.New("other")); k.Fence(lease.ErrGone) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				etcd := &lessor{}
				if do == nil {
					etcd.keepAlive = func(context.Context, int) (int64, error) { return 0, rpctypes.ErrLeaseNotFound }
				}
				k, l := bubble(t, etcd, nil)
				pass(2 * time.Second)
				if do != nil {
					do(k)
					if k.Remaining() > 0 {
						t.Errorf("%v remain", k.Remaining())
					}
					synctest.Wait()
				}
				if got, want := l.String(), "fence at 2s, dead at 2s"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				wantErr(t, "OnDead", l.why, lease.ErrGone)
				wantErr(t, "context", context.Cause(k.Context()), lease.ErrGone)
			})
		})
	}
}

func TestFenceLeavesTheLeaseItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{}
		k, l := bubble(t, etcd, nil)
		pass(3 * time.Second) // renewed at 2 s
		cause := errors.New("store was rewound")
		k.Fence(cause)
		if !k.Fenced() {
			t.Error("not fenced when Fence returned")
		}
		pass(time.Second)
		k.Fence(errors.New("again"))
		if k.Remaining() != 7*time.Second || k.Context().Err() != nil {
			t.Errorf("%v remain, context %v", k.Remaining(), k.Context().Err())
		}
		pass(time.Minute)
		if got, want := l.String(), "fence at 3s, dead at 11s"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		wantErr(t, "OnFence", l.whyFenced, cause)
		wantErr(t, "OnDead", l.why, lease.ErrExpired, cause)
		if n := len(etcd.keepAlives()); n != 1 {
			t.Errorf("%d keepalives, want the one before the fence", n)
		}
	})
}

func TestKeeperRenewsOnlyWhileItsOwnerAnswers(t *testing.T) {
	no := errors.New("not now")
	for name, probe := range map[string]func(context.Context) error{
		"refuses": func(context.Context) error { return no },
		"hangs":   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"is late": func(ctx context.Context) error { <-ctx.Done(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				etcd := &lessor{}
				var wedged atomic.Bool
				_, l := bubble(t, etcd, func(o *lease.Options) {
					o.Probe = func(ctx context.Context) error {
						if wedged.Load() {
							return probe(ctx)
						}
						return nil
					}
				})
				pass(3 * time.Second)
				wedged.Store(true)
				pass(time.Minute)
				if got, want := l.String(), "fence at 10s, dead at 11s"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				if n := len(etcd.keepAlives()); n != 1 {
					t.Errorf("%d keepalives, want 1", n)
				}
				if name == "refuses" {
					wantErr(t, "OnDead", l.why, no)
				}
			})
		})
	}
}

// An owner on a busy machine answers late each time, and yet works.
func TestKeeperBearsWithAnOwnerThatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{}
		var asked, most atomic.Int64
		k, l := bubble(t, etcd, func(o *lease.Options) {
			o.Probe = func(ctx context.Context) error {
				defer asked.Add(-1)
				most.Store(max(most.Load(), asked.Add(1)))
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(5 * time.Second): // AttemptTimeout is 2 s
					return nil
				}
			}
		})
		pass(3 * time.Minute)
		if k.Fenced() || l.String() != "" {
			t.Errorf("fenced: %s", l)
		}
		if most.Load() != 1 {
			t.Errorf("the owner was asked %d times at once", most.Load())
		}
		sent := etcd.keepAlives()
		if len(sent) > 40 {
			t.Errorf("%d keepalives in 3 min, of an owner that answers each 5 s", len(sent))
		}
	})
}

func TestKeeperIsDeadAtOnceWhenTheClockLeaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{}
		k, l := bubble(t, etcd, nil)
		pass(time.Second)
		etcd.clock.leapt.Store(int64(time.Hour))
		if k.Remaining() > 0 {
			t.Errorf("%v remain after an hour's sleep", k.Remaining())
		}
		synctest.Wait() // no time passes here: it is enough that the keeper has been asked
		wantErr(t, "context", context.Cause(k.Context()), lease.ErrExpired)
		if got, want := l.String(), "fence at 1h0m1s, dead at 1h0m1s"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if n := len(etcd.keepAlives()); n != 0 {
			t.Errorf("%d keepalives were sent for a lease that had expired", n)
		}
	})
}

func TestKeeperNoticesALeapOfTheClockByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{}
		k, _ := bubble(t, etcd, nil)
		pass(time.Second)
		etcd.clock.leapt.Store(int64(time.Hour))
		pass(500 * time.Millisecond) // a twentieth of the TTL
		wantErr(t, "context", context.Cause(k.Context()), lease.ErrExpired)
	})
}

func TestAnswerThatWaitedOutASleepDoesNotRevive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{}
		etcd.keepAlive = func(context.Context, int) (int64, error) {
			etcd.clock.leapt.Store(int64(20 * time.Second)) // between sending and answer
			return 3600, nil
		}
		k, l := bubble(t, etcd, nil)
		pass(2 * time.Second)
		if k.Remaining() > 0 || l.String() != "fence at 22s, dead at 22s" {
			t.Errorf("%v remain; %s", k.Remaining(), l)
		}
	})
}

func TestCloseEndsTheContextAndTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{keepAlive: hang}
		k, l := bubble(t, etcd, nil)
		pass(2100 * time.Millisecond) // a keepalive is in progress
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(k.Close)
		}
		wg.Wait()
		wantErr(t, "context", context.Cause(k.Context()), lease.ErrClosed)
		if k.Remaining() > 0 || l.String() != "" {
			t.Errorf("%v remain; %s", k.Remaining(), l)
		}
		k.Fence(errors.New("too late"))
		pass(time.Minute)
		if n := len(etcd.keepAlives()); l.String() != "" || n != 1 {
			t.Errorf("after Close: %s, %d keepalives", l, n)
		}
	})
}

func TestRevokeTriesAgainWithinTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{revoke: func(ctx context.Context, n int) error {
			if n == 1 {
				_, err := hang(ctx, n)
				return err
			}
			if n == 2 {
				return rpctypes.ErrTimeout
			}
			return rpctypes.ErrLeaseNotFound
		}}
		k, _ := bubble(t, etcd, nil)
		for range 2 {
			if err := k.Revoke(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if etcd.revoked != 3 {
			t.Errorf("%d attempts, want 3 and none by the second call", etcd.revoked)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{revoke: func(ctx context.Context, n int) error { _, err := hang(ctx, n); return err }}
		k, _ := bubble(t, etcd, nil)
		began := etcd.clock.Now()
		wantErr(t, "revoke", k.Revoke(t.Context()), context.DeadlineExceeded)
		if took := etcd.clock.Now() - began; took < 8*time.Second || took > 10*time.Second {
			t.Errorf("gave up after %v", took)
		}
	})
}

func TestGrantUsesWhatEtcdGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, _ := bubble(t, &lessor{granted: 60}, nil)
		if k.TTL() != time.Minute || k.Deadline() != 54*time.Second || k.ID() != 0xabc {
			t.Errorf("TTL %v, deadline %v, id %x", k.TTL(), k.Deadline(), int64(k.ID()))
		}
	})
}

func TestGrantWithNothingLeftIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := &lessor{clock: newBubbleTime(), grantLag: 8 * time.Second}
		_, err := lease.Grant(t.Context(), etcd, lease.Options{TTL: 10 * time.Second, Clock: etcd.clock})
		wantErr(t, "grant", err, lease.ErrExpired)
	})
}

func TestGrantRefusesBadOptions(t *testing.T) {
	for _, test := range []struct {
		opts lease.Options
		want string
	}{
		{lease.Options{}, "lease TTL: got 0s"},
		{lease.Options{TTL: 1500 * time.Millisecond}, "lease TTL: got 1.5s"},
		{lease.Options{TTL: -time.Second}, "lease TTL: got -1s"},
		{lease.Options{TTL: time.Second, Margin: -1}, "lease margin: got -1ns"},
		{lease.Options{TTL: time.Second, FenceLead: -1}, "lease fence lead: got -1ns"},
		{lease.Options{TTL: time.Second, Interval: -1}, "lease interval: got -1ns"},
		{lease.Options{TTL: time.Second, Early: -1}, "lease early: got -1ns"},
		{
			lease.Options{TTL: time.Second, Early: 200 * time.Millisecond},
			"lease early: got 200ms, want less than the interval, 200ms",
		},
		{lease.Options{TTL: time.Second, RetryInterval: -1}, "lease retry interval: got -1ns"},
		{lease.Options{TTL: time.Second, AttemptTimeout: -1}, "lease attempt timeout: got -1ns"},
		{
			lease.Options{TTL: time.Second, Margin: 500 * time.Millisecond, FenceLead: 500 * time.Millisecond},
			"less than the TTL",
		},
	} {
		_, err := lease.Grant(t.Context(), &lessor{}, test.opts)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: got %v, want %q", test.opts, err, test.want)
		}
	}
}

// etcd renews a lease when a request arrives, and lets it expire a TTL later. Whatever time requests and answers take,
// and whichever of them are lost, the keeper must have fenced and be dead by then; and it must never come back to life.
func TestKeeperIsDeadBeforeTheServerExpires(t *testing.T) {
	type trip struct{ there, back time.Duration }
	legs := rapid.Custom(func(t *rapid.T) time.Duration {
		ms := rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(0, 4000), rapid.Just(1_000_000)).Draw(t, "ms")
		return time.Duration(ms) * time.Millisecond
	})
	trips := rapid.Custom(func(t *rapid.T) trip { return trip{legs.Draw(t, "there"), legs.Draw(t, "back")} })
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(trips, 0, 30).Draw(rt, "trips")
		failure := ""
		synctest.Test(t, func(t *testing.T) {
			expires := 10 * time.Second // when etcd lets the lease expire
			etcd := &lessor{}
			wait := func(ctx context.Context, d time.Duration) error {
				select {
				case <-time.After(d):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			etcd.keepAlive = func(ctx context.Context, n int) (int64, error) {
				if n > len(plan) {
					return hang(ctx, n)
				}
				if err := wait(ctx, plan[n-1].there); err != nil {
					return 0, err
				}
				etcd.mu.Lock()
				now := etcd.clock.Now()
				gone := now >= expires
				if !gone {
					expires = now + 10*time.Second
				}
				etcd.mu.Unlock()
				if err := wait(ctx, plan[n-1].back); err != nil {
					return 0, err
				}
				if gone {
					return 0, rpctypes.ErrLeaseNotFound
				}
				return 10, nil
			}
			k, l := bubble(t, etcd, func(o *lease.Options) { o.AttemptTimeout = 5 * time.Second })
			wasDead := false
			for step := 0; step < 2000 && !(wasDead && step > 200); step++ {
				elapse(50 * time.Millisecond)
				synctest.Wait()
				etcd.mu.Lock()
				expired := etcd.clock.Now() >= expires
				etcd.mu.Unlock()
				alive := k.Remaining() > 0
				switch {
				case expired && (alive || k.Context().Err() == nil || !k.Fenced()):
					failure = fmt.Sprintf("expired at %v, and %v remain, context %v, fenced %v", expires, k.Remaining(),
						k.Context().Err(), k.Fenced())
				case wasDead && alive:
					failure = fmt.Sprintf("came back to life: %s", l)
				}
				wasDead = wasDead || !alive
			}
			if !wasDead {
				failure = "outlived the last answer"
			}
		})
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

func ExampleGrant() {
	etcd := &lessor{clock: newBubbleTime()} // a *clientv3.Client
	keeper, err := lease.Grant(context.Background(), etcd, lease.Options{
		TTL:     5 * time.Second,
		OnFence: func(*lease.Keeper, error) { fmt.Println("end everything now") },
		OnDead:  func(*lease.Keeper, error) { fmt.Println("everything must have ended") },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("lease %x is good for %v\n", int64(keeper.ID()), keeper.Remaining().Round(100*time.Millisecond))
	if err := keeper.Revoke(context.Background()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(context.Cause(keeper.Context()))
	// Output:
	// lease abc is good for 4.5s
	// closed
}

// told is a Leaps that a test tells of leaps.
type told struct {
	mu sync.Mutex
	f  func()
}

func (l *told) Tell(f func()) (forget func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.f = f
	return func() {}
}

func (l *told) leap() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.f()
}

// Where somebody else looks for leaps, a Keeper that is told of one ends the lease at once, before its timer fires.
func TestKeeperThatIsToldOfALeapEndsItsLeaseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, leaps := &lessor{clock: newBubbleTime()}, new(told)
		k, err := lease.Grant(t.Context(), fake, lease.Options{
			TTL: 10 * time.Second, Clock: fake.clock, Leaps: leaps,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(k.Close)
		pass(25 * time.Second) // it is renewed meanwhile
		if k.Fenced() || k.Context().Err() != nil {
			t.Fatal("it is not renewed")
		}
		fake.clock.leapt.Add(int64(time.Hour)) // the machine slept
		leaps.leap()
		pass(0)
		if k.Context().Err() == nil {
			t.Error("its context goes on")
		}
	})
}
