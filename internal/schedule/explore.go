package schedule

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Counts show what happened in one run or in many: a simulation in which something never happens proves nothing about
// that. C is the type that implements it: a pointer.
type Counts[C any] interface {
	fmt.Stringer

	// Add adds the counts of another run.
	Add(other C)
	// Missing names what never happened.
	Missing() []string
}

// Simulation is what is particular to a simulation, and C what it counts. All fields are needed, unless they say
// otherwise. Its methods may be called by several goroutines, as far as its functions may.
type Simulation[P any, C Counts[C]] struct {
	Package string // the folder of the simulation, from the top of the module
	Prefix  string // begins the names of its environment variables, such as DRM_SIM

	Schedules int    // how many random plans are run if the environment does not say so
	Short     int    // how many with -short
	Enough    int    // how many must try everything that is counted
	Seed      string // the seed of the plans that rapid draws; "": another one in each run

	Draw   func(s Source) P
	Random func(seed uint64) Source
	Run    func(p P, opts Options) (*Result, C)
	Shrink func(p P, fails func(P) bool) P
	Zero   func() C // no counts
}

// Summary is the result of many runs.
type Summary[P any, C Counts[C]] struct {
	Begun  int
	Runs   int
	Steps  int
	Took   time.Duration // the virtual time of all runs
	Healed time.Duration // the longest time from the end of the faults until all was well
	Counts C
	Failed *Failure[P] // the failure of the lowest seed; nil: there is none
}

// Failure is a run in which something was wrong.
type Failure[P any] struct {
	Seed uint64
	Plan P
	Err  error
}

func (s *Summary[P, C]) String() string {
	healed := ""
	if s.Healed > 0 {
		healed = fmt.Sprintf(", all was well at most %v after the last fault", s.Healed)
	}
	return fmt.Sprintf("%d schedules, %d steps, %v of virtual time%s\n%v",
		s.Runs, s.Steps, s.Took.Round(time.Minute), healed, s.Counts)
}

// first lets Explore run n schedules.
func (s *Simulation[P, C]) first(n int) *Summary[P, C] {
	return s.Explore(1, func(sum *Summary[P, C]) bool { return sum.Begun < n })
}

// Explore runs the plans of the seeds from first on, on all processors, for as long as more returns true. more is
// called with the summary so far, one call at a time. Explore stops at a failure. It reports the one with the lowest
// seed of those that have begun, so that the same seeds always give the same failure.
func (s *Simulation[P, C]) Explore(first uint64, more func(sofar *Summary[P, C]) bool) *Summary[P, C] {
	var (
		mu  sync.Mutex
		sum = &Summary[P, C]{Counts: s.Zero()}
		wg  sync.WaitGroup
	)
	next := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if sum.Failed != nil || !more(sum) {
			return 0, false
		}
		sum.Begun++
		return first + uint64(sum.Begun-1), true
	}
	take := func(seed uint64, p P, res *Result, counts C) {
		mu.Lock()
		defer mu.Unlock()
		sum.Runs++
		sum.Steps += res.Steps
		sum.Took += res.Took
		sum.Healed = max(sum.Healed, res.Healed)
		sum.Counts.Add(counts)
		if res.Err != nil && (sum.Failed == nil || seed < sum.Failed.Seed) {
			sum.Failed = &Failure[P]{seed, p, res.Err}
		}
	}
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed, ok := next(); ok; seed, ok = next() {
				p := s.Draw(s.Random(seed))
				res, counts := s.Run(p, Options{})
				take(seed, p, res, counts)
			}
		})
	}
	wg.Wait()
	return sum
}

// fails returns what is wrong in the run of a plan.
func (s *Simulation[P, C]) fails(p P) error {
	res, _ := s.Run(p, Options{})
	return res.Err
}

// report describes a failure, or a simpler one where there is any, and says how to see it again.
func (s *Simulation[P, C]) report(f *Failure[P]) string {
	p := s.Shrink(f.Plan, func(p P) bool { return s.fails(p) != nil })
	return fmt.Sprintf("seed %d: %v\nshrunk: %v\n%s", f.Seed, f.Err, s.fails(p), s.Describe(p))
}

// Describe prints a plan, how to replay it, and what happens in it: only the end of that, unless the environment
// variable for a trace asks for all.
func (s *Simulation[P, C]) Describe(p P) string {
	res, _ := s.Run(p, Options{Trace: true})
	lines := res.Trace
	if os.Getenv(s.trace()) == "" {
		lines = lines[max(0, len(lines)-60):]
	}
	return fmt.Sprintf("%s\n%+v\nreplay it, from the top of the module, with:\n\n    %s\n",
		strings.Join(lines, "\n"), p, s.replay(p))
}

// replay returns the command that runs a plan again, and prints all that happens in it.
func (s *Simulation[P, C]) replay(p P) string {
	plan, err := json.Marshal(p)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s=1 %s='%s' go test -count=1 -run '^TestReplay$' ./%s", s.trace(), s.plan(), plan, s.Package)
}

func (s *Simulation[P, C]) trace() string { return s.Prefix + "_TRACE" }
func (s *Simulation[P, C]) plan() string  { return s.Prefix + "_PLAN" }
