package core

import (
	"fmt"
	"testing"
	"time"
)

// suspected makes a wary core that has claimed "a", of which two deaths are accused.
func suspected(t *testing.T) *fixture {
	f := owning(t, nil, wary)
	f.accuse("ann", 8, "a", "b")
	f.accuse("bob", 9, "a")
	f.snapshot([]string{"a"})
	f.want("write-trail on 8 at 102 ann's a", "claim a on 1") // b is in no catalogue
	f.edited(8)
	f.claimed("a", 110)
	f.want("take-alone a on 1", saysAlone("a", 110))
	f.saved("a", 110)
	return f
}

// saysAlone is the action that tells why a suspect of two deaths waits.
func saysAlone(id string, token int64) string {
	return fmt.Sprintf("write-state %s %d claimed Handle waits for its turn: it is called alone, since 2 members have "+
		"died while it ran or soon after", id, token)
}

func TestASuspectOfTwoDeathsIsHandledAlone(t *testing.T) {
	f := suspected(t)
	f.c.AloneDone(f.now, true, WriteResult{Applied: true, Revision: 111})
	f.want("write-trail on 1 at 0 mine a")
	f.trailed(112)
	f.want("handle a 110 on 1 v1")
	f.entry("new", "v1")
	f.want("claim new on 1")
	f.claimed("new", 113)
	f.want() // nothing begins beside a suspect
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.saved("a", 110)
	f.wait(9 * time.Second)
	f.want()
	f.wait(2 * time.Second) // a has survived
	f.want("delete-trail on 8 at 105", "delete-trail on 9 at 103", "free-alone on 1",
		"write-trail on 1 at 112 mine new")
	f.edited(8)
	f.edited(9)
	f.trailed(121)
	f.want("handle new 113 on 1 v1")
}

func TestASuspectWaitsWhileAnotherMemberHandlesOneAlone(t *testing.T) {
	f := suspected(t)
	f.c.AloneDone(f.now, true, WriteResult{Revision: 111, FoundToken: 100, FoundLease: 55})
	f.want()
	waited := f.tick(2 * time.Second)
	if waited < 500*time.Millisecond {
		t.Errorf("it asks again after %v", waited)
	}
	f.want("take-alone a on 1")
	f.c.AloneDone(f.now, true, WriteResult{Unknown: true})
	f.want()
	f.tick(2 * time.Second)
	f.want("take-alone a on 1")
	f.c.AloneDone(f.now, true, WriteResult{Revision: 120, FoundToken: 115, FoundLease: 1}) // the lost one was applied
	f.want("write-trail on 1 at 0 mine a")
}

func TestASuspectWaitsUntilNothingElseIsYoung(t *testing.T) {
	f := trailedAndHandled(t)
	f.wait(5 * time.Second)
	f.entry("b", "v1")
	f.accuse("ann", 8, "b")
	f.accuse("bob", 9, "b")
	f.want("claim b on 1")
	f.claimed("b", 120)
	f.want("take-alone b on 1", saysAlone("b", 120))
	f.saved("b", 120)
	f.c.AloneDone(f.now, true, WriteResult{Applied: true, Revision: 121})
	f.want()
	f.wait(4 * time.Second)
	f.want()
	f.wait(2 * time.Second)
	f.want("write-trail on 1 at 105 mine b")
}

func TestASuspectThatIsReleasedGivesItsTurnBack(t *testing.T) {
	f := suspected(t)
	f.c.AloneDone(f.now, true, WriteResult{Applied: true, Revision: 111})
	f.want("write-trail on 1 at 0 mine a")
	f.remove("a")
	f.trailed(112)
	f.want("release a 110", "delete-trail on 8 at 105", "delete-trail on 9 at 103", "free-alone on 1",
		"delete-trail on 1 at 112")
}

