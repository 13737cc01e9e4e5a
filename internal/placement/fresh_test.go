package placement_test

import (
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/membership"
)

// The first answer of a fresh app may come at any moment while its members join: before anything is prepared for one of
// them, while it is told that all is, and when it has joined.
func TestAFreshAppIsPlacedForAllThatJoin(t *testing.T) {
	for name, before := range map[string]func(g *group){
		"nobody has joined yet": func(*group) {},
		"b is told that it may": func(g *group) { g.carryOut(t) },
		"b has joined":          func(g *group) { g.carryOut(t); g.record("b", membership.Active, nil); g.see() },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(rules(), make([]int64, shards)) // nothing weighs anything before the answer comes
			g.record("a", membership.Active, nil)
			for _, id := range []string{"b", "c"} {
				g.record(id, membership.Joining, nil)
			}
			g.see()
			before(g)
			load := make([]int64, shards)
			for n := range 9 {
				load[n*7] = 1000
			}
			for _, e := range g.planner.Fresh(load, g.now, time.Unix(0, 0).Add(g.now)).Exceptions {
				g.put(layout.Exception(e.Shard), e.Encode())
			}
			for _, id := range []string{"b", "c"} {
				g.record(id, membership.Active, nil)
			}
			g.load = load
			for id, has := range g.loads() {
				if has != 3000 {
					t.Errorf("%s has %d of 9000", id, has)
				}
			}
		})
	}
}
