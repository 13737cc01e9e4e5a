package core

import (
	"testing"
	"time"
)

// assign says who owns shard 0, and which resources in it are exceptions.
func (f *fixture) assign(mine bool, moved map[string]bool) {
	f.c.SetOwned(f.now, []bool{mine, false}, Exceptions{0: moved})
}

func TestAResourceThatWasMovedAwayIsGivenAwayAloneOfItsShard(t *testing.T) {
	f := owning(t, []string{"a", "b"})
	f.c.Actions()
	f.active([]string{"a", "b"})
	f.assign(true, map[string]bool{"a": false})
	f.want("terminate a 200 moved")
	f.done("a", OK)
	f.want("release a 200")
	f.released("a", 300)
	f.want()
	f.wantHandled("b")
	f.assign(true, nil)
	f.want("claim a on 1")
}

func TestAMemberFollowsAShardForOneResourceThatWasMovedToIt(t *testing.T) {
	f := newFixture(t)
	f.assign(false, map[string]bool{"a": true})
	f.want("watch 0")
	f.c.LeaseReady(f.now, 1)
	f.snapshot([]string{"a", "b"})
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", OK)
	f.want("write-state a 110 active")
	f.saved("a", 110)
	f.assign(false, nil)
	f.want("terminate a 110 moved")
	f.done("a", OK)
	f.want("release a 110")
	f.released("a", 300)
	f.want("unwatch 0")
}

func TestAResourceThatWasMovedToItsShardsOwnerChangesNothing(t *testing.T) {
	f := handled(t)
	f.assign(true, map[string]bool{"a": true})
	f.want()
	f.assign(false, map[string]bool{"a": true})
	f.want()
	f.wantHandled("a")
	f.c.Stop(f.now)
	f.want("terminate a 110 stopped")
}

func TestWhatFailsAgainAndAgainIsGivenAway(t *testing.T) {
	f := handled(t, func(c *Config) { c.MoveAfter = 2 })
	f.broke("a")
	f.want("terminate a 110 failure", "write-state a 110 failed disconnected")
	f.saved("a", 110)
	f.done("a", OK)
	f.want()
	f.tick(time.Second)
	f.want("handle a 110 on 1 v1")
	f.done("a", Error)
	f.want("give-away a 110 boom", "write-state a 110 failed boom")
}

func TestWhatIsStuckIsGivenAwayAtOnce(t *testing.T) {
	f := handled(t, func(c *Config) { c.MoveAfter = 5 })
	f.entry("a", "v2")
	f.want("terminate a 110 changed")
	f.hangs("a")
	f.want("give-away a 110 hangs", "release a 110")
}

func TestNothingIsGivenAwayWhereNobodyElseIs(t *testing.T) {
	f := owning(t, []string{"a"}, func(c *Config) { c.MoveAfter = 1 })
	f.c.SetAlone(f.now, true)
	f.want("claim a on 1")
	f.claimed("a", 110)
	f.want("handle a 110 on 1 v1")
	f.done("a", Error)
	f.want("write-state a 110 failed boom")
}
