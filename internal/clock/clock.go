// Package clock measures how much time has passed for the life of a lease, which goes on while this machine sleeps.
//
// Go's own monotonic time stops while a Linux machine is suspended, so a resumed process would take an expired lease
// for a live one. System reads a clock that does not:
//
//   - Linux: CLOCK_BOOTTIME.
//   - macOS: CLOCK_MONOTONIC_RAW, which goes on during sleep there.
//   - elsewhere: Go's monotonic time, and where the wall clock ran ahead of it, that counts as time passed: the machine may
//     have slept. A wall clock that is set forward by hand looks just the same there, and costs at worst a lease.
//
// A wall clock that is set back changes nothing anywhere; one that is set forward changes nothing on Linux and macOS.
package clock

import (
	"sync/atomic"
	"time"
)

// Clock tells the time since some fixed moment. It never goes back. Implementations are safe for concurrent use.
type Clock interface {
	Now() time.Duration
}

// System is this machine's clock. All Clocks it returns tell the same time.
func System() Clock { return system{} }

type system struct{}

func (system) Now() time.Duration { return now() }

// recently is for how long one reading of a Recent may stand for the next.
const recently = time.Millisecond

// Recent returns a clock for one goroutine that asks for the time again and again: what it says may be a millisecond
// old, not counting any time that the machine slept meanwhile. It is as good as the clock itself for deciding what to
// do next, since as much may pass between the decision and the deed; and it is cheaper, as a reading is a system call.
// Of a clock other than System it returns that.
func Recent(c Clock) Clock {
	if _, ok := c.(system); ok {
		return &recent{}
	}
	return c
}

type recent struct {
	read time.Time
	last time.Duration
}

func (r *recent) Now() time.Duration {
	t := time.Now()
	if r.read.IsZero() || t.Sub(r.read) >= recently {
		r.last, r.read = now(), t
	}
	return r.last
}

// Fake is a Clock for tests that stands still until it is told to go on. Its zero value stands at 0.
type Fake struct{ at atomic.Int64 }

// Now is the sum of all that Advance was given.
func (f *Fake) Now() time.Duration { return time.Duration(f.at.Load()) }

// Advance moves the clock forward by d, which must not be negative.
func (f *Fake) Advance(d time.Duration) {
	if d < 0 {
		panic("clock: Advance by a negative duration")
	}
	f.at.Add(int64(d))
}
