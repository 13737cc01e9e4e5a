package calls_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/core"
)

// keeper is a handler that keeps the contexts and claims that it is given. Its next answers are those of answers, and
// then OK.
type keeper struct {
	contexts []context.Context
	claims   []calls.Claim
	answers  []calls.Answer
	ended    []int // the numbers of the claims that were terminated
}

func (k *keeper) user() *user {
	return &user{
		handle: func(ctx context.Context, c calls.Claim) (got calls.Answer) {
			k.contexts, k.claims = append(k.contexts, ctx), append(k.claims, c)
			if len(k.answers) > 0 {
				got, k.answers = k.answers[0], k.answers[1:]
			}
			return got
		},
		terminate: func(_ context.Context, c calls.Claim) calls.Answer {
			k.ended = append(k.ended, slices.IndexFunc(k.claims, func(x calls.Claim) bool { return x.Of == c.Of }))
			return calls.Answer{}
		},
	}
}

// lapsed makes a stage on which a resource has been handled, and has lapsed.
func (k *keeper) lapsed(t *testing.T) *stage {
	s := newStage(t, k.user())
	s.Handle(s.clock.Now(), handle("a"), s.lease)
	s.run(time.Second)
	s.Cancel(core.Action{Kind: core.Cancel, ID: "a", Token: 7, Cause: core.Gone})
	s.told.take()
	return s
}

func (k *keeper) wantValid(t *testing.T, want ...bool) {
	t.Helper()
	for i, c := range k.claims {
		if valid := c.Of.Remaining() > 0; valid != want[i] {
			t.Errorf("claim %d is valid: %v, want %v", i, valid, want[i])
		}
	}
}

func (s *stage) terminate(id string) {
	s.Terminate(core.Action{Kind: core.Terminate, ID: id, Token: 7, Cause: core.Moved}, s.lease)
	s.run(time.Second)
}

func TestWhatHasLapsedEndsItsContextAndTakesNoReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k keeper
		s := newStage(t, k.user())
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.run(time.Second)
		k.claims[0].Of.Fail("wedged")
		s.run(time.Second)
		wantTold(t, s, "broke a: wedged", "done a ok ")
		s.Cancel(core.Action{Kind: core.Cancel, ID: "a", Token: 7, Cause: core.Gone})
		if cause := context.Cause(k.contexts[0]); !errors.Is(cause, calls.CauseGone) {
			t.Errorf("cause %v", cause)
		}
		k.claims[0].Of.Fail("wedged")
		k.claims[0].Of.Report(true, "wedged")
		s.run(time.Second)
		if n := s.Reannounce(s.clock.Now()); n != 0 {
			t.Errorf("%d resources are to be handled again, and it is about to be", n)
		}
		wantTold(t, s, "retry")
	})
}

// What is left of a handling that has lapsed may end in order, as long as the claim is this member's.
func TestTheClaimOfWhatHasLapsedIsValidUntilAnotherHandleHasSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper{answers: []calls.Answer{{}, {Outcome: core.Unclear, Err: errors.New("lost"), Text: "lost"}}}
		s := k.lapsed(t)
		k.wantValid(t, true)
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.run(time.Second)
		k.wantValid(t, true, true)
		s.terminate("a")
		k.wantValid(t, false, false)
		if !slices.Equal(k.ended, []int{1}) {
			t.Errorf("terminated %v", k.ended)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var k keeper
		s := k.lapsed(t)
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.run(time.Second)
		k.wantValid(t, false, true)
	})
	synctest.Test(t, func(t *testing.T) {
		var k keeper
		s := k.lapsed(t)
		s.Cancel(core.Action{Kind: core.Cancel, ID: "a", Token: 7, Cause: core.ClaimLost})
		k.wantValid(t, false)
	})
}

func TestWhatHasLapsedIsTerminatedWhereNoHandleReplacesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k keeper
		s := k.lapsed(t)
		s.terminate("a")
		if !slices.Equal(k.ended, []int{0}) {
			t.Errorf("terminated %v", k.ended)
		}
		k.wantValid(t, false)
	})
	// The Handle that should replace it is refused, since its time was over before it began.
	synctest.Test(t, func(t *testing.T) {
		var k keeper
		s := k.lapsed(t)
		s.lease.End(calls.CauseFenced)
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.run(time.Second)
		wantTold(t, s, "done a refused ")
		s.terminate("a")
		if !slices.Equal(k.ended, []int{0}) {
			t.Errorf("terminated %v", k.ended)
		}
	})
}
