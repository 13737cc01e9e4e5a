package core

import (
	"slices"
	"testing"
	"time"
)

// summing makes a Core in which a summary stands for least states or more, and in which a, b and c were claimed at 110
// and Handle of each is in progress.
func summing(t *testing.T, least int, change ...func(*Config)) *fixture {
	change = append([]func(*Config){func(c *Config) { c.SummaryLeast = least }}, change...)
	f := owning(t, []string{"c", "b", "a"}, change...)
	f.want("claim a on 1", "claim b on 1", "claim c on 1")
	for _, id := range []string{"a", "b", "c"} {
		f.claimed(id, 110)
	}
	f.want("handle a 110 on 1 v1", "handle b 110 on 1 v1", "handle c 110 on 1 v1")
	return f
}

// summed makes the same Core at the time when etcd has the summary of the three.
func summed(t *testing.T) *fixture {
	f := summing(t, 3)
	f.allDone("a", "b", "c")
	f.want("write-summary on 1 to 110")
	f.summaryDone(110, WriteResult{Applied: true, Revision: 111})
	f.want()
	return f
}

func (f *fixture) allDone(ids ...string) {
	for _, id := range ids {
		f.done(id, OK)
	}
}

func (f *fixture) summaryDone(through int64, res WriteResult) {
	f.c.SummaryDone(f.now, 0, 1, through, res)
}

func TestOneSummaryStandsForManyStates(t *testing.T) {
	f := summed(t)
	f.c.SummaryPut(f.now, 0, SummaryKey{Lease: 1, Through: 110, ModRevision: 111})
	f.snapshotWith(SummaryKey{Lease: 1, Through: 110, ModRevision: 111})
	f.want()
	f.noTimer()
}

// snapshotWith lists the three resources of summed with their claims, and the summaries sums.
func (f *fixture) snapshotWith(sums ...SummaryKey) {
	f.rev = max(f.rev, 120) + 1
	var entries []Entry
	var claims []ClaimKey
	for _, id := range []string{"a", "b", "c"} {
		entries = append(entries, Entry{ID: id, Data: []byte("v1")})
		claims = append(claims, ClaimKey{ID: id, Token: 110, ModRevision: 110, Lease: 1})
	}
	f.c.Snapshot(f.now, 0, f.rev, entries, claims, sums)
}

func TestFewStatesAreWrittenEach(t *testing.T) {
	f := summing(t, 4)
	f.allDone("a", "b", "c")
	f.want("write-state a 110 active", "write-state b 110 active", "write-state c 110 active")
}

// No state waits for the others of its shard.
func TestWhatIsNotHandledYetKeepsStatesFromASummary(t *testing.T) {
	for name, end := range map[string]func(*fixture){
		"handle has not returned": func(*fixture) {},
		"handle has failed":       func(f *fixture) { f.done("c", Error) },
	} {
		t.Run(name, func(t *testing.T) {
			f := summing(t, 2)
			f.allDone("a", "b")
			end(f)
			got := []string{}
			for _, a := range f.c.Actions() {
				got = append(got, describe(a))
			}
			if slices.Contains(got, "write-summary on 1 to 110") || !slices.Contains(got, "write-state a 110 active") {
				t.Errorf("actions: %q", got)
			}
		})
	}
}

// What was written to a claim's own key counts there: it says failed, whatever a summary says.
func TestWhatHasFailedForAllToSeeDoesNotMatter(t *testing.T) {
	f := summing(t, 2)
	f.done("c", Error)
	f.want("write-state c 110 failed boom")
	f.saved("c", 110)
	f.allDone("a", "b")
	f.want("write-summary on 1 to 110")
}

// A claim whose answer was lost may be there, and not be seen yet. The summary would say that it is active.
func TestAClaimThatIsNotKnownKeepsStatesFromASummary(t *testing.T) {
	for name, res := range map[string]*WriteResult{"on its way": nil, "without an answer": {Unknown: true}} {
		t.Run(name, func(t *testing.T) {
			f := summing(t, 2)
			f.entry("d", "v1")
			f.want("claim d on 1")
			if res != nil {
				f.claimResult("d", *res)
			}
			f.allDone("a", "b", "c")
			f.want("write-state a 110 active", "write-state b 110 active", "write-state c 110 active")
		})
	}
}

func TestWhatComesLaterIsWrittenToTheClaims(t *testing.T) {
	f := summed(t)
	f.c.Reported(f.now, 0, "a", Error, "it broke")
	f.want("write-state a 110 failed it broke")
	f.saved("a", 110)
	f.c.Reported(f.now, 0, "a", OK, "")
	f.want("write-state a 110 active")
	f.saved("a", 110)
	f.entry("d", "v1")
	f.want("claim d on 1")
	f.claimed("d", 120)
	f.want("handle d 120 on 1 v1")
	f.done("d", OK)
	f.want("write-state d 120 active")
}

