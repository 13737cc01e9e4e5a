package sim

import (
	"fmt"
	"runtime"
	"sync"
	"time"
)

// summary is the result of many runs.
type summary struct {
	begun  int
	runs   int
	steps  int
	took   time.Duration // the virtual time of all runs
	healed time.Duration // the longest time from the end of the faults until all was well
	counts Counts
	failed *failure // the failure of the lowest seed
}

// failure is a run that broke the promise.
type failure struct {
	seed uint64
	plan Plan
	err  error
}

func (s summary) String() string {
	return fmt.Sprintf("%d schedules, %d steps, %v of virtual time, all was well at most %v after the last fault\n%v",
		s.runs, s.steps, s.took.Round(time.Minute), s.healed, &s.counts)
}

// report describes a failure, or a simpler one where there is any, and says how to see it again.
func (f *failure) report() string {
	p := Shrink(f.plan, func(p Plan) bool { return Run(p, Options{}).Err != nil })
	return fmt.Sprintf("seed %d: %v\nshrunk: %v\n%s", f.seed, f.err, Run(p, Options{}).Err, describe(p))
}

// upTo lets explore run n schedules.
func upTo(n int) func(*summary) bool { return func(sum *summary) bool { return sum.begun < n } }

// explore runs the plans of the seeds from first on, on all processors, for as long as more returns true. more is
// called with the summary so far, one call at a time. explore stops at a failure. It reports the one with the lowest
// seed of those that have begun, so that the same seeds always give the same failure.
func explore(first uint64, more func(sofar *summary) bool) summary {
	var (
		mu  sync.Mutex
		sum summary
		wg  sync.WaitGroup
	)
	next := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if sum.failed != nil || !more(&sum) {
			return 0, false
		}
		sum.begun++
		return first + uint64(sum.begun-1), true
	}
	take := func(seed uint64, p Plan, res *Result) {
		mu.Lock()
		defer mu.Unlock()
		sum.runs++
		sum.steps += res.Steps
		sum.took += res.Took
		sum.healed = max(sum.healed, res.Healed)
		sum.counts.Add(&res.Counts)
		if res.Err != nil && (sum.failed == nil || seed < sum.failed.seed) {
			sum.failed = &failure{seed, p, res.Err}
		}
	}
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed, ok := next(); ok; seed, ok = next() {
				p := Draw(Random(seed), mostFaults)
				res := Run(p, Options{})
				take(seed, p, &res)
			}
		})
	}
	wg.Wait()
	return sum
}