func TestTheThirdDeathQuarantines(t *testing.T) {
	f := owning(t, nil, wary)
	f.accuse("ann", 7, "a", "b")
	f.accuse("bob", 8, "a")
	f.accuseAlone("cy", 9, "a")
	f.snapshot([]string{"a", "b"})
	f.want("claim b on 1", "claim a on 1")
	f.claimed("a", 110)
	f.claimed("b", 111)
	f.want("write-quarantine a for 3", "write-trail on 1 at 0 mine b")
	f.trailed(112)
	f.want("handle b 111 on 1 v1")
	f.c.QuarantineDone(f.now, 0, "a", "it killed ann, bob and cy", WriteResult{Applied: true, Revision: 115})
	f.want("exonerate on 7", "exonerate on 8", "exonerate on 9",
		"delete-trail on 7 at 102", "delete-trail on 8 at 103", "delete-trail on 9 at 104",
		"write-state a 110 quarantined it killed ann, bob and cy")
	f.saved("a", 110)

	// Somebody frees it. It begins without any accusation.
	f.c.QuarantineDeleted(f.now, 0, "a", 130)
	f.want("write-trail on 1 at 112 mine b,a", "write-state a 110 claimed")
	f.trailed(131)
	f.want("handle a 110 on 1 v1")
}

