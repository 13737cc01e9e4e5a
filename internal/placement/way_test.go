package placement_test

import (
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/membership"
)

// uneven makes a group of two, in which b has all shards.
func uneven(t *testing.T, r placement.Rules) *group {
	off := r
	off.Off = true
	g := newGroup(off, even(1000))
	g.join(t, "a", "1")
	g.join(t, "b", "1")
	for n, owner := range g.view().Owners() {
		if owner == "a" {
			g.put(layout.Exception(n), membership.Exception{Member: "b", Why: membership.WhyRing}.Encode())
		}
	}
	g.see()
	g.rules = r
	g.elect()
	return g
}

// lists returns what a member says of shards with the weight 1000 each.
func lists(shards ...int) claims.Loads {
	l := claims.Loads{Shards: map[int]int64{}}
	for _, n := range shards {
		l.Shards[n] = 1000
	}
	return l
}

// publish carries a plan out, and shows the planner the view, without anybody saying anything.
func (g *group) publish(plan *placement.Plan) {
	for _, e := range plan.Exceptions {
		g.put(layout.Exception(e.Shard), e.Encode())
	}
	for id, keeps := range plan.Keeps {
		drain := g.view().Drains[id]
		drain.Keeps = keeps
		g.put(layout.Drain(id), drain.Encode())
	}
	g.planner.See(g.view(), g.now)
}

func (g *group) plan() *placement.Plan { return g.planner.Plan(g.now, time.Unix(0, 0).Add(g.now)) }

func TestNoMoreMovesForBalanceToOneMemberThanMayBeOnItsWay(t *testing.T) {
	r := rules()
	r.MovingPerMember = 3000
	g := uneven(t, r)
	g.now += 2 * time.Minute
	plan := g.plan()
	if len(plan.Exceptions) != 3 || plan.Next > g.now+time.Second {
		t.Fatalf("%d shards at once, the next in %v", len(plan.Exceptions), plan.Next-g.now)
	}
	g.publish(plan)
	if again := g.plan(); len(again.Exceptions) > 0 {
		t.Errorf("%d more while these are on their way", len(again.Exceptions))
	}
	g.rest(t, time.Minute)
	if got := g.loads(); got["a"] < 31_000 {
		t.Errorf("in the end: %v", got)
	}
}

// What a member says may arrive after the next view, or be carried out by etcd long after that, and be older all the
// same. So it is no answer to what the member was given meanwhile.
func TestWhatAMemberSaysByAnOlderViewIsNoAnswer(t *testing.T) {
	r := rules()
	r.MovingPerMember = 3000
	for name, knows := range map[string]bool{"by an older view": false, "by the newest view": true} {
		g := uneven(t, r)
		g.now += 2 * time.Minute
		said, plan := lists(), g.plan() // it says nothing of what it is given
		if said.Seen = g.revision; knows {
			said.Seen += int64(len(plan.Exceptions))
		}
		g.planner.Take("a", said, g.revision+int64(len(plan.Exceptions)))
		g.publish(plan)
		if again := len(g.plan().Exceptions) > 0; again != knows {
			t.Errorf("%s: more is sent: %v", name, again)
		}
	}
}

// The next coordinator, or the same one if it has not heard that its writes were carried out, knows by what the members
// say how much is on its way.
func TestWhatIsOnItsWayIsKnownWhoeverSentIt(t *testing.T) {
	for name, drained := range map[string]bool{"a drain": true, "balance": false} {
		r := rules()
		r.Moving = 4000
		g := uneven(t, r)
		g.now += 2 * time.Minute
		if drained {
			g.put(layout.Coordinator(), "a")
			g.put(layout.Drain("b"), membership.Restriction{Keeps: g.view().Owned("b")}.Encode())
			g.planner.See(g.view(), g.now)
		}
		first := g.plan()
		if len(first.Exceptions)+len(first.Keeps) == 0 {
			t.Fatalf("%s: nothing moves", name)
		}
		reported := g.revision
		g.publish(first)
		had := 0
		for n, owner := range g.view().Owners() {
			if owner == "a" && g.load[n] > 0 {
				had++
			}
		}
		g.planner = placement.NewPlanner(r, "b", shards, g.now)
		g.planner.Take("a", lists(), reported)
		all := make([]int, shards)
		for n := range all {
			all[n] = n
		}
		g.planner.Take("b", lists(all...), reported)
		g.planner.See(g.view(), g.now)
		g.planner.Hasten()
		if again := g.plan(); len(again.Exceptions)+len(again.Keeps) > 0 {
			t.Errorf("%s: %d are on their way, and %d more follow", name, had, len(again.Exceptions))
		}
	}
}

func TestADeploymentThatHasStoppedIsEvenedOutThoughNothingHappens(t *testing.T) {
	g := uneven(t, rules())
	g.record("a", membership.Active, func(r *membership.Record) { r.Version = "2" })
	g.see()
	for range 3 {
		plan := g.plan()
		if len(plan.Exceptions) > 0 {
			break
		}
		if plan.Next <= g.now {
			t.Fatalf("after %v, it is never looked at again", g.now)
		}
		g.now = plan.Next
	}
	if len(g.plan().Exceptions) == 0 {
		t.Error("nothing is evened out")
	}
}

