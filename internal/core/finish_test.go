package core

import "testing"

func finishCalls(c *Config) { c.FinishCalls = true }

// startHandling makes a Core whose Handle of "a" under token 110 is in progress.
func startHandling(t *testing.T, change ...func(*Config)) *fixture {
	f := owning(t, []string{"a"}, change...)
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	return f
}

// startUpdating makes a Core whose Update of "a" to "v2" is in progress.
func startUpdating(t *testing.T, change ...func(*Config)) *fixture {
	f := handled(t, append(change, canUpdate)...)
	f.entry("a", "v2")
	f.want("update a 110 on 1 v2")
	return f
}

// callsInProgress make a Core with a call in progress that FinishCalls protects.
var callsInProgress = map[string]func(*testing.T, ...func(*Config)) *fixture{
	"handle": startHandling, "update": startUpdating,
}

// wantCall wants one action, and allows that a state is written besides.
func (f *fixture) wantCall(action string) {
	f.t.Helper()
	var got []string
	for _, a := range f.c.Actions() {
		if a.Kind != WriteState {
			got = append(got, describe(a))
		}
	}
	if len(got) != 1 || got[0] != action {
		f.t.Fatalf("actions %q, want %q", got, action)
	}
}

func TestACallThatIsToBeFinishedIsNotCancelledInOrder(t *testing.T) {
	for _, test := range []struct {
		name, cause string
		end         func(*fixture)
	}{
		{"moved", "moved", func(f *fixture) { f.own(false) }},
		{"removed", "removed", func(f *fixture) { f.remove("a") }},
		{"suspended", "removed", func(f *fixture) { f.suspend("a", "v1") }},
		{"stopped", "stopped", func(f *fixture) { f.c.Stop(f.now) }},
		{"fenced", "fenced", func(f *fixture) { f.c.LeaseFenced(f.now, 1) }},
	} {
		for name, begin := range callsInProgress {
			for _, out := range []Outcome{OK, Panicked, TimedOut} {
				t.Run(test.name+" "+name+" "+out.String(), func(t *testing.T) {
					f := begin(t, finishCalls)
					test.end(f)
					f.want()
					if f.c.Idle() {
						t.Fatal("idle with a call in progress")
					}
					f.done("a", out)
					f.wantCall("terminate a 110 " + test.cause)
					f.wantHandled()
					f.done("a", OK)
					if test.name == "fenced" {
						f.want("revoke 1")
						return
					}
					f.want("release a 110")
				})
			}
		}
	}
}

func TestDataThatChangeDuringAHandleThatIsToBeFinishedFollowIt(t *testing.T) {
	f := startHandling(t, finishCalls)
	f.entry("a", "v2")
	f.want()
	f.done("a", OK)
	f.want("terminate a 110 changed", "write-state a 110 active")
	f.done("a", OK)
	f.want("handle a 110 on 1 v2")
}

func TestAFinishedHandleWhoseResourceCameBackGoesOn(t *testing.T) {
	f := startHandling(t, finishCalls)
	f.own(false)
	f.remove("a")
	f.own(true)
	f.entry("a", "v1")
	f.want()
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.wantHandled("a")
}

func TestAFinishedHandleThatReturnedAnErrorIsReleasedWithoutTerminate(t *testing.T) {
	f := startHandling(t, finishCalls)
	f.own(false)
	f.want()
	f.done("a", Error)
	f.want("release a 110")
}

func TestAStuckHandleThatWasToBeFinishedIsReleased(t *testing.T) {
	f := startHandling(t, finishCalls)
	f.own(false)
	f.want()
	f.hangs("a")
	f.want("release a 110")
	f.released("a", 112)
	f.done("a", OK)
	f.want("cancel a 110 claim-lost", "terminate a 110 claim-lost")
	f.done("a", OK)
	f.want("unwatch 0")
}

// A call that never returns, and has no timeout, is given up when its claim is known to have expired.
func TestALostClaimCancelsACallThatWasToBeFinished(t *testing.T) {
	for name, begin := range callsInProgress {
		t.Run(name, func(t *testing.T) {
			f := begin(t, finishCalls)
			f.c.LeaseFenced(f.now, 1)
			f.want()
			f.disappears("a", 120)
			f.want("cancel a 110 claim-lost")
			f.appears("a", 121, 99)
			f.want()
			f.done("a", Cut)
			f.want("terminate a 110 claim-lost")
		})
	}
}

