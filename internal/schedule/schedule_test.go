package schedule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEventsHappenInTheOrderOfTimeAndThenInThatInWhichTheyWerePut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type put struct{ at, nth int }
		var agenda Agenda[*int]
		var waiting, happened, want []put
		take := func() {
			e := agenda.Take()
			e.Do()
			slices.SortFunc(waiting, func(a, b put) int { return (a.at-b.at)*1000 + a.nth - b.nth })
			want = append(want, waiting[0])
			waiting = waiting[1:]
		}
		for nth, at := range rapid.SliceOfN(rapid.IntRange(0, 5), 0, 60).Draw(t, "at") {
			p := put{at, nth}
			waiting = append(waiting, p)
			agenda.Put(Event[*int]{At: time.Duration(at), Do: func() { happened = append(happened, p) }})
			if rapid.IntRange(0, 2).Draw(t, "take") == 0 {
				take()
			}
		}
		for len(waiting) > 0 {
			next, ok := agenda.NextAt()
			if least := slices.MinFunc(waiting, func(a, b put) int { return a.at - b.at }); !ok ||
				next != time.Duration(least.at) {
				t.Fatalf("the next event is at %v (%v), want %v", next, ok, least.at)
			}
			take()
		}
		if _, ok := agenda.NextAt(); ok || !slices.Equal(happened, want) {
			t.Fatalf("they happen as %v, want %v", happened, want)
		}
	})
}

// plan is a plan of a simulation in which all that can be wrong is a number.
type plan struct{ Is int }

type counts int

func (c *counts) Add(o *counts)     { *c += *o }
func (c *counts) Missing() []string { return nil }
func (c *counts) String() string    { return fmt.Sprintf("%d in all", *c) }

// seeded is a Source that always chooses its seed.
type seeded uint64

func (s seeded) Choose(string, int) int { return int(s) }

var errWrong = errors.New("wrong")

// wrongFrom makes a simulation in which the plans of the seeds from n on are wrong.
func wrongFrom(n int) *Simulation[plan, *counts] {
	return &Simulation[plan, *counts]{
		Package: "internal/some", Prefix: "DRM_SOME", Schedules: 10, Short: 10, Enough: 10,
		Random: func(seed uint64) Source { return seeded(seed) },
		Draw:   func(s Source) plan { return plan{s.Choose("is", 1000)} },
		Run: func(p plan, opts Options) (*Result, *counts) {
			one := counts(1)
			run := NewRun[*int](opts, 1, 1)
			run.Play(func() {
				if p.Is >= n {
					run.Failf("%w: %d", errWrong, p.Is)
				}
			})
			return &run.Result, &one
		},
		Shrink: func(p plan, fails func(plan) bool) plan {
			for fails(plan{p.Is - 1}) {
				p.Is--
			}
			return p
		},
		Zero: func() *counts { return new(counts) },
	}
}

func TestTheFailureOfTheLowestSeedIsFound(t *testing.T) {
	sum := wrongFrom(40).first(1000)
	if f := sum.Failed; f == nil || f.Seed != 40 || !errors.Is(f.Err, errWrong) {
		t.Fatalf("the failure is %+v", sum.Failed)
	}
	if int(*sum.Counts) != sum.Runs || sum.Runs < 40 || sum.Runs > sum.Begun {
		t.Errorf("%d runs of %d that have begun, and %v", sum.Runs, sum.Begun, sum.Counts)
	}
}

func TestAFailureIsReportedWithASimplerOneAndTheCommandThatReplaysIt(t *testing.T) {
	s := wrongFrom(40)
	text := s.report(&Failure[plan]{Seed: 77, Plan: plan{77}, Err: s.fails(plan{77})})
	for _, part := range []string{
		"seed 77: wrong: 77\n", "shrunk: wrong: 40\n", "WRONG: wrong: 40\n",
		`DRM_SOME_TRACE=1 DRM_SOME_PLAN='{"Is":40}' go test -count=1 -run '^TestReplay$' ./internal/some`,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the report lacks %q:\n%s", part, text)
		}
	}
}

func TestAPanicIsAFinding(t *testing.T) {
	run := NewRun[*int](Options{}, 1, 1)
	run.Now = time.Second
	run.Play(func() { panic("oops") })
	if err := run.Result.Err; err == nil || !strings.Contains(err.Error(), "panic: oops") ||
		run.Result.Took != time.Second {
		t.Fatalf("the result is %+v", run.Result)
	}
}

func TestARunWithoutAnEndIsAFinding(t *testing.T) {
	run := NewRun[*int](Options{}, 1, 1)
	for range 3 {
		if run.Result.Err != nil {
			t.Fatal(run.Result.Err)
		}
		run.Step(3)
	}
	if err := run.Result.Err; err == nil || !strings.Contains(err.Error(), "3 steps, and no end") {
		t.Fatalf("error %v", err)
	}
}
