package core

import (
	"testing"
	"time"
)

func TestSameDataAgainDoesNothing(t *testing.T) {
	f := handled(t, canUpdate)
	f.entry("a", "v1") // only its flags changed
	f.want()
	f.wantHandled("a")
}

func canUpdate(c *Config)           { c.CanUpdate = true }
func holdUntilTerminated(c *Config) { c.HoldUntilTerminated = true }

func TestChangedDataIsUpdatedInPlace(t *testing.T) {
	f := handled(t, canUpdate)
	f.entry("a", "v2")
	f.want("update a 110 on 1 v2")
	f.wantHandled("a")
	f.entry("a", "v3")
	f.want()
	f.done("a", OK)
	f.want("update a 110 on 1 v3")
	f.done("a", OK)
	f.want()
	f.wantHandled("a")
}

func TestChangedDataWithoutUpdateIsTerminatedAndHandledUnderTheSameClaim(t *testing.T) {
	f := handled(t)
	f.entry("a", "v2")
	f.want("terminate a 110 changed")
	f.wantHandled()
	f.done("a", OK)
	f.want("handle a 110 on 1 v2", "write-state a 110 claimed")
	f.done("a", OK)
	f.want()
	f.saved("a", 110)
	f.want("write-state a 110 active")
}

func TestFailedUpdateIsTerminatedAndHandledAnew(t *testing.T) {
	for _, out := range []Outcome{Error, Panicked, TimedOut} {
		t.Run(out.String(), func(t *testing.T) {
			f := handled(t, canUpdate)
			f.entry("a", "v2")
			f.want("update a 110 on 1 v2")
			f.done("a", out)
			f.want("terminate a 110 failure")
			f.wantHandled()
			f.entry("a", "v3") // the core does not update in place, even with newer data
			f.done("a", OK)
			f.want("handle a 110 on 1 v3", "write-state a 110 claimed")
		})
	}
}

func TestCancelledUpdateIsTerminatedEvenIfItsCauseWentAway(t *testing.T) {
	f := handled(t, canUpdate)
	f.entry("a", "v2")
	f.want("update a 110 on 1 v2")
	f.own(false)
	f.want("cancel a 110 moved")
	f.own(true)
	f.want()
	f.done("a", OK)
	f.want("terminate a 110 failure")
}

func TestHandleErrorFailsBacksOffAndRetriesWithoutTerminate(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	var last time.Duration
	for i := range 6 {
		f.done("a", Error)
		if i == 0 {
			f.want("write-state a 110 failed boom")
			f.saved("a", 110)
		}
		f.want()
		if s := f.c.Stats(); s.Failed != 1 || s.Active != 0 {
			t.Fatalf("stats: %+v", s)
		}
		pause := f.tick(8 * time.Second)
		if pause < last || pause < 750*time.Millisecond {
			t.Fatalf("a pause of %v after one of %v", pause, last)
		}
		last = pause / 2
		f.want("handle a 110 on 1 v1")
	}
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.wantHandled("a")
}

func TestHandleThatPanickedOrTimedOutIsTerminatedThenRetried(t *testing.T) {
	for _, out := range []Outcome{Panicked, TimedOut} {
		t.Run(out.String(), func(t *testing.T) {
			f := owning(t, []string{"a"})
			f.want("claim a on 1")
			f.claimed("a", 110)
			f.want("handle a 110 on 1 v1")
			f.done("a", out)
			f.want("terminate a 110 failure", "write-state a 110 failed boom")
			f.wantHandled()
			f.saved("a", 110)
			f.done("a", OK)
			f.want() // its state is still failed
			f.tick(time.Second)
			f.want("handle a 110 on 1 v1")
			f.done("a", OK)
			f.want("write-state a 110 active")
		})
	}
}

func TestHandleAttemptsLeaveItFailedUntilItsDataChange(t *testing.T) {
	f := owning(t, []string{"a"}, func(c *Config) { c.HandleAttempts = 2 })
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", Error)
	f.want("write-state a 110 failed boom")
	f.saved("a", 110)
	f.tick(time.Second)
	f.want("handle a 110 on 1 v1")
	f.done("a", Error)
	f.want()
	f.noTimer()
	f.entry("a", "v1")
	f.want()
	f.entry("a", "v2")
	f.want("handle a 110 on 1 v2")
}

func TestFailureWithDataThatHaveChangedSinceCountsForNothing(t *testing.T) {
	for _, test := range []struct {
		name string
		fail func(*fixture)
		want []string
	}{
		{
			"error", func(f *fixture) { f.done("a", Error) },
			[]string{"handle a 110 on 1 v2", "write-state a 110 failed boom"},
		},
		{
			"time", func(f *fixture) { f.done("a", TimedOut) },
			[]string{"terminate a 110 failure", "write-state a 110 failed boom"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := owning(t, []string{"a"}, func(c *Config) { c.HandleAttempts = 1 })
			f.want("claim a on 1")
			f.claimed("a", 110)
			f.want("handle a 110 on 1 v1")
			f.entry("a", "v2")
			test.fail(f)
			f.want(test.want...)
			if test.name == "time" {
				f.done("a", OK)
				f.want("handle a 110 on 1 v2")
			}
			f.done("a", Error)
			f.want()
			f.noTimer()
		})
	}
}

