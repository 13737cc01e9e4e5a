package lease_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/lease"
)

// circle is an etcd in a bubble that renews leases in rounds. It counts what the Keepers send by themselves.
type circle struct {
	*streams
	clock  *bubbleTime
	renew  *lease.Renewer
	rounds *lease.Rounds
	given  int64        // how many leases were granted
	alone  atomic.Int64 // how many keepalives were sent by Keepers
}

func newCircle(t *testing.T, etcd *streams, change func(*lease.RoundsOptions)) *circle {
	t.Helper()
	c := &circle{streams: etcd, clock: newBubbleTime(), renew: etcd.renewer(t)}
	o := lease.RoundsOptions{Clock: c.clock}
	if change != nil {
		change(&o)
	}
	c.rounds = lease.NewRounds(c.renew, o)
	t.Cleanup(c.rounds.Close)
	return c
}

func (c *circle) Grant(_ context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	c.given++
	return &clientv3.LeaseGrantResponse{ID: clientv3.LeaseID(c.given), TTL: ttl}, nil
}

func (c *circle) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	c.alone.Add(1)
	return c.renew.KeepAliveOnce(ctx, id)
}

func (c *circle) Revoke(context.Context, clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	return &clientv3.LeaseRevokeResponse{}, nil
}

// Tell implements lease.Leaps. It never tells anything, so that no Keeper looks at the clock by itself.
func (c *circle) Tell(func()) (forget func()) { return func() {} }

// grant makes a Keeper with a TTL of 10 s: due every 2 s, fenced 8 s after the last keepalive that was answered.
func (c *circle) grant(t *testing.T, change func(*lease.Options)) (*lease.Keeper, *record) {
	t.Helper()
	l := &record{clock: c.clock}
	o := lease.Options{TTL: 10 * time.Second, Rounds: c.rounds, Leaps: c}
	l.listen(t, &o)
	if change != nil {
		change(&o)
	}
	k, err := lease.Grant(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k, l
}

// wantAlive checks that a lease was renewed at the last tick, 2 s ago at most.
func wantAlive(t *testing.T, what string, k *lease.Keeper, l *record) {
	t.Helper()
	wantLeft(t, what, 7*time.Second, k, l)
}

func wantLeft(t *testing.T, what string, least time.Duration, k *lease.Keeper, l *record) {
	t.Helper()
	if left := k.Remaining(); left < least || k.Fenced() || l.String() != "" {
		t.Errorf("%s: %v remain, fenced: %t; %s", what, left, k.Fenced(), l)
	}
}

func TestRoundsRenewManyLeasesWithoutTheirKeepers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := make([]atomic.Int64, 301)
		etcd := &streams{answer: func(_ int, id int64) (int64, time.Duration) { sent[id].Add(1); return 10, 0 }}
		c := newCircle(t, etcd, nil)
		before := runtime.NumGoroutine()
		var all []*lease.Keeper
		var records []*record
		for i := range 300 {
			k, l := c.grant(t, func(o *lease.Options) {
				if i%3 == 0 {
					o.Early = 100 * time.Millisecond
				}
			})
			all, records = append(all, k), append(records, l)
		}
		for range 30 {
			pass(2 * time.Second)
			for i, k := range all {
				wantAlive(t, fmt.Sprint("lease ", i), k, records[i])
			}
		}
		pass(50 * time.Millisecond)
		if n := runtime.NumGoroutine() - before; n > 300+2*lease.MostStreams+10 {
			t.Errorf("%d goroutines for 300 leases", n)
		}
		if n := c.alone.Load(); n != 0 {
			t.Errorf("the Keepers have sent %d keepalives", n)
		}
		for _, k := range all[:299] {
			k.Close()
		}
		pass(10 * time.Second)
		wantAlive(t, "the last one", all[299], records[299])
		for id := 1; id <= 300; id++ {
			want := int64(30)
			if id == 300 {
				want = 35
			}
			if n := sent[id].Load(); n != want {
				t.Fatalf("lease %d was renewed %d times in 60 s, want %d: each 2 s, and never after Close", id, n, want)
			}
		}
	})
}

