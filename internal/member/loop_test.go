package member

import (
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/clock"
)

// What the loop does because its time has come counts as work, also if a look comes before the timer: the machine may
// have slept, and timers do not count that.
func TestWhatIsDueCountsAsWorkThoughALookComesFirst(t *testing.T) {
	now := new(clock.Fake)
	l := newLoop(now)
	works := make(chan time.Duration, 10)
	step := func(now time.Duration) (time.Duration, bool) { return now + time.Hour, true }
	go l.run(step, func() { works <- now.Now() })
	defer func() { close(l.end); <-l.ended }()
	nothing := func(time.Duration) {}
	l.ask(nothing)
	l.look(nothing) // the loop has taken what was asked
	l.look(nothing)
	l.look(nothing)
	if n := len(works); n != 1 {
		t.Fatalf("worked %d times, want once: a look changes nothing", n)
	}
	now.Advance(2 * time.Hour)
	l.look(nothing)
	l.look(nothing)
	if n := len(works); n != 2 {
		t.Errorf("worked %d times, want twice: something was due", n)
	}
}
