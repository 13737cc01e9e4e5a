package placement_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/internal/claims"
)

// idle lets time pass in which nobody says anything, and nothing is seen but what the coordinator does itself: it plans
// when it has wanted to.
func (g *group) idle(t fataler, d time.Duration) {
	for end := g.now + d; g.now < end; {
		next := g.carryOut(t)
		if next == 0 {
			next = end
		}
		g.now = min(max(next, g.now+time.Second), end)
	}
}

// A member says once that shards have become empty. Its word is newer than the coordinator's last view, as it is in a
// group that is quiet, so that it counts only after a while. Nobody says anything else then.
func TestTheLoadIsEvenedOutThoughNobodySaysMoreThanThatShardsAreEmpty(t *testing.T) {
	g := newGroup(rules(), even(1000))
	g.join(t, "a", "1")
	g.join(t, "b", "1")
	g.rest(t, time.Hour)
	emptied := 0
	for n, owner := range g.view().Owners() {
		if owner == "a" && emptied < 20 {
			g.load[n] = 0
			emptied++
		}
	}
	g.say("a")
	g.idle(t, 10*time.Minute)
	for id, load := range g.loads() {
		if load > g.bound(2) {
			t.Errorf("%s has %d of %v, want %d at most", id, load, g.loads(), g.bound(2))
		}
	}
}

// say lets a member say what its shards weigh, as a member does.
func (g *group) say(member string) {
	said := claims.Loads{Shards: map[int]int64{}}
	for n, owner := range g.view().Owners() {
		if owner == member && g.load[n] > 0 { // a member does not name shards that weigh nothing
			said.Shards[n] = g.load[n]
		}
	}
	g.revision++
	g.planner.Take(member, said, g.revision)
}

// Each change is said once, whatever the coordinator knows of the group by then.
func TestAChangeOfTheLoadThatIsSaidOnceIsEvenedOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rules()
		r.Quiet = rapid.SampledFrom([]time.Duration{time.Second, 20 * time.Second, time.Minute}).Draw(t, "quiet")
		r.Moving = rapid.SampledFrom([]int64{20_000, 1_000_000_000}).Draw(t, "moving")
		g := newGroup(r, even(1000))
		members := []string{"a", "b", "c"}
		for _, id := range members {
			g.join(t, id, "1")
		}
		g.rest(t, time.Hour)
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			id := rapid.SampledFrom(members).Draw(t, "member")
			for n, owner := range g.view().Owners() {
				if owner == id && rapid.IntRange(0, 2).Draw(t, "changes") > 0 {
					g.load[n] = 1000 * rapid.Int64Range(0, 2).Draw(t, "load")
				}
			}
			g.say(id)
			g.settle(t, members, rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute}).Draw(t, "time"))
		}
		g.settle(t, members, time.Hour)
		for id, load := range g.loads() {
			if load > g.bound(len(members)) {
				t.Fatalf("%s has %d of %v, want %d at most", id, load, g.loads(), g.bound(len(members)))
			}
		}
	})
}

// settle is idle, and lets members say what they have when it has changed, a moment later.
func (g *group) settle(t fataler, members []string, d time.Duration) {
	said := map[string][]bool{}
	for _, id := range members {
		said[id] = g.view().Owned(id)
	}
	for end := g.now + d; g.now < end; {
		plan := g.plan()
		g.publish(plan)
		for _, n := range plan.Drop {
			g.delete(layout.Exception(n))
		}
		if !plan.IsEmpty() {
			g.planner.See(g.view(), g.now)
			g.now = min(g.now+time.Second, end)
			for _, id := range members {
				if owned := g.view().Owned(id); !slices.Equal(owned, said[id]) {
					said[id] = owned
					g.say(id)
				}
			}
			continue
		}
		next := plan.Next
		if next == 0 {
			next = end
		}
		g.now = min(max(next, g.now+10*time.Millisecond), end)
	}
}
