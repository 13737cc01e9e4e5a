package core

import (
	"testing"
	"time"
)

func TestPresentAndUnclaimedIsClaimedThenHandledThenActive(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.wantHandled()
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.wantHandled()
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.wantHandled("a")
	f.saved("a", 110)
	f.appears("a", 110, 1) // the watch shows it at last
	f.snapshot([]string{"a"}, ClaimKey{ID: "a", Token: 110, ModRevision: 111, Lease: 1})
	f.want()
	f.noTimer()
	if s := f.c.Stats(); s != (Stats{Shards: 1, Known: 1, Claims: 1, Active: 1}) {
		t.Fatalf("stats: %+v", s)
	}
}

func TestNothingIsClaimedBeforeTheSnapshot(t *testing.T) {
	f := newFixture(t)
	f.c.LeaseReady(f.now, 1)
	f.own(true)
	f.want("watch 0")
}

func TestSuspendedIsNotClaimed(t *testing.T) {
	f := owning(t, nil)
	f.suspend("a", "v1")
	f.want()
	f.entry("a", "v1")
	f.want("claim a on 1")
}

func TestClaimOfAnotherIsWaitedFor(t *testing.T) {
	f := newFixture(t)
	f.own(true)
	f.c.LeaseReady(f.now, 1)
	f.snapshot([]string{"a"}, ClaimKey{ID: "a", Token: 110, ModRevision: 10, Lease: 99})
	f.want("watch 0")
	f.appears("a", 110, 99) // a change of its value
	f.want()
	f.noTimer()
	f.disappears("a", 112)
	f.want("claim a on 1")
}

func TestConflictWaitsForTheOthersDeleteEvent(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Revision: 110, FoundToken: 105, FoundLease: 99})
	f.want()
	f.noTimer()
	f.disappears("a", 103) // older news: of a claim before that one
	f.want()
	f.disappears("a", 111)
	f.want("claim a on 1")
}

func TestConflictWithAClaimThatIsGoneAlreadyClaimsAgain(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.disappears("a", 111) // the watch is faster than the answer
	f.claimResult("a", WriteResult{Revision: 110, FoundToken: 105, FoundLease: 99})
	f.want("claim a on 1")
}

func TestFailedClaimIsTriedAgainWithGrowingPauses(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	var last time.Duration
	for range 6 {
		f.claimResult("a", WriteResult{Failed: true})
		f.want()
		last = f.tick(time.Second)
		f.want("claim a on 1")
	}
	if last < 750*time.Millisecond || last > time.Second {
		t.Fatalf("the pause grew to %v, want RetryMax less at most a quarter", last)
	}
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.noTimer()
}

func TestDefiniteAnswerEndsTheGrowthOfPauses(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	for range 5 {
		f.claimResult("a", WriteResult{Failed: true})
		f.tick(time.Second)
		f.want("claim a on 1")
	}
	f.claimResult("a", WriteResult{Revision: 110, FoundToken: 105, FoundLease: 99})
	f.disappears("a", 111)
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Failed: true})
	if pause := f.tick(time.Second); pause > 100*time.Millisecond {
		t.Fatalf("the pause is %v, want RetryMin again", pause)
	}
}

func TestLostAnswerIsAdoptedWhenTheWatchShowsIt(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Unknown: true})
	f.want()
	f.appears("a", 110, 1)
	f.want("handle a 110 on 1 v1")
}

func TestLostAnswerIsAdoptedWhenTheWatchWasFirst(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.appears("a", 110, 1)
	f.want()
	f.claimResult("a", WriteResult{Unknown: true})
	f.want("handle a 110 on 1 v1")
}

func TestLostAnswerIsAdoptedWhenTheNextClaimFindsIt(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Unknown: true})
	f.tick(time.Second)
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Revision: 111, FoundToken: 110, FoundLease: 1})
	f.want("handle a 110 on 1 v1")
}

func TestLostAnswerNoLongerWantedIsReleasedAndFollowedUntilCertain(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Unknown: true})
	f.own(false)
	f.want() // no unwatch: the claim may still appear
	f.pass(time.Second)
	f.appears("a", 110, 1)
	f.want("release a 110")
	f.released("a", 111)
	f.want() // the release was sent before certainAt, and the claim whose answer was lost may be another one
	f.wait(5 * time.Second)
	f.want("release a 0")
	f.released("a", 112)
	f.want("unwatch 0")
	f.noTimer()
}

func TestLostAnswerThatNeverAppearsIsProbedFor(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Unknown: true})
	f.own(false)
	f.want()
	f.wait(5*time.Second - 1)
	f.want()
	f.wait(1)
	f.want("release a 0")
	f.releaseResult("a", WriteResult{Unknown: true})
	f.want()
	f.tick(time.Second)
	f.want("release a 0")
	// The claim is there after all, and the watch lags.
	f.releaseResult("a", WriteResult{Revision: 120, FoundToken: 110, FoundLease: 1})
	f.want("release a 110")
	f.released("a", 121)
	f.want("unwatch 0")
}