// A coordinator that has just taken office does not know what the shards of a member weighed that has died. It does not
// move them once more from one member of the older version to another, only since the ring would have put them there.
func TestAShardOfUnknownLoadStaysWhereADeathHasPutIt(t *testing.T) {
	g := newGroup(rules(), even(1000))
	for _, id := range []string{"a", "b", "c"} {
		g.join(t, id, "1")
	}
	g.join(t, "d", "2")
	for n, owner := range g.view().Owners() {
		if owner == "c" {
			g.put(layout.Exception(n), membership.Exception{Member: "c", Then: "a", Why: membership.WhyLeave}.Encode())
		}
	}
	had := g.view().Owned("c")
	p := placement.NewPlanner(rules(), "d", shards, g.now)
	p.See(g.view(), g.now)
	g.delete(layout.Member("c"))
	p.See(g.view(), g.now)
	for _, id := range []string{"a", "b", "d"} {
		p.Take(id, lists(), g.revision)
	}
	for _, e := range p.Plan(g.now, time.Unix(0, 0)).Exceptions {
		if had[e.Shard] {
			t.Errorf("shard %d goes on: %+v", e.Shard, e)
		}
	}
}

// What the members say, and who they are, arrives on two ways.
func TestNewsThatOvertakeEachOtherDoNotMakeAShardWeightless(t *testing.T) {
	weighs := func(p *placement.Planner, g *group) bool {
		g.now += 2 * time.Minute
		p.Hasten()
		return len(p.Plan(g.now, time.Unix(0, 0)).Exceptions) > 0
	}
	all := make([]int, shards)
	for n := range all {
		all[n] = n
	}
	g := uneven(t, rules())
	p := placement.NewPlanner(rules(), "a", shards, g.now)
	p.See(g.view(), g.now)
	p.Take("a", lists(all...), g.revision+1) // a had all before, as it says, and has heard that b has them
	p.Take("b", lists(all...), g.revision+2)
	p.Take("a", lists(), g.revision+3)
	if !weighs(p, g) {
		t.Error("a shard that its former owner does not name any more weighs nothing")
	}

	g = uneven(t, rules())
	p = placement.NewPlanner(rules(), "a", shards, g.now)
	p.See(g.view(), g.now)
	p.Take("a", lists(), g.revision+1)
	p.Take("b", lists(all...), g.revision+1)
	g.now += 2 * time.Minute // so that much may move
	for n := range shards / 2 {
		g.put(layout.Exception(n), membership.Exception{Member: "a", Why: membership.WhyMove}.Encode())
	}
	// b has let go of these before the coordinator sees that it had to.
	p.Take("b", lists(all[shards/2:]...), g.revision+1)
	p.Plan(g.now, time.Unix(0, 0))
	p.See(g.view(), g.now)
	p.Hasten()
	if plan := p.Plan(g.now, time.Unix(0, 0)); len(plan.Exceptions) > 0 {
		t.Errorf("what b has let go of weighs nothing, so %d move", len(plan.Exceptions))
	}

	g = uneven(t, rules())
	p = placement.NewPlanner(rules(), "a", shards, g.now)
	p.See(g.view(), g.now)
	p.Take("a", lists(), g.revision+1)
	g.delete(layout.Member("b"))
	gone := g.view()
	g.record("b", membership.Active, func(r *membership.Record) { r.Slots = []int{1} })
	p.Take("b", lists(all...), g.revision+1) // it is back, and says so before the coordinator sees that it was gone
	p.See(gone, g.now)
	p.See(g.view(), g.now)
	p.Plan(g.now, time.Unix(0, 0)) // what it had is placed
	if !weighs(p, g) {
		t.Error("what a member says that is back is forgotten, because it was gone")
	}
}

func TestAShardThatWasBalancedIsNotBalancedAgainThoughItWasPlacedForAnotherReason(t *testing.T) {
	g := uneven(t, rules())
	g.rest(t, 2*time.Minute)
	var moved []int
	for n, e := range g.view().Exceptions {
		if e.Why == membership.WhyBound {
			moved = append(moved, n)
		}
	}
	if len(moved) < 20 {
		t.Fatalf("%d have moved for balance", len(moved))
	}
	g.join(t, "c", "1")
	for n := range g.load {
		if g.view().Owner(n) == "c" {
			g.load[n] = 5000 // so b gets what a leaves, and not c
		}
	}
	g.see()
	g.stop(t, "a")
	heavy := 0
	for _, n := range moved {
		if e := g.view().Exceptions[n]; e.Why == membership.WhyLeave && g.view().Owner(n) == "b" {
			g.load[n] = 10_000
			heavy++
		}
	}
	if heavy < 4 {
		t.Fatalf("%d were placed with b", heavy)
	}
	for n := range g.load {
		if g.view().Owner(n) == "c" {
			g.load[n] = 1
		}
	}
	g.see()
	before := g.view().Owners()
	moves := func() (n int) {
		for _, n := range moved {
			if g.load[n] == 10_000 && g.view().Owner(n) != before[n] {
				return n
			}
		}
		return -1
	}
	g.rest(t, 5*time.Minute)
	if n := moves(); n >= 0 {
		t.Errorf("shard %d went from %s: %+v", n, before[n], g.view().Exceptions[n])
	}
	g.rest(t, 20*time.Minute)
	if moves() < 0 {
		t.Errorf("none of these goes later: %v", g.loads())
	}
}
