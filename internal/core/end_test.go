package core

import (
	"testing"
	"time"
)

func TestEndingIsTerminatedThenReleasedNeverReleasedBefore(t *testing.T) {
	for _, test := range []struct {
		cause string
		end   func(*fixture)
		rest  []string
	}{
		{"moved", func(f *fixture) { f.own(false) }, []string{"unwatch 0"}},
		{"removed", func(f *fixture) { f.remove("a") }, nil},
		{"removed", func(f *fixture) { f.suspend("a", "v1") }, nil},
		{"stopped", func(f *fixture) { f.c.Stop(f.now) }, []string{"unwatch 0"}},
	} {
		t.Run(test.cause, func(t *testing.T) {
			f := handled(t)
			test.end(f)
			f.want("terminate a 110 " + test.cause)
			f.wait(time.Hour)
			f.want()
			f.done("a", OK)
			f.want("release a 110")
			if f.c.Idle() {
				t.Fatal("idle while releasing")
			}
			f.released("a", 112)
			f.want(test.rest...)
			f.noTimer()
			if !f.c.Idle() {
				t.Fatal("not idle")
			}
		})
	}
}

func TestOwnedAgainWhileTerminatingIsHandledUnderTheSameClaim(t *testing.T) {
	f := handled(t)
	f.own(false)
	f.want("terminate a 110 moved")
	f.own(true)
	f.want()
	f.done("a", OK)
	f.want("handle a 110 on 1 v1", "write-state a 110 claimed")
}

func TestOwnedAgainWhileReleasingIsClaimedAfreshOnTheSameWatch(t *testing.T) {
	f := handled(t)
	f.own(false)
	f.want("terminate a 110 moved")
	f.done("a", OK)
	f.want("release a 110")
	f.own(true)
	f.want()
	f.released("a", 112)
	f.want("claim a on 1")
	f.disappears("a", 112)
	f.claimed("a", 113)
	f.want("handle a 113 on 1 v1")
}

func TestOwnedAgainAfterTheReleaseIsWatchedAfresh(t *testing.T) {
	f := handled(t)
	f.own(false)
	f.want("terminate a 110 moved")
	f.done("a", OK)
	f.want("release a 110")
	f.released("a", 112)
	f.own(true)
	f.want("unwatch 0", "watch 0")
	f.snapshot([]string{"a"})
	f.want("claim a on 1")
}

func TestReleaseIsTriedUntilEtcdAnswers(t *testing.T) {
	f := handled(t)
	f.own(false)
	f.want("terminate a 110 moved")
	f.done("a", OK)
	for i, res := range []WriteResult{{Failed: true}, {Unknown: true}, {LeaseGone: true}} {
		f.want("release a 110")
		f.releaseResult("a", res)
		if i == 0 {
			f.want("write-state a 110 claimed")
			f.saved("a", 110)
		}
		f.want()
		f.tick(time.Second)
	}
	f.want("release a 110")
	f.releaseResult("a", WriteResult{Revision: 130, FoundToken: 125, FoundLease: 99}) // the lost one was applied
	f.want("unwatch 0")
}

func TestFailedReleaseIsGivenUpWhenTheClaimIsWantedAgain(t *testing.T) {
	f := handled(t)
	f.own(false)
	f.want("terminate a 110 moved")
	f.done("a", OK)
	f.want("release a 110")
	f.releaseResult("a", WriteResult{Failed: true})
	f.own(true)
	f.want("handle a 110 on 1 v1", "write-state a 110 claimed")
}

func TestClaimWhoseReleaseGotNoAnswerIsNotUsedAgain(t *testing.T) {
	f := handled(t)
	f.own(false)
	f.want("terminate a 110 moved")
	f.done("a", OK)
	f.want("release a 110")
	f.releaseResult("a", WriteResult{Unknown: true}) // it may be applied at any time
	f.own(true)
	f.wait(50 * time.Millisecond)
	f.releaseNotHandled()
	f.tick(time.Second)
	f.want("release a 110")
	f.released("a", 112)
	f.want("claim a on 1")
	f.claimed("a", 113)
	f.want("handle a 113 on 1 v1")
}

// releaseNotHandled takes the actions, and fails unless each writes a state.
func (f *fixture) releaseNotHandled() {
	f.t.Helper()
	for _, a := range f.c.Actions() {
		if a.Kind != WriteState {
			f.t.Fatalf("unexpected %s", describe(a))
		}
	}
}

func TestDeleteEventEndsAReleaseThatGotNoAnswer(t *testing.T) {
	f := handled(t)
	f.own(false)
	f.want("terminate a 110 moved")
	f.done("a", OK)
	f.want("release a 110")
	f.disappears("a", 112)
	f.want()
	f.releaseResult("a", WriteResult{Unknown: true})
	f.want("unwatch 0")
}

