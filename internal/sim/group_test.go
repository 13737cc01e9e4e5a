package sim

import (
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/groupsim"
)

// grouped is a plan of three members whose group decides who owns what, and to which nothing happens but this.
func grouped(seed uint64, events ...groupsim.Event) Plan {
	p := Draw(Random(seed), 0)
	p.Members, p.Shards, p.Resources, p.Limits, p.Poison = 3, 3, 6, Limits{}, 0
	p.Bad, p.Hung, p.Lossy, p.HandleAttempts, p.MoveAfter, p.Receivers, p.Flaky = 0, 0, 0, 0, 0, NoReceivers, 0
	g := groupsim.Draw(groupsim.Random(seed), 0)
	g.Members, g.Weighty, g.Lossy, g.Cuts, g.Older, g.Events = 3, 0, 0, 0, 0, events
	p.Group = &g
	return p
}

// untilWell plays a plan until all is well.
func untilWell(t *testing.T, p Plan) *world {
	t.Helper()
	w := newWorld(p, Options{})
	w.Play(func() {
		for !w.closing && w.Result.Err == nil {
			w.next()
		}
	})
	if w.Result.Err != nil {
		t.Fatalf("%v\n%s", w.Result.Err, simulation.Describe(p))
	}
	return w
}

func TestAPinOfTheGroupDecidesWhoHandlesWhat(t *testing.T) {
	for seed := range uint64(20) {
		for to := range 3 {
			pin := groupsim.Event{Kind: groupsim.Pin, At: 2 * time.Second, Who: 1, What: to + 3}
			w := untilWell(t, grouped(seed, pin))
			for r := range w.ids {
				if w.shardOf(r) == 1 && w.members[to].handlings[r] == nil {
					t.Fatalf("seed %d: shard 1 is pinned to %s, which does not handle %s",
						seed, w.members[to].name, w.ids[r])
				}
			}
		}
	}
}

func TestADrainedMemberOfAGroupHandlesNothing(t *testing.T) {
	for seed := range uint64(20) {
		w := untilWell(t, grouped(seed, groupsim.Event{Kind: groupsim.DrainHard, At: 2 * time.Second, Who: 0, What: 2}))
		for r, h := range w.members[0].handlings {
			if h != nil {
				t.Fatalf("seed %d: the member is drained, and handles %s", seed, w.ids[r])
			}
		}
	}
}

func TestAMemberOfAGroupThatDiesDoesSoInBoth(t *testing.T) {
	w := untilWell(t, grouped(1, groupsim.Event{Kind: groupsim.Die, At: 2 * time.Second, Who: 2}))
	if w.members[2].up {
		t.Error("the process runs still")
	}
	if _, there := w.group.View().Members[w.group.ID(2)]; there {
		t.Error("the group has the member still")
	}
}
