package calls_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/usercode"
	"github.com/distributed-resource-manager/drm/lease"
)

// etcd grants and renews leases at once.
type etcd struct{}

func (etcd) Grant(_ context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	return &clientv3.LeaseGrantResponse{ID: 1, TTL: ttl}, nil
}

func (etcd) KeepAliveOnce(_ context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	return &clientv3.LeaseKeepAliveResponse{ID: id, TTL: 60}, nil
}

func (etcd) Revoke(context.Context, clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	return &clientv3.LeaseRevokeResponse{}, nil
}

// virtual is the time of a synctest bubble; it measures the leases.
type virtual struct{ from time.Time }

func (v virtual) Now() time.Duration { return time.Since(v.from) }

// user is a handler that notes the failures that it is told of.
type user struct {
	handle, terminate func(context.Context, calls.Claim) calls.Answer
	instance          func(context.Context) (string, error)
	check             func(context.Context, calls.Claim) calls.Checked
	checks            calls.Checks // when check is called
	failed            []string
	onFailure         func(calls.Claim) // if set, it is called with what failed
}

func (u *user) Handle(ctx context.Context, c calls.Claim) calls.Answer { return u.handle(ctx, c) }

func (u *user) Update(ctx context.Context, c calls.Claim) calls.Answer { return u.handle(ctx, c) }

func (u *user) Terminate(ctx context.Context, c calls.Claim) calls.Answer { return u.terminate(ctx, c) }

func (u *user) Check(ctx context.Context, c calls.Claim) calls.Checked { return u.check(ctx, c) }

func (u *user) HandleFailed(_ context.Context, c calls.Claim, err error) string {
	u.failed = append(u.failed, err.Error())
	if u.onFailure != nil {
		u.onFailure(c)
	}
	return ""
}

func (u *user) TerminateFailed(_ context.Context, _ calls.Claim, err error) string {
	u.failed = append(u.failed, err.Error())
	return ""
}

// notes is a Core that writes down what it is told.
type notes []string

func (n *notes) add(format string, args ...any) { *n = append(*n, fmt.Sprintf(format, args...)) }

func (n *notes) CallDone(_ time.Duration, _ int, id string, out core.Outcome, text string) {
	n.add("done %s %v %s", id, out, text)
}
func (n *notes) CallRuns(_ time.Duration, _ int, id, _ string)     { n.add("runs %s", id) }
func (n *notes) CallStuck(_ time.Duration, _ int, id, text string) { n.add("stuck %s: %s", id, text) }

func (n *notes) CallFailing(_ time.Duration, _ int, id, text string) {
	n.add("failing %s: %s", id, text)
}

func (n *notes) Reported(_ time.Duration, _ int, id string, out core.Outcome, text string) {
	n.add("reported %s %v %s", id, out, text)
}

func (n *notes) Broke(_ time.Duration, _ int, id, text string) { n.add("broke %s: %s", id, text) }
func (n *notes) Doubt(_ time.Duration, _ int, id string)       { n.add("doubt %s", id) }
func (n *notes) Lapsed(_ time.Duration, _ int, id string)      { n.add("lapsed %s", id) }
func (n *notes) RetryHandles(time.Duration)                    { n.add("retry") }

// stage is the calls of one member on one lease. The test's goroutine is their loop.
type stage struct {
	*calls.Calls
	lease  *calls.Lease
	told   notes
	posted chan func()
	clock  virtual
}

func newStage(t *testing.T, u *user) *stage {
	t.Helper()
	s := &stage{posted: make(chan func(), 100), clock: virtual{time.Now()}}
	ctx, cancel := context.WithCancelCause(t.Context())
	k, err := lease.Grant(t.Context(), etcd{}, lease.Options{
		TTL: time.Minute, Clock: s.clock, OnDead: func(*lease.Keeper, error) { cancel(calls.CauseFenced) },
	})
	if err != nil {
		t.Fatal(err)
	}
	log := failures.New(zap.NewNop())
	t.Cleanup(func() {
		cancel(calls.CauseStopped)
		k.Close()
		log.Close()
	})
	s.lease = calls.NewLease(ctx, cancel, k)
	s.Calls = calls.New(calls.Options{
		Handler: u, Instance: u.instance, Checks: u.checks,
		HandleTimeout: 10 * time.Second, TerminateTimeout: 5 * time.Second,
		Core: &s.told, Wall: time.Now, Parent: t.Context(), Staying: t.Context(), Log: zap.NewNop(), Failures: log,
		Post: func(f func(time.Duration)) bool {
			s.posted <- func() { f(s.clock.Now()) }
			return true
		},
	})
	return s
}

// run calls what is posted, for a time.
func (s *stage) run(d time.Duration) {
	over := time.After(d)
	for {
		select {
		case f := <-s.posted:
			f()
		case <-over:
			return
		}
	}
}