// While Terminate and Handle follow a change of data, the claim's own key has to say so: a summary up to a later
// revision would call it active again.
func TestASummaryWaitsForWhatSaysClaimedAgain(t *testing.T) {
	f := summed(t)
	f.entry("a", "v2")
	f.want("terminate a 110 changed")
	f.done("a", OK)
	f.want("handle a 110 on 1 v2", "write-state a 110 claimed")
	f.saved("a", 110)
	for _, id := range []string{"d", "e", "f"} {
		f.entry(id, "v1")
	}
	f.want("claim d on 1", "claim e on 1", "claim f on 1")
	for _, id := range []string{"d", "e", "f"} {
		f.claimed(id, 120)
	}
	f.want("handle d 120 on 1 v1", "handle e 120 on 1 v1", "handle f 120 on 1 v1")
	f.allDone("d", "e", "f")
	f.want("write-state d 120 active", "write-state e 120 active", "write-state f 120 active")
}

func TestASummaryThatIsNotThereIsWrittenAgain(t *testing.T) {
	for name, vanish := range map[string]func(*fixture){
		"deleted": func(f *fixture) { f.c.SummaryDeleted(f.now, 0, 1, 120) },
		"overwritten": func(f *fixture) {
			f.c.SummaryPut(f.now, 0, SummaryKey{Lease: 1, Through: 109, ModRevision: 120})
		},
		"not listed": func(f *fixture) { f.snapshotWith() },
		"listed as another": func(f *fixture) {
			f.snapshotWith(
				SummaryKey{Lease: 1, Through: 1, ModRevision: 120},
				SummaryKey{Lease: 9, Through: 200, ModRevision: 120},
			)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := summed(t)
			vanish(f)
			f.want("write-summary on 1 to 110")
		})
	}
	f := summed(t)
	f.c.SummaryDeleted(f.now, 0, 1, 100) // older than what is known
	f.c.SummaryDeleted(f.now, 0, 9, 120) // another member's
	f.want()
}

func TestASummaryThatWasNotWrittenIsTriedAgain(t *testing.T) {
	for name, res := range map[string]WriteResult{"refused": {Failed: true}, "no answer": {Unknown: true}} {
		t.Run(name, func(t *testing.T) {
			f := summing(t, 3)
			f.allDone("a", "b", "c")
			f.want("write-summary on 1 to 110")
			f.summaryDone(110, res)
			f.want()
			f.tick(time.Second)
			f.want("write-summary on 1 to 110")
			f.summaryDone(110, WriteResult{Applied: true, Revision: 115})
			f.want()
		})
	}
}

// The news of a summary may come before the answer to it.
func TestASummaryThatIsDeletedBeforeItsAnswerIsWrittenAgain(t *testing.T) {
	f := summing(t, 3)
	f.allDone("a", "b", "c")
	f.want("write-summary on 1 to 110")
	f.c.SummaryPut(f.now, 0, SummaryKey{Lease: 1, Through: 110, ModRevision: 111})
	f.c.SummaryDeleted(f.now, 0, 1, 112)
	f.want()
	f.summaryDone(110, WriteResult{Applied: true, Revision: 111})
	f.want("write-summary on 1 to 110")
}

// moved lets a shard with a summary go to another member, up to the last release.
func moved(t *testing.T, f *fixture) {
	f.own(false)
	f.want("terminate a 110 moved", "terminate b 110 moved", "terminate c 110 moved")
	f.allDone("a", "b", "c")
	f.want("release a 110", "release b 110", "release c 110")
	for i, id := range []string{"a", "b", "c"} {
		f.released(id, 120+int64(i))
	}
}

func TestASummaryGoesWithItsShard(t *testing.T) {
	f := summed(t)
	moved(t, f)
	f.want("delete-summary on 1")
	f.summaryDone(0, WriteResult{Unknown: true})
	f.want()
	f.tick(time.Second)
	f.want("delete-summary on 1")
	f.summaryDone(0, WriteResult{Applied: true, Revision: 130})
	f.want("unwatch 0")
	f.noTimer()
}

func TestAShardThatComesBackWhileItsSummaryGoesIsFollowedOn(t *testing.T) {
	f := summed(t)
	moved(t, f)
	f.want("delete-summary on 1")
	f.own(true)
	f.want("claim a on 1", "claim b on 1", "claim c on 1")
	for _, id := range []string{"a", "b", "c"} {
		f.claimed(id, 140)
	}
	f.want("handle a 140 on 1 v1", "handle b 140 on 1 v1", "handle c 140 on 1 v1")
	f.summaryDone(0, WriteResult{Applied: true, Revision: 130})
	f.allDone("a", "b", "c")
	f.want("write-summary on 1 to 140")
}

