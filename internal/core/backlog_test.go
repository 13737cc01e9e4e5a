package core

import (
	"fmt"
	"testing"
	"time"
)

// Claims beyond the backlog wait, in order, and each answer makes room for the next.
func TestWriteBacklogBoundsClaims(t *testing.T) {
	f := owning(t, []string{"d", "c", "b", "a"}, func(c *Config) { c.WriteBacklog = 2 })
	f.want("claim a on 1", "claim b on 1")
	f.want()
	f.remove("c") // its claim still waits
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1", "claim d on 1")
	f.claimResult("b", WriteResult{Failed: true}) // it tries again later
	f.want()
	f.claimed("d", 111)
	f.want("handle d 111 on 1 v1")
	f.wait(time.Second)
	f.want("claim b on 1")
}

// The core asks for no lease on behalf of claims that nobody wants any more.
func TestClaimsThatAreNotWantedAnyMoreAskForNoLease(t *testing.T) {
	f := newFixture(t)
	f.own(true)
	f.want("watch 0")
	f.snapshot([]string{"a"})
	f.c.PauseClaims(f.now, true)
	f.want()
	f.c.PauseClaims(f.now, false)
	f.want("need-lease")
	f.c.LeaseReady(f.now, 1)
	f.want("claim a on 1")
}

// States wait until few claims are on their way or waiting, but no longer than StateDelay.
func TestStatesLetClaimsGoFirst(t *testing.T) {
	ids := make([]string, 130)
	for i := range ids {
		ids[i] = fmt.Sprintf("r%03d", len(ids)-1-i)
	}
	f := owning(t, ids, func(c *Config) { c.WriteBacklog = 64; c.StateDelay = 3 * time.Second })
	f.c.Actions() // the claims of the first 64
	f.claimed("r000", 110)
	f.claimed("r001", 111)
	f.want("handle r000 110 on 1 v1", "handle r001 111 on 1 v1", "claim r064 on 1", "claim r065 on 1")
	f.done("r000", OK)
	f.done("r001", OK)
	f.pass(time.Second)
	f.want()
	f.pass(2 * time.Second)
	f.c.Tick(f.now)
	f.want("write-state r000 110 active", "write-state r001 111 active")
}

// While some claims are on their way, but not many, states wait for a hundredth of StateDelay; with few, not at all.
// Where many states have come at once they wait for as long, since other members may have claims to write.
func TestStatesLetTheLastClaimsGoFirst(t *testing.T) {
	const short = 30 * time.Millisecond
	for _, test := range []struct {
		done, left int
		wait       time.Duration
	}{{1, 7, 0}, {1, 8, short}, {1, 100, short}, {63, 0, 0}, {64, 0, short}} {
		t.Run(fmt.Sprintf("%d done, %d left", test.done, test.left), func(t *testing.T) {
			ids := make([]string, test.done+test.left)
			for i := range ids {
				ids[i] = fmt.Sprintf("r%03d", len(ids)-1-i)
			}
			f := owning(t, ids, func(c *Config) {
				c.WriteBacklog, c.HandleConcurrency, c.StateDelay = 64*128, 64, 3*time.Second
			})
			f.c.Actions()
			for n := range test.done {
				f.claimed(fmt.Sprintf("r%03d", n), int64(110+n))
			}
			f.c.Actions()
			for n := range test.done {
				f.done(fmt.Sprintf("r%03d", n), OK)
			}
			if test.wait > 0 {
				f.pass(test.wait - time.Millisecond)
				f.want()
				f.pass(time.Millisecond)
				f.c.Tick(f.now)
			}
			if got := len(f.c.Actions()); got != test.done {
				t.Errorf("%d states were written, want %d", got, test.done)
			}
		})
	}
}

// handlingTwo makes a Core with a backlog of one, in which Handle of "a" under token 110 and of "b" under 111 is in
// progress.
func handlingTwo(t *testing.T) *fixture {
	f := owning(t, []string{"b", "a"}, func(c *Config) { c.WriteBacklog = 1 })
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1", "claim b on 1")
	f.claimed("b", 111)
	f.want("handle b 111 on 1 v1")
	return f
}

// The backlog also bounds states.
func TestWriteBacklogBoundsStates(t *testing.T) {
	f := handlingTwo(t)
	f.done("a", OK)
	f.done("b", OK)
	f.want("write-state a 110 active")
	f.saved("a", 110)
	f.want("write-state b 111 active")
}

// A state of a resource that is dropped before the answer comes takes no room any more.
func TestWhoIsForgottenTakesNoPlaceInTheBacklog(t *testing.T) {
	f := handlingTwo(t)
	f.done("a", OK)
	f.want("write-state a 110 active") // which is never answered
	f.remove("a")
	f.want("terminate a 110 removed")
	f.done("a", OK)
	f.want("release a 110")
	f.released("a", 112)
	f.done("b", OK)
	f.want("write-state b 111 active")
}

// A queue that is never empty takes no more room than what waits in it needs.
func TestQueuesThatAreNeverEmptyDoNotGrow(t *testing.T) {
	calls, states := queue{id: handleQueue}, stateQueue{}
	first := &resource{}
	calls.push(first)
	states.push(first, 0)
	for range 10_000 {
		r := &resource{}
		calls.push(r)
		states.push(r, 0)
		if calls.pop() == nil || states.pop() == nil {
			t.Fatal("nothing waits")
		}
	}
	if max(len(calls.items), len(states.items)) > 10 {
		t.Errorf("one waits for its call, in a queue of %d, and one for its state to be written, in one of %d",
			len(calls.items), len(states.items))
	}
}
