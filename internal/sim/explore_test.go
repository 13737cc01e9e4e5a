package sim

import (
	"fmt"
	"runtime"
	"sync"
	"time"
)

// summary is what came of many runs.
type summary struct {
	begun  int
	runs   int
	steps  int
	took   time.Duration // of virtual time
	healed time.Duration // the longest
	counts Counts
	failed *failure // of the lowest seed
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

// report tells of a failure, of a simpler one where there is any, and how to see it again.
func (f *failure) report() string {
	p := Shrink(f.plan, func(p Plan) bool { return Run(p, Options{}).Err != nil })
	return fmt.Sprintf("seed %d: %v\nshrunk: %v\n%s", f.seed, f.err, Run(p, Options{}).Err, describe(p))
}

// upTo lets explore run n schedules.
func upTo(n int) func(*summary) bool { return func(sum *summary) bool { return sum.begun < n } }

// explore runs the plans of seeds from first on, on all processors, for as long as more says so, which is told of what
// there is so far; the calls come one at a time. It stops at a failure: that of the lowest seed of those begun, so that
// the same seeds always give the same one.
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