func TestARecordThatCannotBeWrittenIsWrittenAgain(t *testing.T) {
	f := owning(t, nil, wary, func(cfg *Config) { cfg.QuarantineAfter = 1 })
	f.accuse("ann", 7, "a")
	f.snapshot([]string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("write-quarantine a for 1")
	f.c.QuarantineDone(f.now, 0, "a", "bad", WriteResult{Failed: true})
	f.want()
	f.tick(time.Second)
	f.want("write-quarantine a for 1")
}

func TestAQuarantineEndsWithTheDataAndWithTheResource(t *testing.T) {
	record := QuarantineKey{ID: "a", Token: 90, Digest: Digest([]byte("v1")), Text: "bad"}
	quarantined := func() *fixture {
		f := owning(t, nil, wary)
		f.c.QuarantinePut(f.now, 0, record)
		f.snapshot([]string{"a"})
		f.want("claim a on 1")
		f.claimed("a", 110)
		f.want("write-state a 110 quarantined bad")
		f.saved("a", 110)
		return f
	}
	f := quarantined()
	f.entry("a", "v2")
	f.want("delete-quarantine a 90")
	f.c.QuarantineDone(f.now, 0, "a", "", WriteResult{Applied: true, Revision: 120})
	f.want("write-trail on 1 at 0 mine a", "write-state a 110 claimed")

	f = quarantined()
	f.remove("a")
	f.want("release a 110", "delete-quarantine a 90")
}

func TestAnOldAccusationDoesNotCount(t *testing.T) {
	f := owning(t, nil, wary)
	f.accuse("ann", 7, "a")
	f.accuse("bob", 8, "a")
	f.wait(59 * time.Minute)
	f.accuse("cy", 9, "a")
	f.wait(2 * time.Minute)
	f.snapshot([]string{"a"})
	f.want("delete-trail on 7 at 102", "delete-trail on 8 at 103", "claim a on 1")
	f.claimed("a", 110)
	f.want("write-trail on 1 at 0 mine a")
}

func TestAnEditLosesNothingNewer(t *testing.T) {
	f := trailedAndHandled(t)
	f.wait(11 * time.Second)
	f.want("delete-trail on 1 at 105")
	f.trailed(120)
	f.want()
	f.accuse("ann", 9, "a", "x") // of these, a is handled here, and x is in no catalogue
	f.want("delete-trail on 9 at 102")
	f.accuse("ann", 9, "a", "b", "x")
	f.entry("b", "v1")
	f.c.TrailDone(f.now, 0, 9, WriteResult{Revision: 104, FoundMod: 103, FoundToken: 101})
	f.want("claim b on 1")
	f.wait(time.Second)
	f.want("write-trail on 9 at 103 ann's b")
}

func TestWithoutQuarantineThereAreNoTrails(t *testing.T) {
	f := owning(t, nil)
	f.accuse("ann", 7, "a")
	f.c.QuarantinePut(f.now, 0, QuarantineKey{ID: "a", Token: 90, Text: "bad"})
	f.snapshot([]string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
}

func TestAnIsolationEndsAlsoIfSomebodyDeletesItsTrail(t *testing.T) {
	f := suspected(t)
	f.c.AloneDone(f.now, true, WriteResult{Applied: true, Revision: 111})
	f.want("write-trail on 1 at 0 mine a")
	f.trailed(112)
	f.want("handle a 110 on 1 v1")
	f.done("a", Error)
	f.want("write-state a 110 failed boom")
	f.saved("a", 110)
	f.c.TrailDeleted(f.now, 0, 1, 130)
	f.want("write-trail on 1 at 0 mine a")
	f.wait(2 * time.Second) // another try is due, and nobody knows what the trail lists
	f.c.Actions()
	f.trailed(131)
	f.wait(20 * time.Second)
	f.c.Actions()
	if i := f.c.isolation; i.begun {
		t.Errorf("nothing may begin, and nothing ends that: %+v", i)
	}
}

// A member that follows a shard for one resource that was moved to it may have missed what its watch should have told
// of others.
func TestOnlyTheOwnerOfAResourceSaysThatItIsInnocent(t *testing.T) {
	f := newFixture(t, wary)
	f.c.SetOwned(f.now, []bool{false, false}, Exceptions{0: {"guest": true}})
	f.want("watch 0")
	f.c.LeaseReady(f.now, 1)
	f.accuse("ann", 8, "a", "missed", "guest")
	f.snapshot([]string{"a"})
	f.c.QuarantinePut(f.now, 0, QuarantineKey{ID: "a", Token: 90, Digest: Digest([]byte("newer")), Text: "bad"})
	f.c.QuarantinePut(f.now, 0, QuarantineKey{ID: "guest", Token: 91, Digest: Digest([]byte("older")), Text: "bad"})
	f.want("write-trail on 8 at 101 ann's a,missed", "delete-quarantine guest 91")
}

func TestWhatIsMostLikelyToBlameIsHandledAloneFirst(t *testing.T) {
	for _, test := range []struct {
		ids      []string // what the trail of the latest death lists
		returned int
		first    string
	}{
		{[]string{"a", "c", "b"}, 0, "b"}, // the one that began last
		{[]string{"b", "c", "a"}, 2, "a"},
		{[]string{"b", "a", "c"}, 3, "c"},
		{[]string{"c", "b", "a"}, 1, "a"}, // of those that ran
	} {
		f := owning(t, nil, wary)
		f.accuse("ann", 8, "a", "b", "c")
		f.rev++
		f.c.TrailPut(f.now, 0, TrailKey{Lease: 9, ModRevision: f.rev, Read: func() Trail {
			return Trail{Member: "bob", At: f.now, IDs: test.ids, Returned: test.returned}
		}})
		f.snapshot([]string{"a", "b", "c"})
		f.c.Actions()
		for i, id := range []string{"c", "b", "a"} {
			f.claimed(id, 110+int64(i))
		}
		f.want("take-alone "+test.first+" on 1", saysAlone("c", 110), saysAlone("b", 111), saysAlone("a", 112))
	}
}

func TestTheTrailTellsThatASuspectHasReturned(t *testing.T) {
	f := owning(t, nil, wary)
	f.accuse("ann", 8, "a", "b")
	f.snapshot([]string{"a", "b"})
	f.c.Actions()
	f.claimed("a", 110)
	f.claimed("b", 111)
	f.want("write-trail on 1 at 0 mine a,b")
	f.trailed(112)
	f.want("handle a 110 on 1 v1", "handle b 111 on 1 v1")
	f.done("a", OK)
	for _, action := range f.c.Actions() {
		if action.Kind == WriteTrail {
			if got := action.Trail; got.Returned != 1 || got.IDs[0] != "a" || got.IDs[1] != "b" {
				t.Errorf("got %+v", got)
			}
			return
		}
	}
	t.Error("no trail is written")
}

func TestWhatIsExplainedAccusesNobodyInAShardWhereClaimsAreSeenToEndLater(t *testing.T) {
	f := owning(t, nil, wary, func(cfg *Config) { cfg.QuarantineAfter = 1 })
	f.accuse("ann", 7, "a")
	f.snapshot([]string{"a"})
	f.c.SetOwned(f.now, []bool{true, true}, nil)
	f.want("watch 1", "claim a on 1")
	f.c.ListTraces(f.now, 1, 103, []TrailKey{{Lease: 7, ModRevision: 90, Read: func() Trail {
		return Trail{Member: "ann", At: f.now, IDs: []string{"b"}}
	}}}, nil)
	f.c.Snapshot(f.now, 1, 103, []Entry{{ID: "b", Data: []byte("v1")}},
		[]ClaimKey{{ID: "b", Token: 80, ModRevision: 80, Lease: 7}}, nil)
	f.claimed("a", 110)
	f.want("write-quarantine a for 1")
	f.c.QuarantineDone(f.now, 0, "a", "bad", WriteResult{Applied: true, Revision: 115})
	f.want("exonerate on 7", "delete-trail on 7 at 102", "write-state a 110 quarantined bad")
	f.saved("a", 110)
	f.c.ClaimDeleted(f.now, 1, "b", 120)
	f.want("delete-trail on 7 at 90", "claim b on 1", "write-trail on 1 at 0 mine b")
}

// Somebody has freed the resource since the record was written, or it would not have begun again. The member has not
// heard of that yet.
func TestARecordEndsNoAccusationThatIsNewer(t *testing.T) {
	f := owning(t, nil, wary)
	f.accuse("ann", 8, "a")
	f.c.QuarantinePut(f.now, 0, QuarantineKey{ID: "a", Token: 90, Digest: Digest([]byte("v1")), Text: "bad"})
	f.snapshot([]string{"a"})
	f.want("claim a on 1")
	f.c.QuarantineDeleted(f.now, 0, "a", 95)
	if n := f.c.Suspicion(0, "a"); n != 1 {
		t.Errorf("accused of %d deaths, want 1", n)
	}
	f.c.QuarantinePut(f.now, 0, QuarantineKey{ID: "a", Token: 110, Digest: Digest([]byte("v1")), Text: "bad"})
	f.want("delete-trail on 8 at 102")
}

// A member that took over too much may die of that. The next one may, too.
func TestACrowdIsNotHandledOneByOne(t *testing.T) {
	ids := named("r", 200)
	f := answer(t, nil)
	for i, member := range []string{"ann", "bob", "cy", "dot", "eve"} {
		f.rev++
		f.c.TrailPut(f.now, 0, TrailKey{Lease: int64(7 + i), ModRevision: f.rev, Read: func() Trail {
			return Trail{Member: member, At: f.now, IDs: ids, Returned: 198}
		}})
	}
	for _, id := range ids {
		f.entry(id, "v1")
	}
	f.run(time.Minute)
	if n := len(f.calls); n != len(ids) {
		t.Errorf("%d of %d were called", n, len(ids))
	}
}

// The claims of a dead member are not all seen to be gone at one moment, and its trails accuse nobody before.
func TestACrowdIsSeenAlsoWhereItsDeathIsSeenLate(t *testing.T) {
	ids := named("r", 200)
	f := answer(t, nil)
	for i, member := range []string{"ann", "bob"} {
		f.rev++
		f.c.TrailPut(f.now, 0, TrailKey{Lease: int64(7 + i), ModRevision: f.rev, Read: func() Trail {
			return Trail{Member: member, At: f.now, IDs: ids[:20], Returned: 20}
		}})
	}
	for _, id := range ids[:20] {
		f.entry(id, "v1")
	}
	f.settle() // they are few
	for i, member := range []string{"ann", "bob"} {
		f.rev++
		f.c.TrailPut(f.now, 0, TrailKey{Lease: int64(7 + i), ModRevision: f.rev, Read: func() Trail {
			return Trail{Member: member, At: f.now, IDs: ids, Returned: 200}
		}})
	}
	for _, id := range ids[20:] {
		f.entry(id, "v1")
	}
	f.run(30 * time.Second)
	if n := len(f.calls); n != len(ids) {
		t.Errorf("%d of %d were called", n, len(ids))
	}
}

// What was never alone in a death may have begun beside the culprit each time.
func TestNothingIsQuarantinedThatWasNotAloneInADeath(t *testing.T) {
	f := owning(t, nil, wary)
	for i, member := range []string{"ann", "bob", "cy"} {
		f.accuse(member, int64(7+i), "a")
	}
	f.snapshot([]string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	for _, a := range f.c.Actions() {
		if a.Kind == WriteQuarantine {
			t.Fatal(describe(a))
		}
	}
	f.c.AloneDone(f.now, true, WriteResult{Applied: true, Revision: 121})
	f.c.Actions()
	f.accuseAlone("dot", 10, "a")
	found := false
	for _, a := range f.c.Actions() {
		found = found || a.Kind == WriteQuarantine
	}
	if !found {
		t.Error("a is not quarantined")
	}
}
