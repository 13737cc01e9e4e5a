package shard_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/shard"
)

// group is a model of what membership keeps in etcd: who reserved which slot, and who is live.
type group struct {
	reserved []string
	live     map[string]bool
	weight   map[string]int
}

func newGroup() *group { return &group{live: map[string]bool{}, weight: map[string]int{}} }

func (g *group) isLive(id string) bool { return g.live[id] }

func (g *group) join(id string, weight int) {
	slots := shard.Reserve(g.reserved, g.isLive, id, weight)
	for i, m := range g.reserved {
		if m == id {
			g.reserved[i] = "" // Reserve below takes again what is still its own
		}
	}
	for _, i := range slots {
		for len(g.reserved) <= i {
			g.reserved = append(g.reserved, "")
		}
		g.reserved[i] = id
	}
	g.live[id], g.weight[id] = true, weight
}

func (g *group) leave(id string) { delete(g.live, id) }

func (g *group) slotsOf(id string) (slots []int) {
	for i, m := range g.reserved {
		if m == id {
			slots = append(slots, i)
		}
	}
	return slots
}

func (g *group) ids(live bool) (ids []string) {
	for id := range g.weight {
		if g.live[id] == live {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (g *group) assign(shards int) []string {
	slots := make([]string, len(g.reserved))
	for i, m := range g.reserved {
		if g.live[m] {
			slots[i] = m
		}
	}
	return owners(shard.NewRing(slots), shards)
}

// owners returns the owner of each shard.
func owners(ring *shard.Ring, shards int) []string {
	list := make([]string, shards)
	for s := range list {
		list[s] = ring.Owner(s)
	}
	return list
}

// grow makes a group of a random size, up to 1,000 members, of which a random part has left.
func grow(t *rapid.T) *group {
	g := newGroup()
	size := rapid.OneOf(rapid.IntRange(0, 10), rapid.IntRange(1, 1000)).Draw(t, "size")
	heaviest := rapid.SampledFrom([]int{1, 1, 3, 32}).Draw(t, "heaviest")
	keep := rapid.SampledFrom([]int{1, 1, 2, 100}).Draw(t, "keep one in")
	for i := range size {
		// Reserve would take quadratic time for this.
		id, weight := fmt.Sprint("m", i), 1+i%heaviest
		for range weight {
			g.reserved = append(g.reserved, id)
		}
		g.live[id], g.weight[id] = i%keep == 0, weight
		if !g.live[id] {
			delete(g.live, id)
		}
	}
	return g
}

func TestMembershipChangesMoveTheLeastPossible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := rapid.SampledFrom([]int{1, 7, 128, 512}).Draw(t, "shards")
		g := grow(t)
		before := g.assign(shards)
		newcomers := 0
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			var who, what string
			live, gone := g.ids(true), g.ids(false)
			switch rapid.IntRange(0, 3).Draw(t, "change") {
			case 0: // a new member
				newcomers++
				what, who = "join", fmt.Sprint("new", newcomers)
				g.join(who, rapid.IntRange(1, 32).Draw(t, "weight"))
			case 1: // a member that was here before, whose slots others may have now
				if len(gone) == 0 {
					continue
				}
				what, who = "join", rapid.SampledFrom(gone).Draw(t, "returns")
				g.join(who, rapid.IntRange(1, 4).Draw(t, "weight"))
			default:
				if len(live) == 0 {
					continue
				}
				what, who = "leave", rapid.SampledFrom(live).Draw(t, "leaves")
				g.leave(who)
			}
			after := g.assign(shards)
			for s := range shards {
				from, to := before[s], after[s]
				if (to == "") != (len(g.live) == 0) {
					t.Fatalf("%s of %s: shard %d has owner %q with %d members live", what, who, s, to, len(g.live))
				}
				if from != to && what == "join" && to != who {
					t.Fatalf("the join of %s moved shard %d from %q to %q", who, s, from, to)
				}
				if from != to && what == "leave" && from != who {
					t.Fatalf("the leave of %s moved shard %d from %q to %q", who, s, from, to)
				}
			}
			before = after
		}
	})
}

func TestMembersThatReturnGetTheirShardsBack(t *testing.T) {
	const shards = 256
	rapid.Check(t, func(t *rapid.T) {
		g := grow(t)
		live := g.ids(true)
		if len(live) == 0 {
			return
		}
		before := g.assign(shards)
		away := rapid.SliceOfNDistinct(rapid.SampledFrom(live), 1, min(5, len(live)), rapid.ID).Draw(t, "away")
		slots := map[string][]int{}
		for _, id := range away {
			slots[id] = g.slotsOf(id)
			g.leave(id)
		}
		for _, id := range rapid.Permutation(away).Draw(t, "back") {
			g.join(id, g.weight[id])
			if got := g.slotsOf(id); !slices.Equal(got, slots[id]) {
				t.Fatalf("%s came back to slots %v, and had %v", id, got, slots[id])
			}
		}
		if after := g.assign(shards); !slices.Equal(before, after) {
			t.Fatalf("shards are elsewhere after %v went and came back: %v, then %v", away, before, after)
		}
	})
}

func TestReserveTakesNothingFromTheLiving(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.SampledFrom([]string{"", "a", "b", "c", "d"})
		reserved := rapid.SliceOfN(id, 0, 20).Draw(t, "reserved")
		dead := rapid.Map(rapid.SliceOf(id), func(ids []string) map[string]bool {
			m := map[string]bool{}
			for _, id := range ids {
				m[id] = true
			}
			return m
		}).Draw(t, "dead")
		live := func(m string) bool { return !dead[m] }
		weight := rapid.IntRange(1, 32).Draw(t, "weight")
		slots := shard.Reserve(reserved, live, "a", weight)
		if len(slots) != weight || !slices.IsSorted(slots) || len(slices.Compact(slices.Clone(slots))) != weight {
			t.Fatalf("%v: not %d different slots in order", slots, weight)
		}
		for _, i := range slots {
			if i < len(reserved) && reserved[i] != "" && reserved[i] != "a" && live(reserved[i]) {
				t.Fatalf("slot %d was taken from %s, which is live", i, reserved[i])
			}
		}
		if last := slots[len(slots)-1]; last >= len(reserved)+weight {
			t.Fatalf("slot %d leaves a gap after %d slots", last, len(reserved))
		}
	})
}