func TestAHandleThatWasCutOffIsTerminatedAndIsNoFailure(t *testing.T) {
	once := func(c *Config) { c.HandleAttempts = 1 }
	t.Run("by a lease that is known to be fenced", func(t *testing.T) {
		f := startHandling(t, finishCalls, once)
		f.c.LeaseFenced(f.now, 1)
		f.want()
		f.done("a", Cut)
		f.want("terminate a 110 fenced")
		f.done("a", OK)
		f.want("revoke 1")
		f.disappears("a", 115)
		f.want("need-lease")
		f.c.LeaseReady(f.now, 2)
		f.want("claim a on 2")
	})
	t.Run("before the fence is known", func(t *testing.T) {
		f := startHandling(t, finishCalls, once)
		f.done("a", Cut)
		f.want("terminate a 110 failure")
		f.done("a", OK)
		f.want("handle a 110 on 1 v1") // without a pause, although only one attempt is allowed
		f.done("a", Refused)
		f.want("revoke 1")
	})
}

func TestAnUpdateThatWasCutOffIsTerminatedAndHandledAnew(t *testing.T) {
	f := startUpdating(t, finishCalls)
	f.done("a", Cut)
	f.want("terminate a 110 failure")
	f.done("a", OK)
	f.want("handle a 110 on 1 v2", "write-state a 110 claimed")
}

func TestALostClaimIsToldToItsHandlingOnce(t *testing.T) {
	for _, test := range []struct {
		name  string
		begin func(*testing.T) *fixture
	}{
		{"while it is terminated", func(t *testing.T) *fixture {
			f := handled(t)
			f.own(false)
			f.want("terminate a 110 moved")
			return f
		}},
		{"after its call was cancelled", func(t *testing.T) *fixture {
			f := startHandling(t)
			f.own(false)
			f.want("cancel a 110 moved")
			return f
		}},
		{"while it is terminated after that", func(t *testing.T) *fixture {
			f := startHandling(t)
			f.own(false)
			f.want("cancel a 110 moved")
			f.done("a", OK)
			f.want("terminate a 110 moved")
			return f
		}},
		{"while it waits for the next try", func(t *testing.T) *fixture {
			f := handled(t, holdUntilTerminated)
			f.own(false)
			f.want("terminate a 110 moved")
			f.done("a", Error)
			f.want("write-state a 110 failed boom")
			return f
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := test.begin(t)
			f.disappears("a", 120)
			got := f.c.Actions()
			if len(got) == 0 || describe(got[0]) != "cancel a 110 claim-lost" {
				t.Fatalf("actions %v, want the handling to be cancelled first", got)
			}
			f.appears("a", 121, 99)
			f.disappears("a", 122)
			f.own(true)
			f.c.LeaseFenced(f.now, 1)
			for range 3 {
				for _, a := range f.c.Actions() {
					if a.Kind == Cancel {
						t.Fatalf("again: %s", describe(a))
					}
				}
				f.done("a", OK)
			}
		})
	}
}

func TestTheNextHandlingIsToldThatItsClaimIsLostToo(t *testing.T) {
	f := handled(t)
	f.disappears("a", 120)
	f.want("cancel a 110 claim-lost", "terminate a 110 claim-lost")
	f.done("a", OK)
	f.want("claim a on 1")
	f.claimed("a", 130)
	f.want("handle a 130 on 1 v1")
	f.disappears("a", 131)
	f.want("cancel a 130 claim-lost")
}

func TestLeftSaysWhyClaimsAreLeft(t *testing.T) {
	for _, test := range []struct {
		name  string
		begin func(*testing.T) *fixture
		want  Left
	}{
		{"nothing", func(t *testing.T) *fixture { return owning(t, nil) }, Left{}},
		{
			"a call in progress", func(t *testing.T) *fixture { return startHandling(t) },
			Left{Claims: 1, Calling: 1, Calls: 1},
		},
		{"one that was given up", func(t *testing.T) *fixture {
			f := startHandling(t, holdUntilTerminated)
			f.hangs("a")
			return f
		}, Left{Claims: 1, Stuck: 1, Calls: 1}},
		{"one that was given up, without the claim", func(t *testing.T) *fixture {
			f := startHandling(t)
			f.hangs("a")
			f.want("release a 110")
			f.released("a", 112)
			return f
		}, Left{Calls: 1}},
		{"Terminate failed", func(t *testing.T) *fixture {
			f := handled(t, holdUntilTerminated)
			f.own(false)
			f.want("terminate a 110 moved")
			f.done("a", Error)
			return f
		}, Left{Claims: 1, Failing: 1}},
		{"Terminate waits", func(t *testing.T) *fixture {
			f := handled(t, func(c *Config) { c.TerminateConcurrency = 0 })
			f.own(false)
			return f
		}, Left{Claims: 1, Waiting: 1}},
		{"the release waits", func(t *testing.T) *fixture {
			f := handled(t)
			f.own(false)
			f.want("terminate a 110 moved")
			f.done("a", OK)
			return f
		}, Left{Claims: 1, Unreleased: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.begin(t).c.Left(); got != test.want {
				t.Errorf("left: %+v, want %+v", got, test.want)
			}
		})
	}
}
