package core

import (
	"testing"
	"time"
)

func (f *fixture) broke(id string)  { f.c.Broke(f.now, 0, id, "disconnected") }
func (f *fixture) lapsed(id string) { f.c.Lapsed(f.now, 0, id) }

func TestWhatBrokeIsTerminatedAndHandledAgainAfterAPause(t *testing.T) {
	f := handled(t)
	f.broke("a")
	f.want("terminate a 110 failure", "write-state a 110 failed disconnected")
	f.wantHandled()
	f.saved("a", 110)
	f.broke("a") // it is ending already
	f.done("a", OK)
	f.want()
	if waited := f.tick(time.Second); waited < 700*time.Millisecond {
		t.Errorf("handled again after %v", waited)
	}
	f.want("handle a 110 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.wantHandled("a")
}

func TestThePauseGrowsWhileAResourceGoesOnToBreak(t *testing.T) {
	f := handled(t)
	again := func() time.Duration {
		f.broke("a")
		f.want("terminate a 110 failure", "write-state a 110 failed disconnected")
		f.saved("a", 110)
		f.done("a", OK)
		f.want()
		waited := f.tick(testConfig().BackoffMax)
		f.want("handle a 110 on 1 v1")
		f.done("a", OK)
		f.want("write-state a 110 active")
		f.saved("a", 110)
		f.want()
		return waited
	}
	first, second, third := again(), again(), again()
	if second <= first || third <= second {
		t.Errorf("pauses %v, %v, %v", first, second, third)
	}
	f.pass(testConfig().BackoffMax)
	if last := again(); last >= second {
		t.Errorf("a pause of %v after it had worked for long, %v at first", last, first)
	}
}

func TestWhatBreaksAgainAndAgainUsesUpItsAttempts(t *testing.T) {
	f := handled(t, func(c *Config) { c.HandleAttempts = 2 })
	f.broke("a")
	f.want("terminate a 110 failure", "write-state a 110 failed disconnected")
	f.saved("a", 110)
	f.done("a", OK)
	f.want()
	f.tick(time.Second)
	f.want("handle a 110 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.saved("a", 110)
	f.want()
	f.broke("a")
	f.want("terminate a 110 failure", "write-state a 110 failed disconnected")
	f.saved("a", 110)
	f.done("a", OK)
	f.want()
	f.noTimer()
	f.c.RetryHandles(f.now)
	f.want("handle a 110 on 1 v1")
}

func TestWhatBreaksWhileHandleRunsIsTerminatedAfterIt(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.broke("a")
	f.want("write-state a 110 failed disconnected")
	f.saved("a", 110)
	f.done("a", OK)
	f.want("terminate a 110 failure")
	f.done("a", OK)
	f.want()
	f.tick(time.Second)
	f.want("handle a 110 on 1 v1")
}

func TestWhatBreaksWhileAnUpdateRunsIsTerminatedAfterIt(t *testing.T) {
	f := handled(t, func(c *Config) { c.CanUpdate = true })
	f.entry("a", "v2")
	f.want("update a 110 on 1 v2")
	f.broke("a")
	f.want("write-state a 110 failed disconnected")
	f.saved("a", 110)
	f.done("a", OK)
	f.want("terminate a 110 failure")
}

func TestWhatHasLapsedIsHandledAgainAtOnceAndNotTerminated(t *testing.T) {
	f := handled(t)
	f.lapsed("a")
	f.want("cancel a 110 gone", "handle a 110 on 1 v1", "write-state a 110 claimed")
	f.saved("a", 110)
	f.wantHandled()
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.wantHandled("a")
}

// Something may be left of what has lapsed by somebody's word alone. Where no Handle replaces it, it is terminated
// before its claim goes.
func TestWhatHasLapsedIsTerminatedIfItsClaimEndsBeforeItIsHandledAgain(t *testing.T) {
	waiting := func() *fixture {
		f := handled(t, func(c *Config) { c.HandleConcurrency = 1 })
		f.entry("b", "v1")
		f.want("claim b on 1")
		f.claimed("b", 111)
		f.want("handle b 111 on 1 v1")
		f.lapsed("a")
		f.want("cancel a 110 gone", "write-state a 110 claimed")
		f.saved("a", 110)
		f.lapsed("a") // it is known
		f.want()
		f.wantHandled()
		return f
	}
	called := func() *fixture {
		f := waiting()
		f.done("b", OK)
		f.want("handle a 110 on 1 v1", "write-state b 111 active")
		f.saved("b", 111)
		return f
	}
	t.Run("removed", func(t *testing.T) {
		f := waiting()
		f.remove("a")
		f.want("terminate a 110 removed")
		f.done("a", OK)
		f.want("release a 110")
	})
	t.Run("changed", func(t *testing.T) {
		f := waiting()
		f.entry("a", "v2")
		f.want()
		f.done("b", OK)
		f.want("handle a 110 on 1 v2", "write-state b 111 active")
	})
	t.Run("refused", func(t *testing.T) {
		f := called()
		f.remove("a")
		f.want("cancel a 110 removed")
		f.done("a", Refused)
		f.want("terminate a 110 removed")
	})
	t.Run("refused, and wanted again", func(t *testing.T) {
		f := called()
		f.remove("a")
		f.want("cancel a 110 removed")
		f.entry("a", "v1")
		f.done("a", Refused)
		f.want("terminate a 110 failure")
	})
	t.Run("failed", func(t *testing.T) {
		f := called()
		f.done("a", Error) // the handler has nothing
		f.want("write-state a 110 failed boom")
		f.saved("a", 110)
		f.remove("a")
		f.want("release a 110")
	})
}

func TestWhatLapsesDuringACallIsHandledAgainAfterIt(t *testing.T) {
	f := owning(t, []string{"a"}, func(c *Config) { c.CanUpdate = true })
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.lapsed("a")
	f.want()
	f.done("a", OK)
	f.want("cancel a 110 gone", "handle a 110 on 1 v1", "write-state a 110 claimed")
	f.saved("a", 110)
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.saved("a", 110)
	f.entry("a", "v2")
	f.want("update a 110 on 1 v2")
	f.lapsed("a")
	f.done("a", Error) // of course: the service does not know the resource
	f.want("cancel a 110 gone", "handle a 110 on 1 v2", "write-state a 110 claimed")
}

// A Handle that may have begun is terminated, since nobody knows whether that was before or after the lapse.
func TestAHandleOfUnknownOutcomeIsTerminatedThoughItMayHaveLapsed(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.lapsed("a")
	f.done("a", Unclear)
	f.want("terminate a 110 failure", "write-state a 110 failed boom")
}

func TestWhatMayHaveLapsedIsTerminatedAndHandledAgainAtOnce(t *testing.T) {
	f := handled(t)
	f.c.Doubt(f.now, 0, "a")
	f.want("terminate a 110 failure", "write-state a 110 claimed")
	f.c.Doubt(f.now, 0, "a") // the call decides
	f.saved("a", 110)
	f.done("a", OK)
	f.want("handle a 110 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.wantHandled("a")
}

func TestNothingLapsesThatIsEnding(t *testing.T) {
	f := handled(t)
	f.remove("a")
	f.want("terminate a 110 removed")
	f.lapsed("a")
	f.broke("a")
	f.want()
	f.done("a", OK)
	f.want("release a 110")
	f.lapsed("a")
	f.released("a", 200)
	f.want()
	f.lapsed("a")
	f.lapsed("nobody")
	f.want()
}

func TestAStuckCallKeepsItsResourceFromLapsing(t *testing.T) {
	f := handled(t)
	f.entry("a", "v2")
	f.want("terminate a 110 changed")
	f.hangs("a")
	f.want("release a 110")
	f.lapsed("a")
	f.broke("a")
	f.want()
}
