package clock

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSystemClockKeepsPaceWithMonotonicTime(t *testing.T) {
	c := System()
	began, at := time.Now(), c.Now()
	for i := 0; i < 1000; i++ {
		next := System().Now()
		if next < at {
			t.Fatalf("went back from %v to %v", at, next)
		}
		at = next
	}
	at = c.Now()
	<-time.After(50 * time.Millisecond)
	passed := c.Now() - at
	if limit := time.Since(began) + 100*time.Millisecond; passed < 49*time.Millisecond || passed > limit {
		t.Errorf("in 50 ms %v passed, want 49 ms to %v", passed, limit)
	}
}

func TestRecentIsAtMostAMillisecondBehind(t *testing.T) {
	c := Recent(System())
	began, at := time.Now(), System().Now()
	for time.Since(began) < 50*time.Millisecond {
		before := System().Now()
		next := c.Now()
		if next < at || next < before-recently {
			t.Fatalf("says %v, after %v at %v", next, at, before)
		}
		at = next
	}
}

func TestRecentOfAnotherClockIsThatClock(t *testing.T) {
	var f Fake
	c := Recent(&f)
	before := c.Now()
	f.Advance(time.Microsecond)
	if at := c.Now(); at-before != time.Microsecond {
		t.Errorf("%v after a microsecond", at-before)
	}
}

func TestFakeClockStandsStill(t *testing.T) {
	var c Fake
	c.Advance(time.Second)
	if a, b := c.Now(), c.Now(); a != time.Second || b != a {
		t.Errorf("got %v, then %v, want 1s twice", a, b)
	}
	defer func() {
		if recover() == nil {
			t.Error("a clock went back")
		}
	}()
	c.Advance(-1)
}

func TestSkips(t *testing.T) {
	const ms = time.Millisecond
	type reading struct{ mono, wall, want time.Duration }
	for _, test := range []struct {
		name     string
		readings []reading
	}{
		{"in step", []reading{{0, 0, 0}, {100 * ms, 100 * ms, 100 * ms}}},
		{"slept", []reading{{100 * ms, 5100 * ms, 5100 * ms}, {200 * ms, 5200 * ms, 5200 * ms}}},
		{"set back", []reading{{100 * ms, -time.Hour, 100 * ms}, {200 * ms, 100*ms - time.Hour, 200 * ms}}},
		{
			"slept after it was set back",
			[]reading{{100 * ms, -time.Hour, 100 * ms}, {200 * ms, time.Second - time.Hour, 1100 * ms}},
		},
		{
			"coarse wall clock",
			[]reading{
				{15 * ms, 0, 15 * ms},
				{16 * ms, 16 * ms, 16 * ms},
				{30 * ms, 16 * ms, 30 * ms},
				{32 * ms, 32 * ms, 32 * ms},
			},
		},
		{"slowly ahead", []reading{{100 * ms, 140 * ms, 100 * ms}, {200 * ms, 280 * ms, 280 * ms}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s skips
			for i, r := range test.readings {
				if got := s.now(r.mono, r.wall); got != r.want {
					t.Errorf("reading %d: got %v, want %v", i, got, r.want)
				}
			}
		})
	}
}

// Whatever the wall clock does, time passes at least as fast as the monotonic clock says; and a sleep counts, less the
// tolerance.
func TestSkipsNeverLoseTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s skips
		var mono, wall, last time.Duration
		step := rapid.Int64Range(0, int64(time.Minute))
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			ran := time.Duration(step.Draw(t, "ran"))
			slept := time.Duration(step.Draw(t, "slept"))
			back := time.Duration(0)
			if rapid.Bool().Draw(t, "set back instead") {
				slept, back = 0, slept
			}
			mono += ran
			wall += ran + slept - back
			at := s.now(mono, wall)
			if passed := at - last; passed < ran || passed < ran+slept-skipTolerance {
				t.Fatalf("ran %v and slept %v, but %v passed", ran, slept, passed)
			}
			last = at
		}
	})
}

func BenchmarkSystem(b *testing.B) {
	c := System()
	for b.Loop() {
		c.Now()
	}
}

func Example() {
	var c Fake // System() outside of tests
	deadline := c.Now() + 5*time.Second
	fmt.Println(deadline - c.Now())
	c.Advance(time.Hour) // as if the machine had slept
	fmt.Println(deadline-c.Now() > 0)
	// Output:
	// 5s
	// false
}
