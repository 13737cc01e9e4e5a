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