func TestDeleteEventAfterALostReleaseEndsIt(t *testing.T) {
	f := handled(t)
	f.own(false)
	f.want("terminate a 110 moved")
	f.done("a", OK)
	f.want("release a 110")
	f.releaseResult("a", WriteResult{Unknown: true})
	f.want("write-state a 110 claimed")
	f.saved("a", 110)
	f.disappears("a", 112)
	f.want("unwatch 0")
}

func TestFailedTerminateReleasesAnyway(t *testing.T) {
	for _, out := range []Outcome{Error, Panicked, TimedOut} {
		t.Run(out.String(), func(t *testing.T) {
			f := handled(t)
			f.own(false)
			f.want("terminate a 110 moved")
			f.done("a", out)
			f.want("release a 110")
		})
	}
}

func TestFailedTerminateUnderHoldIsTriedUntilItSucceeds(t *testing.T) {
	f := handled(t, holdUntilTerminated)
	f.own(false)
	f.want("terminate a 110 moved")
	var last time.Duration
	for i, out := range []Outcome{Error, Panicked, TimedOut, Error, Error} {
		f.done("a", out)
		if i == 0 {
			f.want("write-state a 110 failed boom")
			f.saved("a", 110)
		}
		f.want()
		f.wantHandled()
		pause := f.tick(8 * time.Second)
		if pause < last || pause < 750*time.Millisecond {
			t.Fatalf("a pause of %v after one of %v", pause, last)
		}
		last = pause / 2
		f.want("terminate a 110 moved")
	}
	f.done("a", OK)
	f.want("release a 110")
}

func TestFailedTerminateUnderHoldIsRetriedThoughWantedAgain(t *testing.T) {
	f := handled(t, holdUntilTerminated)
	f.own(false)
	f.want("terminate a 110 moved")
	f.done("a", Error)
	f.want("write-state a 110 failed boom")
	f.saved("a", 110)
	f.own(true)
	f.want()
	f.tick(time.Second)
	f.want("terminate a 110 failure")
	f.done("a", OK)
	f.want("handle a 110 on 1 v1", "write-state a 110 claimed")
}

func TestFailedTerminateUnderHoldOfALostClaimIsNotRetried(t *testing.T) {
	f := handled(t, holdUntilTerminated)
	f.disappears("a", 112)
	f.want("cancel a 110 claim-lost", "terminate a 110 claim-lost")
	f.done("a", Error)
	f.want("claim a on 1")
}

func TestStuckTerminateIsReleasedAndNotClaimedAgainBeforeItReturned(t *testing.T) {
	f := handled(t)
	f.own(false)
	f.want("terminate a 110 moved")
	f.hangs("a")
	f.want("release a 110")
	f.released("a", 112)
	f.own(true)
	f.want() // the core goes on following the shard, since a call has not returned yet
	if s := f.c.Stats(); s.Stuck != 1 || s.Calls != 0 || !f.c.Idle() {
		t.Fatalf("idle %v, stats: %+v", f.c.Idle(), s)
	}
	f.done("a", OK)
	f.want("claim a on 1")
	if s := f.c.Stats(); s.Stuck != 0 {
		t.Fatalf("stats: %+v", s)
	}
}

func TestStuckTerminateUnderHoldKeepsTheClaimUntilItReturned(t *testing.T) {
	f := handled(t, holdUntilTerminated)
	f.own(false)
	f.want("terminate a 110 moved")
	f.hangs("a")
	f.want("write-state a 110 failed hangs")
	f.saved("a", 110)
	f.wait(time.Hour)
	f.want()
	f.done("a", OK) // too late: it timed out
	f.want("terminate a 110 moved")
	f.done("a", OK)
	f.want("release a 110")
}

func TestStuckHandleIsReleasedAndTerminatedWhenItReturned(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.hangs("a")
	f.want("release a 110")
	f.released("a", 112)
	f.want()
	f.appears("a", 113, 99) // another member handles it meanwhile
	f.done("a", OK)
	f.want("cancel a 110 claim-lost", "terminate a 110 claim-lost")
	f.done("a", OK)
	f.want()
	f.disappears("a", 114)
	f.want("claim a on 1")
}

func TestStuckHandleUnderHoldKeepsTheClaimUntilItReturned(t *testing.T) {
	f := owning(t, []string{"a"}, holdUntilTerminated)
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.own(false)
	f.want("cancel a 110 moved")
	f.hangs("a")
	f.want("write-state a 110 failed hangs")
	f.saved("a", 110)
	f.wait(time.Hour)
	f.want()
	f.done("a", OK)
	f.want("terminate a 110 moved")
	f.done("a", OK)
	f.want("release a 110")
	f.released("a", 112)
	f.want("unwatch 0")
}

