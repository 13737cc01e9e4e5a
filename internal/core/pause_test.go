package core

import (
	"testing"
	"time"
)

func TestNothingIsClaimedWhileClaimsArePaused(t *testing.T) {
	f := newFixture(t)
	f.c.PauseClaims(f.now, true)
	f.own(true)
	f.want("watch 0")
	f.c.LeaseReady(f.now, 1)
	f.snapshot([]string{"a", "b"})
	f.entry("c", "v1")
	f.want()
	f.c.PauseClaims(f.now, false)
	f.want("claim c on 1", "claim b on 1", "claim a on 1")
}

func TestWhatIsHandledGoesOnWhileClaimsArePaused(t *testing.T) {
	f := handled(t)
	f.c.PauseClaims(f.now, true)
	f.entry("a", "v2")
	f.want("terminate a 110 changed")
	f.done("a", OK)
	f.want("handle a 110 on 1 v2", "write-state a 110 claimed")
	f.entry("b", "v1")
	f.want()
	f.saved("a", 110)
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.own(false)
	f.want("terminate a 110 moved")
}

func TestAClaimOnItsWayIsUsedWhileClaimsArePaused(t *testing.T) {
	f := owning(t, []string{"a"})
	f.want("claim a on 1")
	f.c.PauseClaims(f.now, true)
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
}

func TestWhatWaitedForALeaseIsClaimedAfterThePause(t *testing.T) {
	f := newFixture(t)
	f.own(true)
	f.want("watch 0")
	f.snapshot([]string{"a"})
	f.want("need-lease")
	f.c.PauseClaims(f.now, true)
	f.c.LeaseReady(f.now, 1)
	f.want()
	f.c.PauseClaims(f.now, false)
	f.want("claim a on 1")
}

// A claim whose answer was lost is sent again, which tells whether it is there. During a pause it is asked for instead,
// also if it waits for its turn behind claims that take long.
func TestALostAnswerIsAskedForWhileClaimsArePaused(t *testing.T) {
	f := owning(t, []string{"b", "a"}, func(c *Config) { c.WriteBacklog = 1 })
	f.want("claim a on 1")
	f.claimResult("a", WriteResult{Unknown: true})
	f.want("claim b on 1")
	f.tick(time.Second) // a waits for its turn again
	f.want()
	f.c.PauseClaims(f.now, true)
	f.want()
	f.wait(5 * time.Second) // until it is certain
	f.want("release a 0")
}