func handle(id string) core.Action {
	return core.Action{Kind: core.Handle, ID: id, Token: 7, Data: []byte(`{}`)}
}

func TestACallThatIgnoresItsEndIsGivenUpWithItsClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let, began, causes := make(chan struct{}), make(chan calls.Claim, 1), make(chan error, 1)
		s := newStage(t, &user{handle: func(ctx context.Context, c calls.Claim) calls.Answer {
			began <- c
			<-ctx.Done()
			causes <- context.Cause(ctx)
			<-let
			return calls.Answer{}
		}})
		s.Handle(s.clock.Now(), handle("r"), s.lease)
		claim := <-began
		s.run(14 * time.Second)
		if cause := <-causes; !errors.Is(cause, calls.CauseTimeout) {
			t.Errorf("after its time the context has ended because of %v", cause)
		}
		if claim.Of.Remaining() <= 0 {
			t.Error("the claim is not valid though the call may still return in order")
		}
		s.run(2 * time.Second)
		if want := "stuck r: handle does not return"; !slices.Contains(s.told, want) {
			t.Errorf("told: %q, want %q", s.told, want)
		}
		if left := claim.Of.Remaining(); left > 0 {
			t.Errorf("the claim of a call that was given up is valid for another %v", left)
		}
		close(let)
		s.run(time.Second)
	})
}

func TestACallThatEndsItsGoroutineIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &user{handle: func(context.Context, calls.Claim) calls.Answer { runtime.Goexit(); return calls.Answer{} }}
		s := newStage(t, u)
		s.Handle(s.clock.Now(), handle("r"), s.lease)
		s.run(time.Second)
		want := "done r panicked " + usercode.ErrGoexit.Error()
		if len(s.told) != 2 || !strings.EqualFold(s.told[1], want) {
			t.Errorf("told: %q, want failing, and %q", s.told, want)
		}
		if !slices.Equal(u.failed, []string{usercode.ErrGoexit.Error()}) {
			t.Errorf("the handler was told %q", u.failed)
		}
	})
}

// What failed has left nothing, so Terminate is not called for it, also if the resource moves while HandleFailed runs.
func TestWhatFailedIsNotTerminatedWhenItMovesBeforeHandleFailedReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing, let := make(chan struct{}), make(chan struct{})
		s := newStage(t, &user{
			handle: func(context.Context, calls.Claim) calls.Answer {
				return calls.Answer{Outcome: core.Error, Err: errors.New("own"), Text: "own"}
			},
			onFailure: func(calls.Claim) { close(failing); <-let },
			terminate: func(context.Context, calls.Claim) calls.Answer {
				t.Error("terminated")
				return calls.Answer{}
			},
		})
		s.Handle(s.clock.Now(), handle("r"), s.lease)
		<-failing
		moves := core.Action{Kind: core.Cancel, ID: "r", Token: 7, Cause: core.Moved}
		s.Cancel(moves)
		close(let)
		s.run(time.Second)
		moves.Kind = core.Terminate // the core takes what it has cancelled for handled
		s.Terminate(moves, s.lease)
		s.run(time.Second)
		if want := []string{"failing r: own", "done r error own", "done r ok "}; !slices.Equal(s.told, want) {
			t.Errorf("told: %q, want %q", s.told, want)
		}
	})
}

func TestNothingIsHandledOnALeaseThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, &user{handle: func(context.Context, calls.Claim) calls.Answer {
			t.Error("handled")
			return calls.Answer{}
		}})
		s.lease.Keeper.Fence(errors.New("for the test"))
		s.Handle(s.clock.Now(), handle("fenced"), s.lease)
		s.Handle(s.clock.Now(), handle("gone"), nil)
		s.run(time.Second)
		if got := strings.Join(s.told, "; "); strings.Count(got, "refused") != 2 {
			t.Errorf("told: %s", got)
		}
	})
}

func TestTheEndOfALeaseEndsWhatIsHandledUnderIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		contexts, claims := make(chan context.Context, 1), make(chan calls.Claim, 1)
		s := newStage(t, &user{handle: func(ctx context.Context, c calls.Claim) calls.Answer {
			contexts <- ctx
			claims <- c
			return calls.Answer{}
		}})
		s.Handle(s.clock.Now(), handle("r"), s.lease)
		handling, claim := <-contexts, <-claims
		s.run(time.Second)
		s.lease.End(calls.CauseFenced)
		if !errors.Is(context.Cause(handling), calls.CauseFenced) || claim.Of.Remaining() > 0 {
			t.Errorf("cause %v, valid for %v", context.Cause(handling), claim.Of.Remaining())
		}
	})
}
