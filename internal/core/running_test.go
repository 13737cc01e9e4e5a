package core

import (
	"testing"
	"time"
)

func (f *fixture) runs(message string)    { f.c.CallRuns(f.now, 0, "a", message) }
func (f *fixture) failing(message string) { f.c.CallFailing(f.now, 0, "a", message) }

func TestACallThatTakesLongIsToldOfOnceAndUntilItEnds(t *testing.T) {
	f := startHandling(t)
	f.runs("handle has been running since noon")
	f.want("write-state a 110 claimed handle has been running since noon")
	f.saved("a", 110)
	f.pass(time.Minute)
	f.c.Tick(f.now)
	f.want() // it is not written again while nothing new is known
	f.done("a", OK)
	f.want("write-state a 110 active")
}

func TestACallThatTakesLongTellsWhatTheTryBeforeFailedOf(t *testing.T) {
	f := startHandling(t)
	f.done("a", Error)
	f.want("write-state a 110 failed boom")
	f.saved("a", 110)
	f.tick(time.Second)
	f.want("handle a 110 on 1 v1") // an ordinary try writes nothing
	f.runs("handle has been running since noon")
	f.want("write-state a 110 failed handle has been running since noon; try 2; the last one: boom")
	f.saved("a", 110)
	f.done("a", Error)
	f.want("write-state a 110 failed boom") // the same failure as before, and no call in progress
}

func TestAnUpdateOrTerminateThatTakesLongLeavesTheStateAsItIs(t *testing.T) {
	f := startUpdating(t)
	f.runs("update has been running since noon")
	f.want("write-state a 110 active update has been running since noon")
	f.saved("a", 110)
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.saved("a", 110)
	f.remove("a")
	f.want("terminate a 110 removed")
	f.runs("terminate has been running since one")
	f.want("write-state a 110 active terminate has been running since one")
	f.saved("a", 110)
	f.done("a", OK)
	f.want("release a 110") // and no write besides
}

// A summary says only that claims are active, so it must not stand for a claim whose key has more to say.
func TestNoSummaryStandsForACallThatTakesLong(t *testing.T) {
	f := startHandling(t, canUpdate, func(cfg *Config) { cfg.SummaryLeast = 1 })
	f.done("a", OK)
	f.want("write-summary on 1 to 110")
	f.c.SummaryDone(f.now, 0, 1, 110, WriteResult{Applied: true, Revision: 120})
	f.entry("a", "v2")
	f.want("update a 110 on 1 v2")
	f.runs("update has been running since noon")
	f.want("write-state a 110 active update has been running since noon")
}

func TestWhatIsSaidOfACallEndsWithIt(t *testing.T) {
	f := startHandling(t)
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.saved("a", 110)
	f.runs("too late")
	f.failing("too late")
	f.want()
}

// The claim's key shows a failure before the handler has been told of it, since that may take as long as the call did.
func TestAFailureIsToldBeforeItsCallIsOver(t *testing.T) {
	f := startHandling(t)
	f.runs("handle has been running since noon")
	f.want("write-state a 110 claimed handle has been running since noon")
	f.saved("a", 110)
	f.failing("boom")
	f.want("write-state a 110 failed boom")
	f.saved("a", 110)
	f.done("a", Error)
	f.want() // that is known
	f.tick(time.Second)
	f.want("handle a 110 on 1 v1")
}

func TestATerminateThatFailsIsToldOfWhereTheClaimIsKept(t *testing.T) {
	for _, hold := range []bool{true, false} {
		f := handled(t, func(cfg *Config) { cfg.HoldUntilTerminated = hold })
		f.remove("a")
		f.want("terminate a 110 removed")
		f.failing("boom")
		if hold {
			f.want("write-state a 110 failed boom")
		} else {
			f.want()
		}
	}
}

// While there is time, the core waits for the outcome of a call that must be finished. Terminate needs the rest of the
// time.
func TestHastenCancelsWhatWasToBeFinished(t *testing.T) {
	f := startHandling(t, finishCalls)
	f.c.Stop(f.now)
	f.want()
	f.c.Hasten(f.now)
	f.want("cancel a 110 stopped")
	f.c.Hasten(f.now)
	f.want()
	f.done("a", Cut)
	f.wantCall("terminate a 110 stopped")
}
