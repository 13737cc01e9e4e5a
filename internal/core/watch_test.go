package core

import "testing"

func TestShardWithoutAnythingOfOursIsUnwatchedAtOnce(t *testing.T) {
	f := owning(t, nil)
	f.own(false)
	f.want("unwatch 0")
	f.own(true)
	f.own(false)
	f.want("watch 0", "unwatch 0")
}

func TestForeignClaimDoesNotKeepAShardFollowed(t *testing.T) {
	f := newFixture(t)
	f.own(true)
	f.snapshot([]string{"a"}, ClaimKey{ID: "a", Token: 50, ModRevision: 50, Lease: 99})
	f.want("watch 0")
	f.own(false)
	f.want("unwatch 0")
}

func TestShardIsFollowedWhileAnythingIsClaimedOrInProgress(t *testing.T) {
	f := handled(t)
	f.own(false)
	f.want("terminate a 110 moved") // and so on: see the tests of ending, which all see no unwatch before the release
	f.snapshot([]string{"a", "b"}, ClaimKey{ID: "a", Token: 110, ModRevision: 111, Lease: 1})
	f.want()
	f.remove("a")
	f.remove("b")
	f.want()
	f.done("a", OK)
	f.want("release a 110")
	f.released("a", 120)
	f.want("unwatch 0")
}

func TestNewsOfAShardThatIsNotFollowedIsIgnored(t *testing.T) {
	f := newFixture(t)
	f.c.LeaseReady(f.now, 1)
	f.entry("a", "v1")
	f.snapshot([]string{"a"})
	f.appears("a", 110, 1)
	f.remove("a")
	f.disappears("a", 111)
	f.claimed("a", 110)
	f.released("a", 110)
	f.done("a", OK)
	f.hangs("a")
	f.saved("a", 110)
	f.c.EntryPut(f.now, -1, Entry{ID: "a"})
	f.c.EntryPut(f.now, 7, Entry{ID: "a"})
	f.want()
}

func TestOldNewsOfAClaimIsIgnored(t *testing.T) {
	f := handled(t)
	f.disappears("a", 105)    // of the claim before ours
	f.appears("a", 104, 99)   // that claim
	f.snapshot([]string{"a"}) // its list was read at 102, before ours was made
	f.want()
	f.wantHandled("a")
}

func TestOldNewsOfOurOwnReleasedClaimIsNotAdopted(t *testing.T) {
	f := handled(t)
	f.suspend("a", "v1")
	f.want("terminate a 110 removed")
	f.done("a", OK)
	f.want("release a 110")
	f.released("a", 120)
	f.entry("a", "v1")
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Failed: true})
	f.appears("a", 110, 1) // the watch lags
	f.want()
}

func TestOldNewsOfAClaimOfADroppedResourceIsNotAdopted(t *testing.T) {
	f := handled(t)
	f.remove("a")
	f.want("terminate a 110 removed")
	f.done("a", OK)
	f.want("release a 110")
	f.released("a", 120)
	f.want()
	if s := f.c.Stats(); s.Known != 0 {
		t.Fatalf("stats: %+v", s)
	}
	f.c.ClaimPut(f.now, 0, ClaimKey{ID: "a", Token: 110, ModRevision: 111, Lease: 1}) // our own write of its state
	f.want()
	f.entry("a", "v1")
	f.want("claim a on 1")
}

func TestSnapshotAfterCompactionClearsWhatIsAbsent(t *testing.T) {
	f := newFixture(t)
	f.own(true)
	f.c.LeaseReady(f.now, 1)
	f.snapshot([]string{"a", "b"}, ClaimKey{ID: "a", Token: 50, ModRevision: 50, Lease: 99})
	f.want("watch 0", "claim b on 1")
	f.claimed("b", 110)
	f.want("handle b 110 on 1 v1")
	f.done("b", OK)
	f.want("write-state b 110 active")
	f.saved("b", 110)
	f.rev = 130
	f.snapshot([]string{"a"}) // a's claim is gone, and b with its claim
	f.want("cancel b 110 claim-lost", "terminate b 110 claim-lost", "claim a on 1")
	f.done("b", OK)
	f.want()
	if s := f.c.Stats(); s.Known != 1 {
		t.Fatalf("stats: %+v", s)
	}
}

func TestSnapshotFindsTheClaimOfALostAnswer(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Unknown: true})
	f.rev = 130
	f.snapshot([]string{"a"}, ClaimKey{ID: "a", Token: 110, ModRevision: 110, Lease: 1})
	f.want("handle a 110 on 1 v1")
}

func TestSnapshotWithChangedDataUpdates(t *testing.T) {
	f := handled(t, canUpdate)
	claims := []ClaimKey{{ID: "a", Token: 110, ModRevision: 111, Lease: 1}}
	f.c.Snapshot(f.now, 0, 130, []Entry{{ID: "a", Data: []byte("v2")}}, claims, nil)
	f.want("update a 110 on 1 v2")
}

func TestSnapshotOfAShardNoLongerOwnedEndsTheFollowing(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Unknown: true})
	f.own(false)
	f.rev = 130
	f.snapshot(nil, ClaimKey{ID: "b", Token: 99, ModRevision: 99, Lease: 99})
	f.want()
	f.wait(testConfig().UncertainFor)
	f.want("release a 0")
	f.released("a", 140)
	f.want("unwatch 0")
}

func TestAnEntryThatIsNotUnderstoodChangesNothing(t *testing.T) {
	f := handled(t)
	f.rev = 200
	claims := []ClaimKey{{ID: "a", Token: 110, ModRevision: 111, Lease: 1}}
	f.c.Snapshot(f.now, 0, f.rev, []Entry{{ID: "a", Unreadable: true}, {ID: "b", Unreadable: true}}, claims, nil)
	f.want() // "a" is handled on with the data that were last understood, and "b" is not claimed
	f.wantHandled("a")
	f.entry("b", "v1")
	f.want("claim b on 1")
	f.rev++
	f.c.Snapshot(f.now, 0, f.rev, []Entry{{ID: "b", Data: []byte("v1")}}, claims, nil)
	f.want("terminate a 110 removed")
}

func TestAClaimThatWasOverwrittenByHandIsPutBackUnderItsLease(t *testing.T) {
	f := handled(t)
	f.c.ClaimPut(f.now, 0, ClaimKey{ID: "a", Token: 110, ModRevision: 150}) // on no lease, so it would never end
	f.want("write-state a 110 active")
	f.entry("b", "v1")
	f.want("claim b on 1")
	f.c.ClaimPut(f.now, 0, ClaimKey{ID: "a", Token: 110, ModRevision: 160, Lease: 7}) // once more, meanwhile
	f.want()
	f.c.StateDone(f.now, 0, "a", 110, WriteResult{Applied: true, Revision: 155})
	f.want("write-state a 110 active")
	f.c.StateDone(f.now, 0, "a", 110, WriteResult{Applied: true, Revision: 165})
	f.want()
	f.wantHandled("a")
	f.noTimer()
}
