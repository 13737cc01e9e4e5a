package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// wary makes a core keep trails.
func wary(cfg *Config) {
	cfg.QuarantineAfter, cfg.QuarantineWindow, cfg.Young = 3, time.Hour, 10*time.Second
	cfg.Crowd = 32
	cfg.HandleConcurrency = 100
}

// trailed says that the trail of lease 1 was written, or deleted, at a revision.
func (f *fixture) trailed(rev int64) {
	f.c.TrailDone(f.now, 0, 1, WriteResult{Applied: true, Revision: rev})
}

// accuse lets another member's trail, which has no claims any more, list resources.
func (f *fixture) accuse(member string, lease int64, ids ...string) {
	f.rev++
	f.c.TrailPut(f.now, 0, TrailKey{Lease: lease, ModRevision: f.rev, Read: func() Trail {
		return Trail{Member: member, At: f.now, IDs: ids}
	}})
}

// accuseAlone is accuse of a resource that was handled alone.
func (f *fixture) accuseAlone(member string, lease int64, id string) {
	f.rev++
	f.c.TrailPut(f.now, 0, TrailKey{Lease: lease, ModRevision: f.rev, Read: func() Trail {
		return Trail{Member: member, At: f.now, IDs: []string{id}, Alone: true}
	}})
}

func (f *fixture) edited(lease int64) {
	f.rev++
	f.c.TrailDone(f.now, 0, lease, WriteResult{Applied: true, Revision: f.rev})
}

// trailedAndHandled makes a wary core whose handler has "a" under token 110, while its trail lists it.
func trailedAndHandled(t *testing.T) *fixture {
	f := owning(t, []string{"a"}, wary)
	f.want("claim a on 1", "write-trail on 1 at 0 mine a")
	f.trailed(105)
	f.want()
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.saved("a", 110)
	f.want()
	return f
}

func TestHandleWaitsForTheTrailThatListsIt(t *testing.T) {
	f := owning(t, []string{"a"}, wary)
	f.want("claim a on 1", "write-trail on 1 at 0 mine a")
	f.claimed("a", 110)
	f.want() // etcd has not answered about the trail
	f.trailed(111)
	f.want("handle a 110 on 1 v1")
}

func TestATrailWhoseAnswerIsLostIsWrittenAgainBeforeHandle(t *testing.T) {
	f := owning(t, []string{"a"}, wary)
	f.want("claim a on 1", "write-trail on 1 at 0 mine a")
	f.claimed("a", 110)
	f.c.TrailDone(f.now, 0, 1, WriteResult{Unknown: true})
	f.want()
	f.tick(10 * time.Second)
	f.want("write-trail on 1 at 0 mine a")
	f.c.TrailDone(f.now, 0, 1, WriteResult{Revision: 120, FoundMod: 112, FoundToken: 112})
	f.want("write-trail on 1 at 112 mine a")
	f.trailed(121)
	f.want("handle a 110 on 1 v1")
}

func TestATrailIsDeletedWhenWhatItListsIsNotYoungAnyMore(t *testing.T) {
	f := trailedAndHandled(t)
	f.wait(9 * time.Second)
	f.want()
	f.wait(2 * time.Second)
	f.want("delete-trail on 1 at 105")
	f.trailed(130)
	f.want()
	if f.c.trails.open != 0 {
		t.Error("the core keeps the trail")
	}
}