// Whatever keeps a round from renewing a lease, its Keeper does it then; and later the rounds do it again.
func TestAKeeperRenewsWhatARoundCouldNot(t *testing.T) {
	for name, test := range map[string]struct {
		etcd   func(troubled func() bool) *streams
		rounds func(o *lease.RoundsOptions, troubled func() bool)
		pulse  bool // the owner is busy, and answers a probe
		slow   bool // it takes two intervals until that is noticed
	}{
		"its stream hangs": {etcd: func(troubled func() bool) *streams {
			return &streams{answer: func(nr int, id int64) (int64, time.Duration) {
				if id == 1 && nr == 1 && troubled() {
					return -1, 0
				}
				return 10, 0
			}}
		}},
		"its stream breaks": {etcd: func(troubled func() bool) *streams {
			return &streams{breaks: func(nr int, id int64) error {
				if id == 1 && nr == 1 && troubled() {
					return io.EOF
				}
				return nil
			}}
		}},
		"its owner is busy": {pulse: true},
		"no keepalive may be sent": {
			rounds: func(o *lease.RoundsOptions, troubled func() bool) {
				o.Ready = func() error {
					if troubled() {
						return errors.New("not now")
					}
					return nil
				}
			},
		},
		"the goroutine that sends hangs": {
			slow: true,
			rounds: func(o *lease.RoundsOptions, troubled func() bool) {
				o.Ready = func() error {
					for troubled() {
						elapse(100 * time.Millisecond)
					}
					return nil
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock := newBubbleTime()
				troubled := func() bool { return clock.Now() > 21*time.Second && clock.Now() < 41*time.Second }
				etcd := &streams{}
				if test.etcd != nil {
					etcd = test.etcd(troubled)
				}
				c := newCircle(t, etcd, func(o *lease.RoundsOptions) {
					if test.rounds != nil {
						test.rounds(o, troubled)
					}
				})
				pulse, probes := c.rounds.NewPulse(), 0
				k, l := c.grant(t, func(o *lease.Options) {
					if test.pulse {
						o.Pulse, o.Probe = pulse, func(context.Context) error { probes++; return nil }
					}
				})
				other, of := c.grant(t, nil)
				for at := range 60 {
					if test.pulse && at == 21 {
						pulse.Work()
					}
					if at == 41 {
						pulse.Rest()
					}
					pass(time.Second)
					least := 7 * time.Second
					if test.slow && at < 26 {
						least = 3 * time.Second
					}
					wantLeft(t, fmt.Sprintf("after %d s", at+1), least, k, l)
					wantLeft(t, fmt.Sprintf("the other one after %d s", at+1), least, other, of)
					if at == 20 && c.alone.Load() != 0 {
						t.Error("the Keeper has renewed its lease without need")
					}
				}
				alone := c.alone.Load()
				if alone == 0 {
					t.Error("nothing was wrong")
				}
				if test.pulse && int64(probes) != alone {
					t.Errorf("%d probes before %d keepalives", probes, alone)
				}
				pass(20 * time.Second)
				wantAlive(t, "at last", k, l)
				if n := c.alone.Load(); n != alone {
					t.Errorf("the Keeper goes on by itself: %d keepalives", n-alone)
				}
			})
		})
	}
}

func TestALeaseOfRoundsIsFencedInTime(t *testing.T) {
	for name, silent := range map[string]func(c *circle, etcd *streams, over *atomic.Bool) func(*lease.Options){
		"etcd does not answer": func(_ *circle, etcd *streams, over *atomic.Bool) func(*lease.Options) {
			etcd.answer = func(int, int64) (int64, time.Duration) {
				if over.Load() {
					return -1, 0
				}
				return 10, 0
			}
			return nil
		},
		"the owner hangs": func(c *circle, _ *streams, over *atomic.Bool) func(*lease.Options) {
			return func(o *lease.Options) {
				o.Pulse = c.rounds.NewPulse()
				pulse := o.Pulse
				time.AfterFunc(20*time.Second+time.Millisecond, pulse.Work)
				o.Probe = func(ctx context.Context) error {
					if over.Load() {
						<-ctx.Done()
					}
					return ctx.Err()
				}
			}
		},
		"the rounds have ended": func(c *circle, etcd *streams, over *atomic.Bool) func(*lease.Options) {
			etcd.answer = func(int, int64) (int64, time.Duration) {
				if over.Load() {
					return -1, 0
				}
				return 10, 0
			}
			time.AfterFunc(11*time.Second, c.rounds.Close)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				etcd, over := &streams{}, new(atomic.Bool)
				c := newCircle(t, etcd, nil)
				k, l := c.grant(t, silent(c, etcd, over))
				pass(20*time.Second + time.Millisecond) // a keepalive was sent at 20 s
				over.Store(true)
				pass(7900 * time.Millisecond)
				if k.Fenced() {
					t.Errorf("fenced after %v, want after 28 s", c.clock.Now())
				}
				pass(200 * time.Millisecond)
				if !k.Fenced() || k.Context().Err() != nil {
					t.Errorf("fenced: %t, context: %v", k.Fenced(), k.Context().Err())
				}
				over.Store(false) // an answer that comes now is too late
				pass(900 * time.Millisecond)
				if k.Remaining() > 0 || k.Context().Err() == nil || !errors.Is(l.why, lease.ErrExpired) {
					t.Errorf("%v remain, context %v, %v", k.Remaining(), k.Context().Err(), l.why)
				}
				if want := "fence at 28s, dead at 29s"; l.String() != want {
					t.Errorf("got %q, want %q", l, want)
				}
			})
		})
	}
}

