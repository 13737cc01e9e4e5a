package core

import (
	"testing"
	"time"
)

// failedOnce makes a core whose Handle of "a" has failed under token 110, and waits for its next try.
func failedOnce(t *testing.T, change ...func(*Config)) *fixture {
	f := owning(t, []string{"a"}, change...)
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", Error)
	f.want("write-state a 110 failed boom")
	f.saved("a", 110)
	f.want()
	return f
}

// order gives an order to try a resource again.
func (f *fixture) order(id string, mod int64) {
	f.c.RetryPut(f.now, 0, RetryKey{ID: id, ModRevision: mod})
}

func TestAnOrderToTryAgainEndsThePause(t *testing.T) {
	f := failedOnce(t)
	f.order("a", 120)
	f.want("delete-retry a at 120", "handle a 110 on 1 v1")
	f.done("a", Error)
	f.want()
	f.wait(time.Second) // the pause is that of a first failure
	f.want("handle a 110 on 1 v1")
}

func TestAnOrderToTryAgainLeavesAloneATryInProgress(t *testing.T) {
	f := failedOnce(t)
	f.wait(time.Second)
	f.want("handle a 110 on 1 v1")
	f.order("a", 121)
	f.want("delete-retry a at 121")
	f.done("a", Error)
	f.want()
	f.wait(time.Second)
	f.want() // the pause is that of a second failure
	f.wait(time.Second)
	f.want("handle a 110 on 1 v1")
}

func TestAnOrderToTryAgainGivesAllAttemptsAnew(t *testing.T) {
	f := failedOnce(t, func(cfg *Config) { cfg.HandleAttempts = 1 })
	f.noTimer()
	f.order("a", 120)
	f.want("delete-retry a at 120", "handle a 110 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 110 active")
}

func TestAnOrderToTryAgainLeavesAloneWhatWorks(t *testing.T) {
	f := handled(t)
	f.order("a", 120)
	f.want("delete-retry a at 120")
	f.order("unknown", 121) // whoever claims it tries at once
	f.want("delete-retry unknown at 121")
}

func TestAnOrderIsObeyedOnce(t *testing.T) {
	f := failedOnce(t)
	f.order("a", 120)
	f.want("delete-retry a at 120", "handle a 110 on 1 v1")
	f.done("a", Error)
	f.want()
	relist := func(orders ...RetryKey) { f.c.ListRetries(f.now, 0, orders) }
	relist(RetryKey{"a", 120}) // it could not be deleted yet
	f.want()
	relist()
	f.want()
	relist(RetryKey{"a", 130}) // another order, which no event has told of
	f.want("delete-retry a at 130", "handle a 110 on 1 v1")
	f.c.RetryDeleted(f.now, 0, "a", 131)
	f.done("a", Error)
	f.order("a", 140)
	f.want("delete-retry a at 140", "handle a 110 on 1 v1")
	f.c.RetryDeleted(f.now, 0, "a", 139) // late news of an order before
	relist(RetryKey{"a", 140})
	f.want()
}

func TestAnOrderWaitsForTheMemberThatHasTheClaim(t *testing.T) {
	f := owning(t, nil)
	f.snapshot([]string{"a"}, ClaimKey{ID: "a", Token: 90, ModRevision: 90, Lease: 77})
	f.order("a", 95)
	f.want() // the other member may obey it, which has failed with it

	// That one is of a version that does not know of such orders. The first try under a new claim is what was ordered.
	f.disappears("a", 200)
	f.want("claim a on 1")
	f.claimed("a", 210)
	f.want("delete-retry a at 95", "handle a 210 on 1 v1")
}

func TestAnOrderEndsThePauseOfATerminateThatIsHeld(t *testing.T) {
	f := handled(t, func(cfg *Config) { cfg.HoldUntilTerminated = true })
	f.remove("a")
	f.want("terminate a 110 removed")
	f.done("a", Error)
	f.want("write-state a 110 failed boom")
	f.saved("a", 110)
	f.want()
	f.order("a", 120)
	f.want("delete-retry a at 120", "terminate a 110 removed")
}