func TestAnotherHandleNeedsAnotherTrail(t *testing.T) {
	f := trailedAndHandled(t)
	f.c.Broke(f.now, 0, "a", "boom")
	f.want("terminate a 110 failure", "write-state a 110 failed boom")
	f.done("a", OK)
	f.want()
	f.saved("a", 110)
	f.tick(2 * time.Second) // the trail still lists it
	f.want("handle a 110 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.saved("a", 110)
	f.wait(20 * time.Second)
	f.want("delete-trail on 1 at 105")
	f.trailed(130)
	f.c.Lapsed(f.now, 0, "a")
	f.want("cancel a 110 gone", "write-trail on 1 at 0 mine a", "write-state a 110 claimed")
	f.trailed(131)
	f.want("handle a 110 on 1 v1")
}

func TestAnOrderlyEndDeletesTheTrail(t *testing.T) {
	f := trailedAndHandled(t)
	f.own(false)
	f.want("terminate a 110 moved")
	f.done("a", OK)
	f.want("release a 110", "delete-trail on 1 at 105")
	f.released("a", 140)
	f.want() // the shard is followed until the trail is gone
	f.trailed(141)
	f.want("unwatch 0")
}

func TestAMemberThatLivesDeletesTheTrailOfALeaseThatIsGone(t *testing.T) {
	f := trailedAndHandled(t)
	f.c.LeaseFenced(f.now, 1)
	f.want("terminate a 110 fenced")
	f.done("a", OK)
	f.want("revoke 1", "delete-trail on 1 at 105")
	f.c.TrailDone(f.now, 0, 1, WriteResult{Failed: true})
	f.want()
	f.tick(10 * time.Second)
	f.want("delete-trail on 1 at 105")
}

func TestOnlyWhatBeginsSoonIsListed(t *testing.T) {
	ids := []string{"a", "b", "c", "d", "e", "f", "g"}
	f := owning(t, nil, wary, func(cfg *Config) { cfg.HandleConcurrency = 2 })
	f.snapshot(ids)
	var listed []string
	for _, a := range f.c.Actions() {
		switch a.Kind {
		case Claim:
			f.claimed(a.ID, 110+int64(a.ID[0]))
		case WriteTrail:
			listed = a.Trail.IDs
		}
	}
	if len(listed) != 2 {
		t.Fatalf("the trail lists %q, of which two can begin", listed)
	}
	f.trailed(300)
	begun := 0
	for _, a := range f.c.Actions() {
		switch a.Kind {
		case Handle:
			begun++
			if !slices.Contains(listed, a.ID) {
				t.Errorf("%s begins, and is not listed", a.ID)
			}
		case WriteTrail:
			listed = a.Trail.IDs
		}
	}
	if begun != 2 || len(listed) != 4 {
		t.Errorf("%d begin, and then %q are listed; want two that run, and two that begin next", begun, listed)
	}
}

func TestATrailThatSomebodyDeletesIsWrittenAgainBeforeTheNextHandle(t *testing.T) {
	f := owning(t, []string{"a"}, wary)
	f.want("claim a on 1", "write-trail on 1 at 0 mine a")
	f.trailed(105)
	f.want()
	f.c.TrailDeleted(f.now, 0, 1, 107)
	f.want("write-trail on 1 at 0 mine a")
	f.claimed("a", 110)
	f.want()
	f.trailed(111)
	f.want("handle a 110 on 1 v1")
}

func TestATrailAccusesWhenNoClaimIsLeft(t *testing.T) {
	f := owning(t, nil, wary)
	f.snapshot([]string{"a", "b"}, ClaimKey{"a", 50, 50, 9}, ClaimKey{"b", 51, 51, 9})
	f.accuse("ann", 9, "a", "b")
	f.want()
	for id, want := range map[string]int{"a": 0, "b": 0} {
		if got := f.c.suspicion(f.c.shards[0].byID[id]); got != want {
			t.Errorf("%s is accused of %d deaths while the claims are there, want %d", id, got, want)
		}
	}
	f.disappears("a", 120)
	f.disappears("b", 120)
	if got := f.c.suspicion(f.c.shards[0].byID["a"]); got != 1 {
		t.Errorf("a is accused of %d deaths, want 1", got)
	}
	f.want("claim a on 1", "claim b on 1") // nothing is listed with the claim of a suspect
	f.claimed("a", 130)
	f.claimed("b", 131)
	f.want("write-trail on 1 at 0 mine a,b")
	f.trailed(132)
	f.want("handle a 130 on 1 v1", "handle b 131 on 1 v1")
	f.done("a", OK)
	f.done("b", Error)
	f.c.Actions()
	f.wait(11 * time.Second) // a has survived, and nobody knows about b, whose Handle failed
	var got []string
	for _, a := range f.c.Actions() {
		got = append(got, describe(a))
	}
	if s := strings.Join(got, "; "); !strings.Contains(s, "write-trail on 9 at 103 ann's b") {
		t.Errorf("actions: %s; want the accusation of a ended", s)
	}
}

func TestFewOfManySuspectsRunAtOnce(t *testing.T) {
	var ids []string
	for i := range 99 {
		ids = append(ids, fmt.Sprintf("r%02d", i))
	}
	f := owning(t, nil, wary)
	f.accuse("ann", 9, ids...)
	f.snapshot(append(ids, "fresh"))
	token, groups := int64(200), []int{}
	var running []string
	for range 40 {
		for again := true; again; {
			again = false
			for _, a := range f.c.Actions() {
				again = true
				token++
				switch a.Kind {
				case Claim:
					f.claimed(a.ID, token)
				case WriteTrail, DeleteTrail:
					f.c.TrailDone(f.now, 0, a.Lease, WriteResult{Applied: true, Revision: token})
				case Handle:
					running = append(running, a.ID)
				case WriteState:
					f.saved(a.ID, a.Token)
				}
			}
		}
		if len(running) > 0 {
			groups = append(groups, len(running))
		}
		for _, id := range running {
			f.done(id, OK)
		}
		running = nil
	}
	if groups[0] != 9 || groups[1] != 8 {
		t.Errorf("%d run at once, want 9, 8, …: the fresh one is not held back", groups)
	}
	all := 0
	for _, n := range groups {
		all += n
	}
	if all != 100 || slices.Max(groups[1:]) > 8 {
		t.Errorf("%d run at once, want 100 in all, and at most 8 suspects", groups)
	}
}

func TestALostAnswerDelaysNoLaterTrail(t *testing.T) {
	f := owning(t, []string{"a"}, wary, func(cfg *Config) { cfg.UncertainFor = time.Minute })
	f.want("claim a on 1", "write-trail on 1 at 0 mine a")
	f.c.TrailDone(f.now, 0, 1, WriteResult{Unknown: true})
	f.claimResult("a", WriteResult{Unknown: true}) // both were in one transaction
	f.want()
	f.tick(10 * time.Second)
	f.want("claim a on 1", "write-trail on 1 at 0 mine a")
	f.claimed("a", 110)
	f.trailed(110)
	f.want("handle a 110 on 1 v1")
}

// Otherwise the member's death would accuse what another member handles by then.
func TestWhatIsReleasedIsOutOfTheTrailAtOnce(t *testing.T) {
	f := owning(t, []string{"a", "b"}, wary)
	f.want("claim b on 1", "claim a on 1", "write-trail on 1 at 0 mine b,a")
	f.trailed(105)
	f.claimed("a", 110)
	f.claimed("b", 111)
	f.want("handle a 110 on 1 v1", "handle b 111 on 1 v1")
	f.done("a", OK)
	f.done("b", OK)
	f.want("write-state a 110 active", "write-state b 111 active")
	f.remove("a")
	f.want("terminate a 110 removed")
	f.done("a", OK)
	f.want("release a 110", "write-trail on 1 at 105 mine b")
}
