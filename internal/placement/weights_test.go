package placement_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/membership"
)

// adapt gives a member the slots that belong to its weight, as the member itself does.
func (g *group) adapt(id string) {
	v := g.view()
	weight := v.WeightOf(id)
	if weight == 0 {
		return
	}
	h := v.Reserved().Reserve(func(id string) bool { _, live := v.Members[id]; return live }, id, weight)
	for _, n := range h.Slots {
		g.put(layout.Slot(n), id)
	}
	for _, b := range h.Blocks {
		g.put(layout.Block(b.From), membership.EncodeBlock(b))
	}
	m := v.Members[id].Record
	m.Slots, m.Blocks, m.Held = h.Slots, nil, 0
	for _, b := range h.Blocks {
		m.Blocks, m.Held = append(m.Blocks, b.From), h.Weight()
	}
	g.put(layout.Member(id), m.Encode())
	g.see()
}

// Whatever weights are ordered, members that come and go included, each has its share by weight in the end, and one of
// weight 0 nothing.
func TestLoadsFollowTheWeightsInTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGroup(rules(), even(1000))
		g.join(t, "m0", "1")
		g.put(layout.Coordinator(), "m0")
		weight := rapid.OneOf(rapid.IntRange(0, 4), rapid.IntRange(1, 1000))
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			id := fmt.Sprint("m", rapid.IntRange(1, 4).Draw(t, "who"))
			_, live := g.view().Members[id]
			switch what := rapid.IntRange(0, 5).Draw(t, "what"); {
			case !live:
				g.join(t, id, "1")
				g.adapt(id)
			case what == 0:
				g.die(t, id)
			case what == 1:
				g.delete(layout.Weight(id))
				g.see()
				g.adapt(id)
			default:
				order := membership.WeightOrder{Weight: weight.Draw(t, "weight")}
				if order.Weight == 0 && rapid.Bool().Draw(t, "bit by bit") {
					order.Keeps = g.view().Owned(id)
				}
				g.put(layout.Weight(id), order.Encode())
				g.see()
				g.adapt(id)
			}
			g.carryOut(t)
		}
		g.rest(t, 5*time.Minute)
		v, all := g.view(), 0
		for id := range v.Members {
			all += v.WeightOf(id)
		}
		for id, l := range g.loads() {
			fair := 1000 * float64(shards) * float64(v.WeightOf(id)) / float64(all)
			if bound := max(fair*1.05, fair+1000) + 1; float64(l) > bound || v.WeightOf(id) == 0 && l > 0 {
				t.Fatalf("%s of weight %d of %d has %d, and may have %.0f: %v",
					id, v.WeightOf(id), all, l, bound, g.loads())
			}
		}
	})
}