func TestALeaseOfRoundsThatIsGoneIsDeadAtOnce(t *testing.T) {
	for name, gone := range map[string]func(etcd *streams, o *lease.RoundsOptions, over *atomic.Bool){
		"etcd says so": func(etcd *streams, _ *lease.RoundsOptions, over *atomic.Bool) {
			etcd.answer = func(int, int64) (int64, time.Duration) {
				if over.Load() {
					return 0, 0
				}
				return 10, 0
			}
		},
		"it is another etcd": func(_ *streams, o *lease.RoundsOptions, over *atomic.Bool) {
			o.Check = func(*pb.ResponseHeader) error {
				if over.Load() {
					return errors.New("another one")
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				etcd, over := &streams{}, new(atomic.Bool)
				c := newCircle(t, etcd, func(o *lease.RoundsOptions) { gone(etcd, o, over) })
				k, l := c.grant(t, nil)
				pass(11 * time.Second)
				wantAlive(t, "before", k, l)
				over.Store(true)
				pass(1100 * time.Millisecond)
				if !errors.Is(context.Cause(k.Context()), lease.ErrGone) || l.String() != "fence at 12s, dead at 12s" {
					t.Errorf("%v; %s", context.Cause(k.Context()), l)
				}
			})
		})
	}
}

// A fenced lease is not renewed any more, whoever has fenced it, also if its Keeper has renewed it just before.
func TestRoundsDoNotRenewWhatIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int64
		etcd := &streams{answer: func(_ int, id int64) (int64, time.Duration) {
			if id == 1 {
				sent.Add(1)
			}
			return 10, 300 * time.Millisecond
		}}
		c := newCircle(t, etcd, nil)
		k, _ := c.grant(t, nil)
		_, _ = c.grant(t, nil)
		pass(20100 * time.Millisecond) // the keepalive of 20 s is under way
		deadline := k.Deadline()
		k.Fence(errors.New("enough"))
		pass(500 * time.Millisecond)
		if k.Deadline() != deadline {
			t.Errorf("the deadline of a fenced lease was moved from %v to %v", deadline, k.Deadline())
		}
		n := sent.Load()
		pass(20 * time.Second)
		if sent.Load() != n {
			t.Errorf("a fenced lease was renewed %d times", sent.Load()-n)
		}
	})
}

// Answers that come late, or never, never make a Keeper believe in a lease that has expired.
func TestALeaseOfRoundsIsDeadBeforeTheServerExpires(t *testing.T) {
	lags := rapid.Custom(func(t *rapid.T) time.Duration {
		ms := rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(0, 4000), rapid.Just(-1)).Draw(t, "ms")
		return time.Duration(ms) * time.Millisecond
	})
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(lags, 0, 40).Draw(rt, "lags")
		failure := ""
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			expires, n := map[int64]time.Duration{}, 0
			c := newCircle(t, &streams{}, nil)
			c.answer = func(_ int, id int64) (int64, time.Duration) { // etcd renews at once, and answers late
				mu.Lock()
				defer mu.Unlock()
				now, lag := c.clock.Now(), time.Duration(-1)
				if n < len(plan) {
					lag = plan[n]
				}
				n++
				switch {
				case now >= expires[id]:
					return 0, max(lag, 0)
				case lag >= 0:
					expires[id] = now + 10*time.Second
				}
				if lag < 0 {
					return -1, 0
				}
				return 10, lag
			}
			for id := int64(1); id <= 3; id++ {
				expires[id] = 10 * time.Second
			}
			var all []*lease.Keeper
			for range 3 {
				k, _ := c.grant(t, nil)
				all = append(all, k)
			}
			dead := map[int]bool{}
			for step := 0; step < 2500 && (len(dead) < 3 || step < 200); step++ {
				pass(50 * time.Millisecond)
				for i, k := range all {
					mu.Lock()
					over := c.clock.Now() - expires[int64(i+1)]
					mu.Unlock()
					alive := k.Remaining() > 0
					switch {
					case over >= 0 && (alive || k.Context().Err() == nil || !k.Fenced()):
						failure = fmt.Sprintf("%v after it had expired, %v remain, context %v, fenced: %t",
							over, k.Remaining(), k.Context().Err(), k.Fenced())
					case dead[i] && alive:
						failure = "came back to life"
					case !alive:
						dead[i] = true
					}
				}
			}
			if len(dead) < 3 {
				failure = "outlived the last answer"
			}
		})
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

