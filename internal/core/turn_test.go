package core

import (
	"testing"
	"time"
)

// What the trail lists is suspected when this process dies, so it must not list what only waits for a budget.
func TestTheTrailListsNothingThatItsBudgetHasNotAdmitted(t *testing.T) {
	f := rationed(t, []string{"a", "b", "c"}, wary, handleRate(1, 1))
	f.want("write-trail on 1 at 0 mine a")
	f.trailed(301)
	f.want("handle a 200 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 200 active")
	f.saved("a", 200)
	f.want()
	f.wait(time.Second)
	f.want("write-trail on 1 at 301 mine a,b")
	f.trailed(302)
	f.want("handle b 201 on 1 v1")
}

// The rate holds for the calls, and not only for what the trail lists.
func TestCallsThatATrailHasHeldUpDoNotExceedTheirRate(t *testing.T) {
	f := rationed(t, []string{"a", "b", "c"}, wary, handleRate(1, 1))
	f.want("write-trail on 1 at 0 mine a")
	for range 2 {
		f.wait(time.Second)
		f.want()
	}
	f.trailed(301)
	f.want("write-trail on 1 at 301 mine a,b,c", "handle a 200 on 1 v1")
	f.trailed(302)
	f.want()
	f.wait(time.Second)
	f.want("handle b 201 on 1 v1")
	f.wait(time.Second)
	f.want("handle c 202 on 1 v1")
}

func TestAResourceThatIsToldOfAnewIsAdmittedAnew(t *testing.T) {
	f := rationed(t, []string{"a"}, wary, handleRate(0.25, 1))
	f.want("write-trail on 1 at 0 mine a")
	f.trailed(301)
	f.want("handle a 200 on 1 v1")
	f.done("a", Error)
	f.want("write-state a 200 failed boom")
	f.saved("a", 200)
	f.c.TrailDeleted(f.now, 0, 1, 305) // by hand
	f.wait(2 * time.Second)
	f.want()
	f.wait(2 * time.Second)
	f.want("write-trail on 1 at 0 mine a")
	f.trailed(310)
	f.want("handle a 200 on 1 v1")
}

// The key of changed data is not known yet. So the trail must not list the resource although it has its turn.
func TestWhatHasItsTurnToBeAloneWaitsForItsKeyToo(t *testing.T) {
	f := rationed(t, nil, wary, keyRate(1, 1))
	f.accuse("ann", 8, "a")
	f.accuse("bob", 9, "a")
	f.snapshot([]string{"a"})
	f.want("claim a on 1")
	f.claimed("a", 111)
	f.want("find-key a 1")
	f.c.KeyFound(f.now, 0, "a", 1, "a", true)
	f.pass(time.Minute) // the budget begins empty
	f.want("take-alone a on 1", saysAlone("a", 111))
	f.saved("a", 111)
	f.entry("a", "v2")
	f.want("find-key a 2")
	f.c.AloneDone(f.now, true, WriteResult{Applied: true, Revision: 121})
	f.want("free-alone on 1")
	f.c.AloneDone(f.now, false, WriteResult{Applied: true, Revision: 122})
	f.c.KeyFound(f.now, 0, "a", 2, "a", true)
	f.want()
	f.wait(2 * time.Second)
	f.want("take-alone a on 1")
}