func TestProbeThatFindsAnothersClaimIsCertainToo(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Unknown: true})
	f.own(false)
	f.wait(5 * time.Second)
	f.want("release a 0")
	f.releaseResult("a", WriteResult{Revision: 120, FoundToken: 115, FoundLease: 99})
	f.want("unwatch 0")
}

func TestWantedAgainWhileProbedForIsClaimed(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Unknown: true})
	f.own(false)
	f.wait(5 * time.Second)
	f.want("release a 0")
	f.own(true)
	f.want()
	f.released("a", 120)
	f.want("claim a on 1")
}

func TestLostClaimThatAppearsAfterItsSuccessorWasReleasedIsReleasedToo(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Unknown: true}) // will be applied at 112
	f.tick(time.Second)
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", Error)
	f.want("write-state a 110 failed boom")
	f.own(false)
	f.want("release a 110")
	f.released("a", 111)
	f.want()
	f.appears("a", 112, 1)
	f.want("release a 112")
	f.released("a", 113)
	f.want()
	f.wait(5 * time.Second)
	f.want("release a 0")
	f.released("a", 114)
	f.want("unwatch 0")
}

func TestClaimThatSucceedsWhenNoLongerWantedIsReleased(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(*fixture)
		rest []string
	}{
		{"moved", func(f *fixture) { f.own(false) }, []string{"unwatch 0"}},
		{"removed", func(f *fixture) { f.remove("a") }, nil},
		{"suspended", func(f *fixture) { f.suspend("a", "v1") }, nil},
		{"stopped", func(f *fixture) { f.c.Stop(f.now) }, []string{"unwatch 0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := owning(t, []string{"a"})
			f.want("claim a on 1")
			test.end(f)
			f.want()
			f.claimed("a", 110)
			f.want("release a 110")
			f.released("a", 111)
			f.want(test.rest...)
			if !f.c.Idle() {
				t.Fatal("not idle")
			}
		})
	}
}

func TestClaimOfOursIsNeverAdoptedOnAFencedLease(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Unknown: true})
	f.c.LeaseFenced(f.now, 1)
	f.want("revoke 1")
	f.appears("a", 110, 1)
	f.want()
	f.disappears("a", 111)
	f.tick(time.Second)
	f.want("need-lease")
	f.c.LeaseReady(f.now, 2)
	f.want("claim a on 2")
}

func TestClaimThatEndedBeforeItsAnswerCameIsNotHandled(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.appears("a", 110, 1)
	f.disappears("a", 111) // by someone's hand
	f.claimed("a", 110)
	f.want("claim a on 1")
}

// A shard in which nobody has a claim is vacant, even if the last claim was deleted just now. A shard with another
// member's claim is not vacant.
func TestAClaimSaysWhetherItsShardIsVacant(t *testing.T) {
	vacant := func(f *fixture) (claims, vacant int) {
		t.Helper()
		for _, a := range f.c.Actions() {
			if a.Kind == Claim {
				claims++
				if a.Vacant {
					vacant++
				}
			}
		}
		if err := f.c.Audit(); err != nil {
			t.Fatal(err)
		}
		return claims, vacant
	}
	f := owning(t, []string{"a", "b"})
	if n, v := vacant(f); n != 2 || v != 2 {
		t.Errorf("of an empty shard: %d claims, %d vacant", n, v)
	}
	f.claimed("a", 110)
	f.claimed("b", 110)
	f.entry("c", "v1")
	if n, v := vacant(f); n != 1 || v != 0 {
		t.Errorf("beside claims of its own: %d claims, %d vacant", n, v)
	}

	f = newFixture(t)
	f.own(true)
	f.c.LeaseReady(f.now, 1)
	others := []ClaimKey{{ID: "a", Token: 7, ModRevision: 7, Lease: 99}, {ID: "b", Token: 7, ModRevision: 7, Lease: 99}}
	f.snapshot([]string{"a", "b", "c"}, others...)
	if n, v := vacant(f); n != 1 || v != 0 {
		t.Errorf("beside another's: %d claims, %d vacant", n, v)
	}
	f.claimResult("c", WriteResult{Revision: 111, FoundToken: 111, FoundLease: 99})
	for _, id := range []string{"a", "b", "c"} { // of a member that died
		f.disappears(id, 120)
	}
	if n, v := vacant(f); n != 3 || v != 3 {
		t.Errorf("after another's death: %d claims, %d vacant", n, v)
	}
}
