package core

import (
	"testing"
	"time"
)

// givingAway makes a Core that handles a, b and c, and whose shard went to another member. Only one resource may be on
// its way to that member at a time.
func givingAway(t *testing.T) *fixture {
	f := owning(t, []string{"a", "b", "c"}, func(c *Config) { c.ReleaseBacklog, c.Handover = 1, time.Second })
	f.c.Actions()
	f.active([]string{"a", "b", "c"})
	f.own(false)
	return f
}

func TestTheNextTerminateWaitsUntilTheNextOwnerHasClaimed(t *testing.T) {
	f := givingAway(t)
	f.want("terminate c 202 moved")
	f.done("c", OK)
	f.want("release c 202")
	f.released("c", 300)
	f.want() // nobody handles it, and this member still handles the others
	f.wantHandled("a", "b")
	f.appears("c", 301, 77)
	f.want("terminate b 201 moved")
	f.done("b", OK)
	f.want("release b 201")
	f.appears("b", 303, 77) // the watch may be faster than the answer
	f.released("b", 302)
	f.want("terminate a 200 moved")
	f.done("a", OK)
	f.want("release a 200")
	f.released("a", 304)
	f.want() // the core goes on following the shard
	f.appears("a", 305, 77)
	f.want("unwatch 0")
}

func TestWhereNobodyClaimsTheRestGoesOnWithoutWaiting(t *testing.T) {
	f := givingAway(t)
	f.want("terminate c 202 moved")
	f.done("c", OK)
	f.want("release c 202")
	f.released("c", 300)
	f.want()
	f.wait(time.Second)
	f.want("terminate b 201 moved")
	f.done("b", OK)
	f.want("release b 201")
	f.released("b", 301)
	f.want("terminate a 200 moved")
	f.appears("b", 302, 77) // somebody is there after all
	f.done("a", OK)
	f.want("release a 200")
	f.released("a", 303)
	f.want()
	f.wait(time.Second)
	f.want("unwatch 0")
}

func TestAloneEverythingIsLetGoOfAtOnce(t *testing.T) {
	f := owning(t, []string{"a", "b", "c"}, func(c *Config) { c.ReleaseBacklog, c.Handover = 1, time.Second })
	f.c.Actions()
	f.active([]string{"a", "b", "c"})
	f.c.SetAlone(f.now, true)
	f.c.Stop(f.now)
	f.want("terminate c 202 stopped", "terminate b 201 stopped", "terminate a 200 stopped")
	f.done("c", OK)
	f.want("release c 202")
	f.released("c", 300)
	f.done("b", OK)
	f.want("release b 201")
}

func TestWhoeverComesIsHandedThingsOneByOne(t *testing.T) {
	f := owning(t, []string{"a", "b", "c"}, func(c *Config) { c.ReleaseBacklog, c.Handover = 1, time.Second })
	f.c.Actions()
	f.active([]string{"a", "b", "c"})
	f.c.SetAlone(f.now, true)
	f.c.SetAlone(f.now, false)
	f.c.Stop(f.now)
	f.want("terminate c 202 stopped")
}

func TestAShardThatComesBackIsNotWaitedFor(t *testing.T) {
	f := givingAway(t)
	f.want("terminate c 202 moved")
	f.done("c", OK)
	f.want("release c 202")
	f.released("c", 300)
	f.own(true)
	f.want("claim c on 1")
	f.claimed("c", 301)
	f.want("handle c 301 on 1 v1")
	f.wantHandled("a", "b")
}

func TestWhatNobodyWantsIsNotWaitedFor(t *testing.T) {
	f := givingAway(t)
	f.want("terminate c 202 moved")
	f.done("c", OK)
	f.want("release c 202")
	f.released("c", 300)
	f.want()
	f.remove("c")
	f.want("terminate b 201 moved")
}