// Where etcd is slow, a keepalive that is overdue counts when it is answered, and is not sent again meanwhile.
func TestALateAnswerToARoundCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int64
		c := newCircle(t, &streams{answer: func(int, int64) (int64, time.Duration) {
			sent.Add(1)
			return 10, 400 * time.Millisecond // the last of four is answered after 1.6 s, and overdue after 0.7 s
		}}, nil)
		var all []*lease.Keeper
		var records []*record
		for range lease.PerStream {
			k, l := c.grant(t, nil)
			all, records = append(all, k), append(records, l)
		}
		const ticks = 30
		for range ticks {
			pass(2 * time.Second)
			for i, k := range all {
				wantLeft(t, fmt.Sprint("lease ", i), 5*time.Second, k, records[i])
			}
		}
		pass(1900 * time.Millisecond)
		if n := sent.Load(); n != ticks*lease.PerStream {
			t.Errorf("%d keepalives for %d leases in %d ticks", n, lease.PerStream, ticks)
		}
		if c.alone.Load() == 0 {
			t.Error("nothing was overdue")
		}
	})
}

// A Keeper that nobody tells of leaps looks at the clock itself, also while rounds renew its lease.
func TestALeaseOfRoundsIsDeadWhenTheMachineHasSlept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCircle(t, &streams{}, nil)
		k, _ := c.grant(t, func(o *lease.Options) { o.Leaps = nil })
		pass(20100 * time.Millisecond)
		if n := c.alone.Load(); n != 0 {
			t.Errorf("the Keeper has sent %d keepalives", n)
		}
		c.clock.leapt.Add(int64(time.Hour))
		pass(500 * time.Millisecond)
		if k.Context().Err() == nil || !k.Fenced() {
			t.Errorf("an hour after the deadline: context %v, fenced: %t", k.Context().Err(), k.Fenced())
		}
	})
}

// What lets rounds notice that one of them has not come takes three intervals, and the fence must not come before.
func TestRoundsRefuseAnIntervalThatIsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCircle(t, &streams{}, nil)
		grant := func(interval time.Duration) error {
			k, err := lease.Grant(t.Context(), c, lease.Options{
				TTL: 10 * time.Second, Interval: interval, RetryInterval: 500 * time.Millisecond, Rounds: c.rounds,
			})
			if err == nil {
				k.Close()
			}
			return err
		}
		if err := grant(2500 * time.Millisecond); err != nil {
			t.Error(err)
		}
		if err := grant(2600 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "interval 2.6s") {
			t.Errorf("got %v, want an error that names the interval", err)
		}
	})
}

// A server of etcd may swallow requests to which many of the streams lead that are open. It costs each lease one try or
// two, and not one for each of these streams.
func TestStreamsToAServerThatSwallowsRequestsAreNotTriedOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var swallows atomic.Bool
		etcd := &streams{answer: func(nr int, _ int64) (int64, time.Duration) {
			if nr <= 40 && swallows.Load() {
				return -1, 0
			}
			return 10, 0
		}}
		c := newCircle(t, etcd, nil)
		var all []*lease.Keeper
		var records []*record
		for range 600 {
			k, l := c.grant(t, nil)
			all, records = append(all, k), append(records, l)
		}
		pass(21 * time.Second)
		if n := etcd.count(); n < 60 {
			t.Fatalf("only %d streams are open", n)
		}
		swallows.Store(true)
		for range 20 {
			pass(time.Second)
			for i, k := range all {
				wantLeft(t, fmt.Sprint("lease ", i), 5*time.Second, k, records[i])
			}
		}
		wantAlive(t, "at last", all[0], records[0])
	})
}
