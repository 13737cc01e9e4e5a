// Package clock measures how much time has passed for the life of a lease, which goes on while this machine sleeps.
// Go's own monotonic time stops while a Linux machine is suspended, so a resumed process would take an expired lease
// for a live one. System reads a clock that does not stop:
//
//   - Linux: CLOCK_BOOTTIME.
//   - macOS: CLOCK_MONOTONIC_RAW, which goes on during sleep there.
//   - elsewhere: Go's monotonic time. If the wall clock ran ahead of it, the difference counts as time passed, since
//     the machine may have slept. A wall clock that somebody sets forward looks the same, and costs at worst a lease.
//
// A wall clock that is set back changes nothing on any system; one that is set forward changes nothing on Linux and
// macOS.
package clock

import (
	"sync/atomic"
	"time"
)

// Clock tells the time since some fixed moment. It never goes back. Implementations are safe for concurrent use.
type Clock interface {
	Now() time.Duration
}

// System returns this machine's clock. All Clocks that it returns tell the same time.
func System() Clock { return system{} }

type system struct{}

func (system) Now() time.Duration { return now() }

// recently is how long one reading of a Recent may be used again.
const recently = time.Millisecond

// Recent returns a clock for one goroutine that asks for the time again and again. Its answer may be a millisecond old,
// not counting any time that the machine slept meanwhile. For deciding what to do next that is as good as the clock
// itself, since as much time may pass between the decision and the action; and it is cheaper, since each reading is a
// system call. If c is not System, Recent returns c itself.
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

// Fake is a Clock for tests that stands still until Advance moves it. Its zero value stands at 0.
type Fake struct{ at atomic.Int64 }

// Now returns the sum of all that Advance was given.
func (f *Fake) Now() time.Duration { return time.Duration(f.at.Load()) }

// Advance moves the clock forward by d, which must not be negative.
func (f *Fake) Advance(d time.Duration) {
	if d < 0 {
		panic("clock: Advance by a negative duration")
	}
	f.at.Add(int64(d))
}
