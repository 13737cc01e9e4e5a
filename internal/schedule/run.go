package schedule

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// Result is the result of a run.
type Result struct {
	Err    error         // what was found to be wrong; the first of several
	Took   time.Duration // how long the run took in virtual time
	Healed time.Duration // from the end of the last fault until all was well, where a simulation says so
	Steps  int           // how many events have happened
	Trace  []string      // what happened, with Options.Trace
}

// Options of a run.
type Options struct {
	Trace bool // whether to keep a line for each thing that happens
}

// Run is what all runs have. A simulation embeds it in its world. P is what events belong to: a pointer to a process.
type Run[P any] struct {
	Options
	Now    time.Duration // since the run has begun
	Calm   bool          // whether no further fault begins
	Rand   *rand.Rand    // decides what the Plan leaves open
	Agenda Agenda[P]
	Result Result
}

// NewRun begins a run. of tells the simulations apart, as in [Random].
func NewRun[P any](opts Options, seed, of uint64) Run[P] {
	return Run[P]{Options: opts, Rand: rand.New(rand.NewPCG(seed, of))}
}

// Play plays the run to its end with a function. A panic is a finding like any other.
func (r *Run[P]) Play(play func()) {
	defer func() {
		if v := recover(); v != nil {
			r.Failf("panic: %v\n%s", v, debug.Stack())
		}
		r.Result.Took = r.Now
	}()
	play()
}

// Step counts an event that has happened. It fails when there were too many.
func (r *Run[P]) Step(most int) {
	if r.Result.Steps++; r.Result.Steps == most {
		r.Failf("%d steps, and no end: something is done over and over", most)
	}
}

// Chance returns true in some percent of cases, and never when it is calm.
func (r *Run[P]) Chance(percent int) bool {
	return !r.Calm && percent > 0 && r.Rand.IntN(100) < percent
}

// UpTo returns a random duration of at most d.
func (r *Run[P]) UpTo(d time.Duration) time.Duration {
	return time.Duration(r.Rand.Int64N(int64(d) + 1))
}

// Tracef keeps a line about what happens now, if the run was asked for that.
func (r *Run[P]) Tracef(format string, args ...any) {
	if r.Trace {
		r.Result.Trace = append(r.Result.Trace, fmt.Sprintf("%12v  ", r.Now)+fmt.Sprintf(format, args...))
	}
}

// Failf says that something is wrong. Only the first such finding counts.
func (r *Run[P]) Failf(format string, args ...any) {
	if r.Result.Err == nil {
		r.Result.Err = fmt.Errorf(format, args...)
		r.Tracef("WRONG: %v", r.Result.Err)
	}
}