// A summary whose answer was lost may appear when the shard is already another member's.
func TestASummaryWithoutAnAnswerIsDeletedWhenItCanAppearNoMore(t *testing.T) {
	f := summing(t, 3)
	f.allDone("a", "b", "c")
	f.want("write-summary on 1 to 110")
	moved(t, f)
	f.want()
	f.summaryDone(110, WriteResult{Unknown: true})
	f.want()
	if waited := f.tick(time.Minute); waited < testConfig().UncertainFor {
		t.Errorf("looked again after %v", waited)
	}
	f.want("delete-summary on 1")
	f.summaryDone(0, WriteResult{Applied: true, Revision: 140})
	f.want("unwatch 0")
}

// The summary goes with its lease, so it need not be deleted.
func TestNothingIsDeletedOnALeaseThatEnds(t *testing.T) {
	f := summed(t)
	f.c.Stop(f.now)
	f.want("terminate a 110 stopped", "terminate b 110 stopped", "terminate c 110 stopped")
	f.allDone("a", "b", "c")
	f.want("release a 110", "release b 110", "release c 110")
	for i, id := range []string{"a", "b", "c"} {
		f.released(id, 120+int64(i))
	}
	f.want("unwatch 0")

	f = summed(t)
	f.own(false)
	f.c.Actions()
	f.c.LeaseFenced(f.now, 1)
	f.allDone("a", "b", "c")
	f.want("revoke 1", "unwatch 0")
}

func TestASummaryWhoseLeaseIsGoneEndsWhatIsOnIt(t *testing.T) {
	f := summing(t, 3)
	f.allDone("a", "b", "c")
	f.want("write-summary on 1 to 110")
	f.summaryDone(110, WriteResult{LeaseGone: true})
	f.wantHandled()
	f.want("terminate a 110 fenced", "terminate b 110 fenced", "terminate c 110 fenced")
}

func TestEachLeaseHasItsSummary(t *testing.T) {
	f := owning(t, []string{"d", "c", "b", "a"}, func(c *Config) { c.SummaryLeast = 2; c.KeysPerLease = 2 })
	f.want("claim a on 1", "claim b on 1", "need-lease")
	f.c.LeaseReady(f.now, 2)
	f.want("claim c on 2", "claim d on 2")
	f.claimed("a", 110)
	f.claimed("b", 110)
	f.claimed("c", 111)
	f.claimed("d", 112)
	f.c.Actions()
	f.allDone("a", "b", "c", "d")
	f.want("write-summary on 1 to 110", "write-summary on 2 to 112")
}

// States of claims that become active one after the other gather for one summary while other states are on their way.
func TestStatesGatherWhileOthersAreOnTheirWay(t *testing.T) {
	f := summing(t, 2)
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.done("b", OK)
	f.want()
	f.done("c", OK)
	f.want("write-summary on 1 to 110")

	f = summing(t, 2)
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.done("b", OK)
	f.want()
	f.saved("a", 110)
	f.want("write-state b 110 active")
	f.done("c", OK)
	f.want("write-state c 110 active") // by itself: a summary would be of this one alone
}

// A claim whose answer was lost, and that was found or was made again, prevents a summary only while another claim
// could still appear.
func TestALostAnswerKeepsNoStatesFromASummaryForLong(t *testing.T) {
	for name, returns := range map[string]func(*fixture){
		"it is there": func(f *fixture) { f.appears("d", 120, 1) },
		"it is made again": func(f *fixture) {
			f.tick(time.Second)
			f.want("claim d on 1")
			f.claimed("d", 120)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := summing(t, 2)
			f.entry("d", "v1")
			f.want("claim d on 1")
			f.claimResult("d", WriteResult{Unknown: true})
			returns(f)
			f.want("handle d 120 on 1 v1")
			f.allDone("a", "b", "c", "d")
			f.want(
				"write-state a 110 active",
				"write-state b 110 active",
				"write-state c 110 active",
				"write-state d 120 active",
			)
			for _, id := range []string{"a", "b", "c"} {
				f.saved(id, 110)
			}
			f.saved("d", 120)
			f.wait(testConfig().UncertainFor)
			f.entry("e", "v1")
			f.entry("g", "v1")
			f.want("claim e on 1", "claim g on 1")
			f.claimed("e", 130)
			f.claimed("g", 130)
			f.want("handle e 130 on 1 v1", "handle g 130 on 1 v1")
			f.allDone("e", "g")
			f.want("write-summary on 1 to 130")
			f.noTimer()
		})
	}
}
