package calls_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/core"
)

// service answers every call, and says which instance does.
type service struct {
	mu       sync.Mutex
	instance string
	err      error // of Instance
	ended    []string
}

func (s *service) restart(instance string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instance, s.err = instance, err
}

func (s *service) user() *user {
	return &user{
		handle: func(_ context.Context, c calls.Claim) calls.Answer {
			s.mu.Lock()
			defer s.mu.Unlock()
			c.Of.ServedBy(s.instance)
			return calls.Answer{}
		},
		terminate: func(_ context.Context, c calls.Claim) calls.Answer {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ended = append(s.ended, c.ID)
			return calls.Answer{}
		},
		instance: func(context.Context) (string, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.instance, s.err
		},
	}
}

// asking makes a stage that asks which instance answers.
func (s *service) asking(t *testing.T) *stage {
	stage := newStage(t, s.user())
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { stage.AskInstance(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return stage
}

// take returns what the core was told since the last take.
func (n *notes) take() []string {
	got := slices.Clone(*n)
	*n = nil
	slices.Sort(got)
	return got
}

func wantTold(t *testing.T, s *stage, want ...string) {
	t.Helper()
	if got := s.told.take(); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestWhatAnEarlierInstanceWasGivenLapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &service{instance: "one"}
		s := v.asking(t)
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.Handle(s.clock.Now(), handle("b"), s.lease)
		s.run(10 * time.Second)
		wantTold(t, s, "done a ok ", "done b ok ", "retry")
		v.restart("two", nil)
		s.run(1500 * time.Millisecond)
		wantTold(t, s, "lapsed a", "lapsed b", "retry")
		s.run(time.Minute)
		wantTold(t, s) // once
	})
}

func TestAServiceThatCannotBeAskedIsAskedSoonAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &service{instance: "one"}
		s := v.asking(t)
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.run(10 * time.Second)
		s.told.take()
		v.restart("", errors.New("connection refused"))
		s.run(time.Minute)
		wantTold(t, s)
		v.restart("two", nil)
		s.run(300 * time.Millisecond)
		wantTold(t, s, "lapsed a", "retry")
	})
}

// A call in progress tells which instance has its resource.
func TestWhatTheNewInstanceWasGivenDoesNotLapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &service{instance: "one"}
		s := newStage(t, v.user())
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.run(time.Second)
		v.restart("two", nil)
		s.Handle(s.clock.Now(), handle("b"), s.lease)
		s.run(time.Second)
		wantTold(t, s, "done a ok ", "done b ok ", "lapsed a", "retry", "retry")
	})
}

func TestNothingIsTerminatedThatAnEarlierInstanceHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &service{instance: "one"}
		s := newStage(t, v.user())
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.run(time.Second)
		v.restart("two", nil)
		s.Handle(s.clock.Now(), handle("b"), s.lease)
		s.run(time.Second)
		s.told.take()
		for _, id := range []string{"a", "b"} {
			s.Terminate(core.Action{Kind: core.Terminate, ID: id, Token: 7, Cause: core.Moved}, s.lease)
		}
		s.run(time.Second)
		wantTold(t, s, "done a ok ", "done b ok ")
		if !slices.Equal(v.ended, []string{"b"}) {
			t.Errorf("terminated %q, want b alone", v.ended)
		}
	})
}

// An answer to a question from before a restart comes after the new instance's first answer.
func TestALateAnswerOfAnEarlierInstanceChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		u := &user{handle: func(_ context.Context, c calls.Claim) calls.Answer {
			if c.ID == "late" {
				<-let
				c.Of.ServedBy("one")
			} else {
				c.Of.ServedBy("two")
			}
			return calls.Answer{}
		}}
		s := newStage(t, u)
		s.Handle(s.clock.Now(), handle("late"), s.lease)
		s.run(time.Second)
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.run(time.Second)
		s.told.take()
		close(let)
		s.run(time.Second)
		wantTold(t, s, "done late ok ", "lapsed late", "retry")
	})
}

func TestInstancesThatTakeTurnsDoNotMakeEverythingBeHandledAgainAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &service{instance: "one"}
		s := v.asking(t)
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.run(2 * time.Minute)
		s.told.take()
		lapses := 0
		for i := range 600 {
			v.restart([]string{"two", "one"}[i%2], nil)
			s.run(time.Second)
			lapses += strings.Count(strings.Join(s.told.take(), ";"), "lapsed a")
		}
		if lapses < 3 || lapses > 20 {
			t.Errorf("%d lapses in ten minutes", lapses)
		}
	})
}

func TestReannounceMakesEverythingLapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, (&service{instance: "one"}).user())
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.Handle(s.clock.Now(), handle("b"), s.lease)
		s.run(time.Second)
		s.told.take()
		if n := s.Reannounce(s.clock.Now()); n != 2 {
			t.Errorf("%d resources", n)
		}
		wantTold(t, s, "lapsed a", "lapsed b", "retry")
	})
}

// A request got no answer while the service was restarted: either of the two instances may have got it. So it is
// handled again if it is wanted, and terminated if it is not.
func TestWhatEitherInstanceMayHaveIsTerminated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let, ended := make(chan struct{}), []string(nil)
		u := &user{
			handle: func(_ context.Context, c calls.Claim) calls.Answer {
				switch c.ID {
				case "lost":
					<-let
					return calls.Answer{Outcome: core.Unclear, Err: errors.New("no answer"), Text: "no answer"}
				case "first":
					c.Of.ServedBy("one")
				default:
					c.Of.ServedBy("two")
				}
				return calls.Answer{}
			},
			terminate: func(_ context.Context, c calls.Claim) calls.Answer {
				ended = append(ended, c.ID)
				return calls.Answer{}
			},
		}
		s := newStage(t, u)
		for _, id := range []string{"first", "lost", "second"} {
			s.Handle(s.clock.Now(), handle(id), s.lease)
			s.run(time.Second)
		}
		s.told.take()
		close(let)
		s.run(time.Second)
		wantTold(t, s, "done lost unclear no answer", "doubt lost", "failing lost: no answer")
		for _, id := range []string{"first", "lost", "second"} {
			s.Terminate(core.Action{Kind: core.Terminate, ID: id, Token: 7, Cause: core.Moved}, s.lease)
			s.run(time.Second)
		}
		if !slices.Equal(ended, []string{"lost", "second"}) {
			t.Errorf("terminated %q, want lost and second", ended)
		}
	})
}

// The first request of all got no answer, and may still arrive when the instance is known.
func TestWhatWasAskedForBeforeAnyInstanceWasKnownIsTerminated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended []string
		u := &user{
			handle: func(_ context.Context, c calls.Claim) calls.Answer {
				if c.ID == "lost" {
					return calls.Answer{Outcome: core.Unclear, Err: errors.New("no answer"), Text: "no answer"}
				}
				c.Of.ServedBy("one")
				return calls.Answer{}
			},
			terminate: func(_ context.Context, c calls.Claim) calls.Answer {
				ended = append(ended, c.ID)
				return calls.Answer{}
			},
		}
		s := newStage(t, u)
		for _, id := range []string{"lost", "a"} {
			s.Handle(s.clock.Now(), handle(id), s.lease)
			s.run(time.Second)
		}
		s.Terminate(core.Action{Kind: core.Terminate, ID: "lost", Token: 7, Cause: core.Moved}, s.lease)
		s.run(time.Second)
		if !slices.Equal(ended, []string{"lost"}) {
			t.Errorf("terminated %q, want what nobody knows about", ended)
		}
	})
}

// What answers a question or a notification has not been given the resource thereby.
func TestWhoeverAnswersBesideACallHasNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		claims, failure := make(chan calls.Claim, 1), error(nil)
		s := newStage(t, &user{
			handle: func(_ context.Context, c calls.Claim) calls.Answer {
				c.Of.ServedBy("one")
				claims <- c
				return calls.Answer{Outcome: core.OK, Err: failure}
			},
			onFailure: func(c calls.Claim) { c.Of.ServedBy("three") },
		})
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		claim := <-claims
		s.run(time.Second)
		s.told.take()
		claim.Of.ServedBy("two")
		s.run(time.Second)
		wantTold(t, s, "lapsed a", "retry")
		failure = errors.New("an update fails")
		s.Update(core.Action{Kind: core.Update, ID: "a", Token: 7})
		s.run(2 * time.Second)
		wantTold(t, s, "done a ok ", "doubt a", "failing a: ", "retry")
	})
}
