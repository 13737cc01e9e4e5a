package core

import (
	"fmt"
	"testing"
	"time"
)

func TestNeedLeaseIsAskedOnce(t *testing.T) {
	f := newFixture(t)
	f.own(true)
	f.snapshot([]string{"a", "b"})
	f.want("watch 0", "need-lease")
	f.entry("c", "v1")
	f.wait(time.Minute)
	f.want()
	f.c.LeaseReady(f.now, 1)
	f.want("claim b on 1", "claim a on 1", "claim c on 1")
}

func TestKeysPerLeaseIsRespected(t *testing.T) {
	f := owning(t, []string{"e", "d", "c", "b", "a"}, func(c *Config) { c.KeysPerLease = 2 })
	f.want("claim a on 1", "claim b on 1", "need-lease")
	f.c.LeaseReady(f.now, 2)
	f.want("claim c on 2", "claim d on 2", "need-lease")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.claimResult("b", WriteResult{Revision: 120, FoundToken: 115, FoundLease: 99}) // makes room
	f.entry("f", "v1")
	f.want("claim e on 1") // which has waited longer
	f.c.LeaseReady(f.now, 3)
	f.want("claim f on 3")
}

func TestClaimsGoToTheFullestLeaseThatHasRoom(t *testing.T) {
	f := owning(t, []string{"c", "b", "a"}, func(c *Config) { c.KeysPerLease = 2 })
	f.want("claim a on 1", "claim b on 1", "need-lease")
	f.c.LeaseReady(f.now, 2)
	f.want("claim c on 2")
	f.claimed("c", 110)
	f.claimed("a", 111)
	f.claimed("b", 112)
	f.want("handle c 110 on 2 v1", "handle a 111 on 1 v1", "handle b 112 on 1 v1")
	f.done("c", Error)
	f.remove("c")
	f.want("release c 110")
	f.released("c", 113)
	f.done("a", Error)
	f.remove("a")
	f.want("release a 111")
	f.released("a", 114)
	f.entry("d", "v1")
	f.want("claim d on 2") // the lease in use
	f.entry("e", "v1")
	f.entry("g", "v1")
	f.want("claim e on 2", "claim g on 1")
}