func TestStuckHandleThatReturnsWhileItsClaimIsReleasedIsTerminated(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.hangs("a")
	f.want("release a 110")
	f.done("a", OK)
	f.want()
	f.released("a", 112)
	f.want("cancel a 110 claim-lost", "terminate a 110 claim-lost")
	f.done("a", OK)
	f.want("claim a on 1")
}

func TestStuckUpdateIsReleasedAndTerminatedWhenItReturned(t *testing.T) {
	f := handled(t, canUpdate)
	f.entry("a", "v2")
	f.want("update a 110 on 1 v2")
	f.hangs("a")
	f.want("release a 110")
	f.released("a", 112)
	f.done("a", OK)
	f.want("cancel a 110 claim-lost", "terminate a 110 claim-lost")
}

func TestVanishedClaimIsCancelledTerminatedAndClaimedAfresh(t *testing.T) {
	f := handled(t)
	f.disappears("a", 112)
	f.wantHandled()
	f.want("cancel a 110 claim-lost", "terminate a 110 claim-lost")
	f.done("a", OK)
	f.want("claim a on 1")
}

func TestVanishedClaimDuringHandleIsCancelledTerminatedAndClaimedAfresh(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.disappears("a", 112)
	f.want("cancel a 110 claim-lost")
	f.done("a", Error)
	f.want("terminate a 110 claim-lost")
	f.done("a", OK)
	f.want("claim a on 1")
}

func TestVanishedClaimThatAnotherHasIsWaitedFor(t *testing.T) {
	f := handled(t)
	f.appears("a", 115, 99) // the delete event was compacted away
	f.want("cancel a 110 claim-lost", "terminate a 110 claim-lost")
	f.done("a", OK)
	f.want()
	f.disappears("a", 120)
	f.want("claim a on 1")
}

func TestVanishedClaimDoesNotWaitForAPlaceToBeCancelled(t *testing.T) {
	f := owning(t, []string{"a", "b"}, func(c *Config) { c.TerminateConcurrency = 1 })
	f.want("claim b on 1", "claim a on 1")
	f.claimed("a", 110)
	f.claimed("b", 111)
	f.want("handle a 110 on 1 v1", "handle b 111 on 1 v1")
	f.done("a", OK)
	f.done("b", OK)
	f.want("write-state a 110 active", "write-state b 111 active")
	f.remove("a")
	f.want("terminate a 110 removed")
	f.disappears("b", 113)
	f.want("cancel b 111 claim-lost")
	f.done("a", OK)
	f.want("release a 110", "terminate b 111 claim-lost")
}

func TestStopEndsIdleAndIgnoresWhatComesLater(t *testing.T) {
	f := owning(t, []string{"a", "b"})
	f.want("claim b on 1", "claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 110 active")
	if f.c.Idle() {
		t.Fatal("idle while handling")
	}
	f.c.Stop(f.now)
	f.c.Stop(f.now)
	f.want("terminate a 110 stopped")
	f.done("a", OK)
	f.want("release a 110")
	f.released("a", 112)
	if f.c.Idle() {
		t.Fatal("idle while claiming")
	}
	f.claimResult("b", WriteResult{Failed: true})
	f.want("unwatch 0")
	f.own(true)
	f.snapshot([]string{"a", "b"})
	f.entry("a", "v2")
	f.want()
	f.noTimer()
	if !f.c.Idle() {
		t.Fatal("not idle")
	}
}

func TestLostClaimThatAppearsAfterStopIsReleased(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Unknown: true})
	f.c.Stop(f.now)
	f.wait(time.Minute)
	f.want()
	if !f.c.Idle() {
		t.Fatal("not idle: a lost claim goes with its lease")
	}
	f.appears("a", 110, 1)
	f.want("release a 110")
}

func TestFailedTerminateUnderHoldKeepsAFencedLeaseFromBeingRevoked(t *testing.T) {
	f := handled(t, holdUntilTerminated)
	f.c.LeaseFenced(f.now, 1)
	f.want("terminate a 110 fenced")
	f.done("a", Error)
	f.want()
	f.tick(time.Second)
	f.want("terminate a 110 fenced")
	f.done("a", Error)
	f.want()
	f.disappears("a", 112) // it expired
	f.want("cancel a 110 claim-lost", "terminate a 110 claim-lost")
	f.done("a", Error)
	f.want("revoke 1", "need-lease")
}