func TestHandleAttemptsCountAfreshUnderANewClaim(t *testing.T) {
	f := owning(t, []string{"a"}, func(c *Config) { c.HandleAttempts = 1 })
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", Error)
	f.want("write-state a 110 failed boom")
	f.own(false)
	f.want("release a 110")
	f.own(true)
	f.released("a", 112)
	f.want("claim a on 1")
	f.claimed("a", 113)
	f.want("handle a 113 on 1 v1")
}

func TestDeallocatedDuringASlowHandleEndsUnhandled(t *testing.T) {
	for _, out := range []Outcome{OK, Error, Panicked, TimedOut} {
		t.Run(out.String(), func(t *testing.T) {
			f := owning(t, []string{"a"})
			f.want("claim a on 1")
			f.claimed("a", 110)
			f.want("handle a 110 on 1 v1")
			f.remove("a")
			f.want("cancel a 110 removed")
			f.done("a", out) // whatever it returned, since its context had ended
			f.wantHandled()
			f.want("terminate a 110 removed")
			f.done("a", OK)
			f.want("release a 110")
			f.released("a", 112)
			f.want()
			if s := f.c.Stats(); s.Known != 0 {
				t.Fatalf("stats: %+v", s)
			}
		})
	}
}

func TestCancelledHandleIsTerminatedEvenIfItsCauseWentAway(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.suspend("a", "v1")
	f.want("cancel a 110 removed")
	f.entry("a", "v1")
	f.want()
	f.done("a", OK)
	f.want("terminate a 110 failure")
	f.done("a", OK)
	f.want("handle a 110 on 1 v1")
}

func TestHandleThatWasCancelledBeforeItBeganIsNotTerminated(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.own(false)
	f.want("cancel a 110 moved")
	f.done("a", Refused)
	f.want("release a 110")
	f.released("a", 112)
	f.want("unwatch 0")
}

func TestHandleWhoseTerminateIsDueCancelsOnlyOnce(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.own(false)
	f.want("cancel a 110 moved")
	f.remove("a")
	f.c.Stop(f.now)
	f.c.LeaseFenced(f.now, 1)
	f.want()
	f.done("a", OK)
	f.want("terminate a 110 fenced")
}

func TestStateThatCouldNotBeWrittenIsWrittenAgain(t *testing.T) {
	for name, res := range map[string]WriteResult{"unknown": {Unknown: true}, "failed": {Failed: true}} {
		t.Run(name, func(t *testing.T) {
			f := owning(t, []string{"a"})
			f.want("claim a on 1")
			f.claimed("a", 110)
			f.want("handle a 110 on 1 v1")
			f.done("a", OK)
			f.want("write-state a 110 active")
			f.c.StateDone(f.now, 0, "a", 110, res)
			f.want()
			f.tick(time.Second)
			f.want("write-state a 110 active")
			f.saved("a", 110)
			f.want()
			if res.Unknown { // the state whose answer was lost may be applied after a newer one
				f.entry("a", "v2")
				f.want("terminate a 110 changed")
				f.done("a", OK)
				f.want("handle a 110 on 1 v2", "write-state a 110 claimed")
				f.saved("a", 110)
				f.done("a", OK)
				f.want("write-state a 110 active")
				f.saved("a", 110)
				f.wait(testConfig().UncertainFor)
				f.want("write-state a 110 active")
				f.saved("a", 110)
			}
			f.want()
			f.noTimer()
		})
	}
}

func TestStatesAreWrittenOneAtATimeAndTheLastOneStays(t *testing.T) {
	f := handled(t)
	f.entry("a", "v2")
	f.want("terminate a 110 changed")
	f.done("a", OK)
	f.want("handle a 110 on 1 v2", "write-state a 110 claimed")
	f.done("a", Error)
	f.want()
	f.tick(time.Second)
	f.want("handle a 110 on 1 v2")
	f.done("a", OK)
	f.want()
	f.saved("a", 110)
	f.want("write-state a 110 active")
}

func TestReleaseIsNotPrecededByAStateWrite(t *testing.T) {
	f := handled(t)
	f.own(false)
	f.want("terminate a 110 moved")
	f.done("a", OK)
	f.want("release a 110")
}

func TestStateAnswerOfAnEarlierClaimIsNotTakenForThisOnes(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 110 active") // no answer yet
	f.own(false)
	f.want("terminate a 110 moved")
	f.done("a", OK)
	f.want("release a 110")
	f.released("a", 112)
	f.want("unwatch 0")
	f.own(true)
	f.snapshot([]string{"a"})
	f.want("watch 0", "claim a on 1")
	f.claimed("a", 120)
	f.want("handle a 120 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 120 active")
	f.c.StateDone(f.now, 0, "a", 110, WriteResult{LeaseGone: true})
	f.want()
	f.c.StateDone(f.now, 0, "a", 120, WriteResult{Failed: true})
	f.tick(time.Second)
	f.want("write-state a 120 active")
}

func TestStateWriteThatFindsTheClaimGoneEndsTheHandling(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.c.StateDone(f.now, 0, "a", 110, WriteResult{Revision: 120})
	f.wantHandled()
	f.want("cancel a 110 claim-lost", "terminate a 110 claim-lost")
	f.done("a", OK)
	f.want("claim a on 1")
}
