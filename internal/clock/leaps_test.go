package clock

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestALeapIsToldAndTheTimeThatPassesIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fake Fake
		began := time.Now()
		both := func() Clock { return sum{&fake, began} }
		l, end := &Leaps{told: map[int]func(){}}, make(chan struct{})
		var leaps atomic.Int64
		l.told[1] = func() { leaps.Add(1) }
		go l.run(end, both(), time.Now)
		time.Sleep(time.Hour)
		if n := leaps.Load(); n != 0 {
			t.Errorf("%d leaps in an hour that passed like any other", n)
		}
		for n := range int64(3) {
			fake.Advance(time.Minute) // the machine slept
			time.Sleep(2 * look)
			if got := leaps.Load(); got != n+1 {
				t.Errorf("%d leaps were told, want %d", got, n+1)
			}
		}
		close(end)
	})
}

// sum is a clock that goes with the timers, and ahead of them as far as the fake clock was moved.
type sum struct {
	fake  *Fake
	began time.Time
}

func (s sum) Now() time.Duration { return time.Since(s.began) + s.fake.Now() }

func TestLeapsHasAGoroutineOnlyWhileSomebodyWantsToKnow(t *testing.T) {
	var l Leaps
	for range 3 {
		one, other := l.Tell(func() {}), l.Tell(func() {})
		one()
		one()
		other()
		l.Close()
	}
}

// Whoever ends late, or never, does not hold up the end of what it shares.
func TestCloseOfLeapsDoesNotWaitForWhoHasNotForgotten(t *testing.T) {
	var l Leaps
	one, other := l.Tell(func() {}), l.Tell(func() {})
	closed := make(chan struct{})
	go func() { l.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("Close waits")
	}
	one()
	other()
	l.Close()
}
