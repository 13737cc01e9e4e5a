package calls_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/core"
)

// patient is what most of these tests check with.
var patient = calls.Checks{Interval: 10 * time.Second, Timeout: 4 * time.Second, Failures: 3, Concurrency: 2}

var (
	fine   = calls.Checked{OK: true}
	wedged = calls.Checked{Text: "wedged"}
)

// checker answers the checks of its resources, and notes when they came.
type checker struct {
	from time.Time

	mu     sync.Mutex
	answer func(id string, n int) calls.Checked // n counts the checks of the resource, from 1
	came   map[string][]time.Duration
	now    int // checks in progress
	most   int // the most there ever were
	takes  time.Duration
}

func newChecker(answer func(id string, n int) calls.Checked) *checker {
	return &checker{from: time.Now(), answer: answer, came: map[string][]time.Duration{}}
}

func (c *checker) check(ctx context.Context, claim calls.Claim) calls.Checked {
	c.mu.Lock()
	c.came[claim.ID] = append(c.came[claim.ID], time.Since(c.from))
	n := len(c.came[claim.ID])
	c.now++
	c.most = max(c.most, c.now)
	c.mu.Unlock()
	if c.takes > 0 {
		select {
		case <-time.After(c.takes):
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
	return c.answer(claim.ID, n)
}

func (c *checker) count(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.came[id])
}

func (c *checker) mostAtOnce() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most
}

// checking makes a stage whose handler handles everything at once, and checks.
func checking(t *testing.T, o calls.Checks, check func(context.Context, calls.Claim) calls.Checked) *stage {
	t.Helper()
	ok := func(context.Context, calls.Claim) calls.Answer { return calls.Answer{} }
	return newStage(t, &user{handle: ok, terminate: ok, check: check, checks: o})
}

// began handles resources, and forgets that the core was told so.
func (s *stage) began(ids ...string) {
	for _, id := range ids {
		s.Handle(s.clock.Now(), handle(id), s.lease)
	}
	s.run(time.Millisecond)
	s.told.take()
}

func end(id string) core.Action {
	return core.Action{Kind: core.Terminate, ID: id, Token: 7, Cause: core.Moved}
}

func TestWhatIsHandledIsCheckedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChecker(func(string, int) calls.Checked { return fine })
		s := checking(t, patient, c.check)
		ids := make([]string, 200)
		for i := range ids {
			ids[i] = fmt.Sprint("r", i)
		}
		for part := range slices.Chunk(ids, 50) {
			s.began(part...)
		}
		s.run(10 * time.Minute)
		wantTold(t, s)
		at := map[time.Duration]int{}
		for _, id := range ids {
			came := c.came[id]
			if n := len(came); n < 60 || n > 75 {
				t.Errorf("%s was checked %d times in 60 intervals", id, n)
			}
			at[came[0].Truncate(200*time.Millisecond)]++
			for i := 1; i < len(came); i++ {
				if gap := came[i] - came[i-1]; gap < 8*time.Second || gap > 10*time.Second+time.Millisecond {
					t.Errorf("%s: %v between two checks", id, gap)
				}
			}
		}
		if len(at) < 8 {
			t.Errorf("the first checks came at %v", at)
		}
	})
}

func TestAsManyChecksInARowAsAreTooManyBreakTheHandling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChecker(func(_ string, n int) calls.Checked {
			if n == 3 { // the row of two that came before is over
				return fine
			}
			return wedged
		})
		s := checking(t, patient, c.check)
		s.began("a")
		s.run(39 * time.Second) // 8 to 10 s lie between two checks, so the sixth one comes after 40 to 60 s
		wantTold(t, s)
		s.run(32 * time.Second)
		wantTold(t, s, "broke a: check failed 3 times in a row: wedged")
		n := c.count("a")
		s.run(time.Minute)
		if c.count("a") != n || n != 6 {
			t.Errorf("%d checks, and %d more after it broke; want 6 and 0", n, c.count("a")-n)
		}
		s.Terminate(end("a"), s.lease)
		s.run(time.Second)
		s.began("a") // anew
		s.run(11 * time.Second)
		wantTold(t, s)
		if c.count("a") != 7 {
			t.Error("what is handled again is not checked")
		}
	})
}

func TestAPanicAndAGoexitAreFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := patient
		o.Failures = 1
		s := checking(t, o, func(context.Context, calls.Claim) calls.Checked { runtime.Goexit(); return fine })
		s.began("a")
		s.run(11 * time.Second)
		if got := s.told.take(); len(got) != 1 || !strings.HasPrefix(got[0], "broke a: check failed: ") ||
			!strings.Contains(got[0], "Goexit") {
			t.Errorf("told %q", got)
		}
	})
}

func TestACheckHasALimitedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		causes := make(chan error, 8)
		s := checking(t, patient, func(ctx context.Context, _ calls.Claim) calls.Checked {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return calls.Checked{Text: "cut off"}
		})
		s.began("a")
		s.run(45 * time.Second)
		wantTold(t, s, "broke a: check failed 3 times in a row: no answer within 4s")
		if cause := <-causes; !errors.Is(cause, calls.CauseTimeout) {
			t.Errorf("the context has ended because of %v", cause)
		}
	})
}

func TestAHandlerThatCannotCheckIsNotAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cannot := calls.Checked{Unsupported: true, Text: "unsupported"}
		c := newChecker(func(string, int) calls.Checked { return cannot })
		s := checking(t, patient, c.check)
		s.began("a", "b", "c")
		s.run(time.Minute)
		asked := c.count("a") + c.count("b") + c.count("c")
		s.began("d")
		s.Terminate(end("a"), s.lease)
		s.run(time.Minute)
		wantTold(t, s, "done a ok ")
		if asked < 1 || asked > patient.Concurrency || c.count("d") > 0 {
			t.Errorf("asked %d times, and later %d times", asked, c.count("d"))
		}
	})
}

func TestNothingIsCheckedWithoutAnInterval(t *testing.T) {
	for _, every := range []time.Duration{0, calls.Forever} {
		synctest.Test(t, func(t *testing.T) {
			o := patient
			o.Interval = every
			c := newChecker(func(string, int) calls.Checked { return wedged })
			s := checking(t, o, c.check)
			s.began("a")
			s.run(100 * time.Hour)
			if c.count("a") > 0 {
				t.Error("it was checked")
			}
		})
	}
}

func TestChecksAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChecker(func(string, int) calls.Checked { return fine })
		c.takes = 500 * time.Millisecond
		s := checking(t, patient, c.check)
		ids := make([]string, 40)
		for i := range ids {
			ids[i] = fmt.Sprint("r", i)
		}
		s.began(ids...)
		s.run(2 * time.Minute)
		if most := c.mostAtOnce(); most != patient.Concurrency {
			t.Errorf("%d checks at once, want %d", most, patient.Concurrency)
		}
		for _, id := range ids {
			if n := c.count(id); n < 7 { // 40 checks take 10 s, so that each is late, and none is left out
				t.Errorf("%s was checked %d times", id, n)
			}
		}
	})
}

// No call waits for a check: its context ends, and what it says then does not count.
func TestACallThatBecomesDueEndsTheCheck(t *testing.T) {
	for _, kind := range []core.ActionKind{core.Update, core.Terminate} {
		synctest.Test(t, func(t *testing.T) {
			o := patient
			o.Failures = 1
			o.Timeout = time.Hour
			began, causes, let := make(chan struct{}, 1), make(chan error, 1), make(chan struct{})
			s := checking(t, o, func(ctx context.Context, _ calls.Claim) calls.Checked {
				began <- struct{}{}
				<-ctx.Done()
				causes <- context.Cause(ctx)
				<-let
				return wedged
			})
			s.began("a")
			s.run(11 * time.Second)
			<-began
			want := calls.CauseMoved
			if kind == core.Update {
				want = calls.CauseChanged
				s.Update(core.Action{Kind: kind, ID: "a", Token: 7, Data: []byte(`{}`)})
			} else {
				s.Terminate(end("a"), s.lease)
			}
			s.run(time.Second)
			wantTold(t, s, "done a ok ")
			if cause := <-causes; !errors.Is(cause, want) {
				t.Errorf("%v: the check's context has ended because of %v", kind, cause)
			}
			close(let)
			s.run(time.Second)
			wantTold(t, s)
		})
	}
}

func TestNoCheckBeginsWhileACallIsInProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChecker(func(string, int) calls.Checked { return fine })
		u := &user{check: c.check, checks: patient}
		let := make(chan struct{})
		u.handle = func(ctx context.Context, _ calls.Claim) calls.Answer {
			select {
			case <-let:
			case <-ctx.Done():
			}
			return calls.Answer{}
		}
		s := newStage(t, u)
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.run(9 * time.Second)
		let <- struct{}{}
		s.run(5 * time.Second)
		if c.count("a") > 0 {
			t.Error("the time of Handle counts")
		}
		s.Update(core.Action{Kind: core.Update, ID: "a", Token: 7, Data: []byte(`{}`)})
		s.run(9 * time.Second)
		if c.count("a") > 0 {
			t.Error("checked during Update")
		}
		let <- struct{}{}
		s.run(11 * time.Second)
		if c.count("a") != 1 {
			t.Error("not checked after Update")
		}
	})
}

func TestChecksEndWithTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := patient
		o.Failures = 1
		o.Timeout = time.Hour
		n, causes := 0, make(chan error, 8)
		s := checking(t, o, func(ctx context.Context, _ calls.Claim) calls.Checked {
			n++
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return wedged
		})
		s.began("a")
		s.run(11 * time.Second)
		s.lease.End(calls.CauseFenced)
		s.run(time.Minute)
		wantTold(t, s)
		if cause := <-causes; n != 1 || !errors.Is(cause, calls.CauseFenced) {
			t.Errorf("%d checks; the first has ended because of %v", n, cause)
		}
	})
}

// hanging is a check that does not return for some resources, whatever becomes of its context.
type hanging struct {
	*checker
	let chan struct{}
}

func (h *hanging) check(ctx context.Context, c calls.Claim) calls.Checked {
	got := h.checker.check(ctx, c)
	if strings.HasPrefix(c.ID, "hung") {
		<-h.let
	}
	return got
}

func hung(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprint("hung", i))
	}
	return ids
}

func TestChecksThatHangAreFailuresAndDoNotStopOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{newChecker(func(string, int) calls.Checked { return fine }), make(chan struct{})}
		s := checking(t, patient, h.check)
		defer func() { close(h.let); s.run(time.Second) }()
		s.began(append(hung(4), "a")...)
		s.run(45 * time.Second)
		const told = ": check failed 3 times in a row: the check before has not returned"
		wantTold(t, s, "broke hung0"+told, "broke hung1"+told, "broke hung2"+told, "broke hung3"+told)
		if n := h.count("hung0"); n != 1 {
			t.Errorf("while a check hangs, its resource was checked %d times", n)
		}
		before := h.count("a")
		s.run(time.Minute)
		if n := h.count("a") - before; n < 5 {
			t.Errorf("others were checked %d times in 6 intervals", n)
		}
	})
}

// There is an end to what may be left behind.
func TestVeryManyChecksThatHangStopTheOthersUntilSomeReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{newChecker(func(string, int) calls.Checked { return fine }), make(chan struct{})}
		s := checking(t, patient, h.check)
		const most = 17 * 2 // 16 left behind for each that may run, and those that run
		for part := range slices.Chunk(hung(most+6), 20) {
			s.began(part...)
		}
		s.run(5 * time.Minute)
		s.began("a")
		s.run(time.Minute)
		if n := h.count("a"); n > 0 {
			t.Errorf("another one was checked %d times while %d hang", n, most)
		}
		asked := 0
		for _, id := range hung(most + 6) {
			asked += h.count(id)
		}
		if asked != most {
			t.Errorf("%d checks hang, want %d", asked, most)
		}
		close(h.let)
		s.run(30 * time.Second)
		if h.count("a") == 0 {
			t.Error("others are not checked though nothing hangs any more")
		}
	})
}

// An instance that answers a check does not have the resource because of that.
func TestAnInstanceThatAnswersACheckMakesWhatOthersHadLapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := (&service{instance: "one"}).user()
		u.checks = patient
		u.check = func(_ context.Context, c calls.Claim) calls.Checked {
			c.Of.Answered("two", time.Now())
			return fine
		}
		s := newStage(t, u)
		s.Handle(s.clock.Now(), handle("a"), s.lease)
		s.run(time.Second)
		s.told.take()
		s.run(11 * time.Second)
		wantTold(t, s, "lapsed a", "retry")
	})
}

func TestTheQueueOfChecksKeepsItsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChecker(func(string, int) calls.Checked { return fine })
		s := checking(t, patient, c.check)
		var ids []string
		for i := range 100 {
			ids = append(ids, fmt.Sprint("r", i))
		}
		for part := range slices.Chunk(ids, 20) {
			s.began(part...)
		}
		for i, id := range ids { // takes some out of the middle
			if i%3 == 0 {
				s.Terminate(end(id), s.lease)
			}
		}
		s.run(10500 * time.Millisecond)
		for i, id := range ids {
			if n, want := c.count(id), min(i%3, 1); n != want {
				t.Errorf("%s was checked %d times, want %d", id, n, want)
			}
		}
	})
}