func TestFencedLeaseTerminatesWritesNothingAndIsRevokedOnlyWhenEmpty(t *testing.T) {
	f := owning(t, []string{"c", "b", "a"})
	f.want("claim a on 1", "claim b on 1", "claim c on 1")
	f.claimed("a", 110)
	f.claimed("b", 111)
	f.want("handle a 110 on 1 v1", "handle b 111 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.c.LeaseFenced(f.now, 1) // a is active, b being handled, c being claimed
	f.wantHandled()
	f.want("cancel b 111 fenced", "terminate a 110 fenced")
	f.c.StateDone(f.now, 0, "a", 110, WriteResult{Failed: true})
	f.wait(time.Minute)
	f.want()
	f.claimed("c", 112)
	f.want() // it is in etcd, and not handled
	f.done("b", OK)
	f.want("terminate b 111 fenced")
	f.done("a", OK)
	f.want()
	f.done("b", OK)
	f.want("revoke 1")
	f.c.LeaseReady(f.now, 2)
	f.want() // their keys are still there
	f.disappears("a", 120)
	f.disappears("b", 120)
	f.disappears("c", 120)
	f.want("claim a on 2", "claim b on 2", "claim c on 2")
}

func TestATerminateThatWasCutShortFollowsAtOnce(t *testing.T) {
	for _, hold := range []bool{false, true} {
		f := handled(t, func(c *Config) { c.HoldUntilTerminated = hold })
		f.remove("a")
		f.want("terminate a 110 removed")
		f.done("a", Cut) // before anything else tells of the lease
		f.want("terminate a 110 fenced")
		f.done("a", OK)
		f.want("revoke 1")
		f.disappears("a", 120)
		if !f.c.Idle() {
			t.Errorf("HoldUntilTerminated %v: something is left of it", hold)
		}
	}
}

func TestFencedLeaseWithAClaimOnItsWayIsRevokedAfterItsAnswer(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.c.LeaseFenced(f.now, 1)
	f.c.LeaseFenced(f.now, 1)
	f.want()
	f.claimResult("a", WriteResult{Failed: true})
	f.want("revoke 1")
	f.tick(time.Second)
	f.want("need-lease")
}

func TestOtherLeasesAreNotTouchedByAFencedOne(t *testing.T) {
	f := owning(t, []string{"b", "a"}, func(c *Config) { c.KeysPerLease = 1 })
	f.want("claim a on 1", "need-lease")
	f.c.LeaseReady(f.now, 2)
	f.want("claim b on 2")
	f.claimed("a", 110)
	f.claimed("b", 111)
	f.want("handle a 110 on 1 v1", "handle b 111 on 2 v1")
	f.done("a", OK)
	f.done("b", OK)
	f.want("write-state a 110 active", "write-state b 111 active")
	f.c.LeaseFenced(f.now, 1)
	f.want("terminate a 110 fenced")
	f.wantHandled("b")
}

func TestReleaseOnItsWayWhenItsLeaseIsFencedEndsWithItsAnswer(t *testing.T) {
	for name, res := range map[string]WriteResult{
		"unknown": {Unknown: true}, "failed": {Failed: true}, "applied": {Applied: true, Revision: 112},
	} {
		t.Run(name, func(t *testing.T) {
			f := handled(t)
			f.own(false)
			f.want("terminate a 110 moved")
			f.done("a", OK)
			f.want("release a 110")
			f.c.LeaseFenced(f.now, 1)
			f.want()
			f.releaseResult("a", res)
			f.want("revoke 1", "unwatch 0")
		})
	}
}

func TestLeaseThatEtcdDoesNotKnowIsFenced(t *testing.T) {
	f := owning(t, []string{"b", "a"})
	f.want("claim a on 1", "claim b on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.claimResult("b", WriteResult{LeaseGone: true})
	f.want("terminate a 110 fenced", "need-lease")
	f.done("a", OK)
	f.want("revoke 1")
	f.c.LeaseReady(f.now, 2)
	f.want("claim b on 2")
}

func TestRefusedHandleFencesItsLease(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", Refused)
	f.want("revoke 1") // without Terminate: it was not called
	f.disappears("a", 112)
	f.want("need-lease")
	f.c.LeaseReady(f.now, 2)
	f.want("claim a on 2")
}

func TestRefusedUpdateFencesItsLeaseAndTerminates(t *testing.T) {
	f := handled(t, canUpdate)
	f.entry("a", "v2")
	f.want("update a 110 on 1 v2")
	f.done("a", Refused)
	f.want("terminate a 110 fenced")
	f.done("a", OK)
	f.want("revoke 1")
}

func TestStuckCallDoesNotKeepAFencedLease(t *testing.T) {
	for _, hold := range []bool{false, true} {
		t.Run(fmt.Sprintf("hold=%v", hold), func(t *testing.T) {
			f := handled(t, func(c *Config) { c.HoldUntilTerminated = hold })
			f.c.LeaseFenced(f.now, 1)
			f.want("terminate a 110 fenced")
			f.hangs("a")
			if hold { // the lease is left to expire, and what was handled under it has ended by then
				f.want()
				f.disappears("a", 112)
				f.want("revoke 1")
			} else {
				f.want("revoke 1")
				f.disappears("a", 112)
			}
			f.want() // not claimed while the call runs
			f.done("a", OK)
			if hold { // another Terminate follows the one that was given up
				f.want("cancel a 110 claim-lost", "terminate a 110 claim-lost")
				f.done("a", OK)
			}
			f.want("need-lease")
		})
	}
}

func TestTerminateOfAFencedLeaseOvertakesOnesInOrder(t *testing.T) {
	// a and b are on lease 2, c on lease 1; there is one place, which a has, and b waits for it.
	f := owning(t, []string{"c", "b", "a"}, func(c *Config) { c.KeysPerLease = 2; c.TerminateConcurrency = 1 })
	f.want("claim a on 1", "claim b on 1", "need-lease")
	f.c.LeaseReady(f.now, 2)
	f.want("claim c on 2")
	for i, id := range []string{"a", "b", "c"} {
		f.claimed(id, 110+int64(i))
	}
	f.want("handle a 110 on 1 v1", "handle b 111 on 1 v1", "handle c 112 on 2 v1")
	for _, id := range []string{"a", "b", "c"} {
		f.done(id, OK)
	}
	f.want("write-state a 110 active", "write-state b 111 active", "write-state c 112 active")
	f.remove("a")
	f.remove("b")
	f.remove("c")
	f.want("terminate a 110 removed")
	f.c.LeaseFenced(f.now, 2)
	f.done("a", OK)
	f.want("release a 110", "terminate c 112 fenced")
	f.done("c", OK)
	f.want("revoke 2", "terminate b 111 removed")
}

func TestTerminateOfAFencedLeaseDoesNotWaitForAPlaceToUpdate(t *testing.T) {
	f := owning(t, []string{"b", "a"}, canUpdate, func(c *Config) { c.HandleConcurrency = 1 })
	f.want("claim a on 1", "claim b on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", OK)
	f.claimed("b", 111)
	f.want("handle b 111 on 1 v1", "write-state a 110 active") // slow
	f.entry("a", "v2")
	f.want()
	f.c.LeaseFenced(f.now, 1)
	f.want("cancel b 111 fenced", "terminate a 110 fenced")
}
