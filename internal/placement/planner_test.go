package placement_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

const shards = 64

var layout = keys.New("/drm", "app")

// rules are such that a minute is enough for everything, unless a test says otherwise.
func rules() placement.Rules {
	return placement.Rules{
		Quiet: time.Minute, PerMinute: 1_000_000, Moving: 1_000_000_000, MovingPerMember: 1_000_000_000,
		Again: 10 * time.Minute,
	}
}

// group is a group as etcd would have it, with its coordinator.
type group struct {
	kvs      map[string]*mvccpb.KeyValue
	revision int64
	load     []int64
	planner  *placement.Planner
	rules    placement.Rules
	now      time.Duration
	moves    int64 // load that has gone from one member to another
	owners   []string
}

func newGroup(r placement.Rules, load []int64) *group {
	g := &group{kvs: map[string]*mvccpb.KeyValue{}, load: load, rules: r, now: time.Hour}
	g.elect()
	return g
}

// elect begins the term of a new coordinator, which knows nothing but what is in etcd.
func (g *group) elect() {
	g.planner = placement.NewPlanner(g.rules, "coordinator", shards, g.now)
	if g.revision > 0 {
		g.planner.See(g.view(), g.now)
		g.report()
	}
}

func (g *group) put(key, value string) {
	g.revision++
	kv := g.kvs[key]
	if kv == nil {
		kv = &mvccpb.KeyValue{Key: []byte(key), CreateRevision: g.revision, Lease: 1}
	}
	g.kvs[key] = &mvccpb.KeyValue{
		Key: kv.Key, Value: []byte(value), CreateRevision: kv.CreateRevision, ModRevision: g.revision, Lease: 1,
	}
}

func (g *group) delete(key string) { g.revision++; delete(g.kvs, key) }

func (g *group) view() *membership.View {
	return membership.NewView(layout.Root(), shards, slices.Collect(maps.Values(g.kvs)), g.revision)
}

// see shows the coordinator the group, counts what has moved, and returns the view.
func (g *group) see() *membership.View {
	v := g.view()
	for n, owner := range v.Owners() {
		if g.owners != nil && g.owners[n] != "" && owner != "" && g.owners[n] != owner {
			g.moves += g.load[n]
		}
	}
	g.owners = v.Owners()
	g.planner.See(v, g.now)
	g.report()
	return v
}

// report lets the members say what their shards weigh.
func (g *group) report() {
	said := map[string]claims.Loads{}
	v := g.view()
	for id := range v.Members {
		said[id] = claims.Loads{Shards: map[int]int64{}}
	}
	for n, owner := range v.Owners() {
		if l, live := said[owner]; live {
			l.Shards[n] = g.load[n]
		}
	}
	g.revision++
	for id, l := range said {
		g.planner.Take(id, l, g.revision)
	}
}

func (g *group) record(id string, state membership.State, change func(*membership.Record)) {
	v := g.view()
	r := membership.Record{State: state, Weight: 1, Schema: membership.Schema, Version: "1"}
	if m, live := v.Members[id]; live {
		r = m.Record
		r.State = state
	}
	if state == membership.Active && len(r.Slots) == 0 {
		live := func(id string) bool { _, live := v.Members[id]; return live }
		r.Slots = shard.Reserve(v.Slots, live, id, 1)
		for _, n := range r.Slots {
			g.put(layout.Slot(n), id)
		}
	}
	if change != nil {
		change(&r)
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	g.put(layout.Member(id), string(b))
}

// carryOut publishes what the coordinator wants, until it wants nothing now. It returns when it may want something
// again.
func (g *group) carryOut(t fataler) (next time.Duration) {
	for range 200 {
		plan := g.planner.Plan(g.now, time.Unix(0, 0).Add(g.now))
		if plan.IsEmpty() {
			return plan.Next
		}
		v := g.view()
		for _, e := range plan.Exceptions {
			if _, pinned := v.Pins[e.Shard]; pinned && v.Owner(e.Shard) == v.Pins[e.Shard].Member {
				t.Fatalf("shard %d is pinned, and placed: %+v", e.Shard, e)
			}
			g.put(layout.Exception(e.Shard), e.Encode())
		}
		for _, n := range plan.Drop {
			g.delete(layout.Exception(n))
		}
		for id, keeps := range plan.Keeps {
			drained := slices.Contains(v.Drains[id].Keeps, true) && !v.DrainsIgnored()
			if w := v.Weights[id]; !drained {
				w.Keeps = keeps
				g.put(layout.Weight(id), w.Encode())
				continue
			}
			drain := v.Drains[id]
			drain.Keeps = keeps
			g.put(layout.Drain(id), drain.Encode())
		}
		for id, revision := range plan.Prepared {
			g.put(layout.Prepared(id), strconv.FormatInt(revision, 10))
		}
		for _, id := range plan.Undrain {
			g.delete(layout.Drain(id))
		}
		for _, id := range plan.Uncordon {
			g.delete(layout.Cordon(id))
		}
		for _, ghost := range plan.Free {
			for _, n := range ghost.Slots {
				g.put(layout.Slot(n), "")
			}
			for _, b := range ghost.Blocks {
				g.put(layout.Block(b.From), membership.EncodeBlock(shard.Block{Slots: b.Slots}))
			}
		}
		g.see()
	}
	t.Fatal("the coordinator never comes to rest")
	return 0
}

func (g *group) join(t fataler, id, version string) {
	g.record(id, membership.Joining, func(r *membership.Record) { r.Version = version })
	g.see()
	g.carryOut(t)
	g.record(id, membership.Active, nil)
	g.see()
	g.carryOut(t)
}

func (g *group) stop(t fataler, id string) {
	g.record(id, membership.Active, func(r *membership.Record) { r.Leaves = true })
	g.see()
	g.carryOut(t)
	g.die(t, id)
}

func (g *group) die(t fataler, id string) {
	g.delete(layout.Member(id))
	g.delete(layout.Prepared(id))
	g.see()
	g.carryOut(t)
}

// rest lets time pass while the coordinator does what it wants.
func (g *group) rest(t fataler, d time.Duration) {
	for end := g.now + d; g.now < end; {
		g.report()
		next := g.carryOut(t)
		if next == 0 {
			next = end
		}
		g.now = min(max(next, g.now+time.Second), end)
	}
}

// loads returns what each live member has.
func (g *group) loads() map[string]int64 {
	all := map[string]int64{}
	for id, m := range g.view().Members {
		if m.HasJoined() {
			all[id] = 0
		}
	}
	for n, owner := range g.view().Owners() {
		all[owner] += g.load[n]
	}
	return all
}

// bound is how much a member may have.
func (g *group) bound(members int) int64 {
	total := int64(0)
	for _, l := range g.load {
		total += l
	}
	fair := total / int64(members)
	return max(fair+fair/20, fair+slices.Max(g.load)) + 1
}

func even(weight int64) []int64 {
	load := make([]int64, shards)
	for n := range load {
		load[n] = weight
	}
	return load
}

func TestJoinsAndStopsMoveWhatTheyMust(t *testing.T) {
	g := newGroup(rules(), even(1000))
	for _, id := range []string{"a", "b", "c", "d"} {
		g.join(t, id, "1")
	}
	g.rest(t, 2*time.Minute)
	g.moves = 0
	g.join(t, "e", "1")
	if got := g.loads(); g.moves != got["e"] || got["e"] < 12_000 || got["e"] > 13_000 {
		t.Errorf("e has %d of %v, and %d have moved", got["e"], got, g.moves)
	}
	had := g.loads()["b"]
	g.moves = 0
	g.stop(t, "b")
	if g.moves != had {
		t.Errorf("b had %d, and %d have moved", had, g.moves)
	}
	for id, l := range g.loads() {
		if l > g.bound(4) {
			t.Errorf("%s has %d of %d", id, l, g.bound(4))
		}
	}
}

func TestNothingMovesForBalanceBeforeItIsQuiet(t *testing.T) {
	r := rules()
	r.PerMinute = 3000
	g := newGroup(r, even(1000))
	r.Off = true
	g.rules = r
	g.elect() // a ring without placement is uneven
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		g.join(t, id, "1")
	}
	r.Off = false
	g.rules = r
	g.elect()
	before := slices.Max(slices.Collect(maps.Values(g.loads())))
	if before <= g.bound(5) {
		t.Fatalf("the ring is even: %v", g.loads())
	}
	g.moves = 0
	g.rest(t, 59*time.Second)
	if g.moves != 0 {
		t.Errorf("%d moved before it was quiet", g.moves)
	}
	g.rest(t, 61*time.Second)
	if g.moves == 0 || g.moves > 6000 {
		t.Errorf("%d moved in a minute, of which 3000 may, and what was saved", g.moves)
	}
	g.elect() // its successor goes on
	g.rest(t, 20*time.Minute)
	if most := slices.Max(slices.Collect(maps.Values(g.loads()))); most > g.bound(5) {
		t.Errorf("one has %d, and may have %d", most, g.bound(5))
	}
}

func TestARollingUpdateMovesEachShardOnceAndThenEvensOut(t *testing.T) {
	g := newGroup(rules(), even(1000))
	for n := range 5 {
		g.join(t, fmt.Sprint("old", n), "1")
	}
	g.rest(t, 2*time.Minute)
	g.moves = 0
	for n := range 5 {
		g.join(t, fmt.Sprint("new", n), "2")
		if g.moves != int64(n)*13_000 && g.moves > int64(n)*14_000 {
			t.Errorf("new%d: %d have moved", n, g.moves)
		}
		g.stop(t, fmt.Sprint("old", n))
		for id := range g.loads() {
			if id == "" {
				t.Fatal("a shard has no owner")
			}
		}
	}
	if g.moves > 64_000 {
		t.Errorf("%d of 64000 have moved", g.moves)
	}
	g.rest(t, 20*time.Minute)
	if most := slices.Max(slices.Collect(maps.Values(g.loads()))); most > g.bound(5) {
		t.Errorf("one has %d, and may have %d", most, g.bound(5))
	}
	if g.moves > 128_000 {
		t.Errorf("%d of 64000 have moved", g.moves)
	}
}

func TestADrainGoesOnUnderTheNextCoordinator(t *testing.T) {
	r := rules()
	r.Moving, r.MovingPerMember = 4000, 2000
	g := newGroup(r, even(1000))
	for _, id := range []string{"a", "b", "c"} {
		g.join(t, id, "1")
	}
	g.rest(t, 2*time.Minute)
	g.put(layout.Coordinator(), "a")
	had := g.loads()["b"]
	g.moves = 0
	g.put(layout.Drain("b"), membership.Restriction{Keeps: g.view().Owned("b")}.Encode())
	g.see()
	plan := g.planner.Plan(g.now, time.Unix(0, 0))
	if moving := len(plan.Exceptions); moving > 4 || len(plan.Keeps) != 1 {
		t.Fatalf("%d shards at once: %+v", moving, plan)
	}
	g.elect()
	g.now += time.Minute
	g.rest(t, 2*time.Minute)
	if g.loads()["b"] != 0 || g.moves != had {
		t.Errorf("b has %d of %d, and %d have moved", g.loads()["b"], had, g.moves)
	}
}

func TestWhateverHappensTheLoadIsWithinTheBoundInTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		load := make([]int64, shards)
		for n := range load {
			load[n] = 1000 * rapid.Int64Range(0, rapid.SampledFrom([]int64{1, 5}).Draw(t, "most")).Draw(t, "load")
		}
		r := rules()
		r.Again = 0
		g := newGroup(r, load)
		g.join(t, "m0", "1")
		g.put(layout.Coordinator(), "m0")
		for step := range rapid.IntRange(1, 12).Draw(t, "steps") {
			id := fmt.Sprint("m", rapid.IntRange(1, 5).Draw(t, "who"))
			m, live := g.view().Members[id]
			switch what := rapid.IntRange(0, 5).Draw(t, "what"); {
			case !live:
				g.join(t, id, rapid.SampledFrom([]string{"1", "2"}).Draw(t, "version"))
			case what == 0:
				g.stop(t, id)
			case what == 1:
				g.die(t, id)
			case what == 2 && m.HasJoined():
				g.put(layout.Drain(id), membership.Restriction{Keeps: g.view().Owned(id)}.Encode())
				g.see()
				g.carryOut(t)
			case what == 3:
				g.delete(layout.Drain(id))
				g.see()
			case what == 4:
				g.elect()
			default:
				g.rest(t, time.Duration(step)*time.Second)
			}
		}
		for id, m := range g.view().Members { // otherwise two versions would live for ever
			m.Version = "2"
			g.record(id, m.State, func(r *membership.Record) { r.Version = "2" })
		}
		g.see()
		g.rest(t, 5*time.Minute)
		takers := 0
		for id := range g.view().Members {
			if g.view().Eligible(id) {
				takers++
			}
		}
		for id, l := range g.loads() {
			if drained := g.view().Ordered(id); drained && l > 0 || !drained && l > g.bound(takers) {
				t.Fatalf("%s has %d of %v; %d take shards", id, l, g.loads(), takers)
			}
		}
	})
}

// fataler ends a test, or the check of a property.
type fataler interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// An order of weight 0 takes away what the member has bit by bit, as a drain does.
func TestAMemberOfWeight0GivesAwayWhatItHasBitByBit(t *testing.T) {
	r := rules()
	r.Moving, r.MovingPerMember = 4000, 2000
	g := newGroup(r, even(1000))
	for _, id := range []string{"a", "b", "c"} {
		g.join(t, id, "1")
	}
	g.rest(t, 2*time.Minute)
	g.put(layout.Coordinator(), "a")
	g.moves = 0
	had := g.loads()["b"]
	g.put(layout.Weight("b"), membership.WeightOrder{Keeps: g.view().Owned("b")}.Encode())
	if v := g.see(); g.moves > 0 || v.Kept("b") == 0 || v.Eligible("b") {
		t.Fatalf("%d have moved before the coordinator has placed anything; b keeps %d shards", g.moves, v.Kept("b"))
	}
	plan := g.planner.Plan(g.now, time.Unix(0, 0))
	if moving := len(plan.Exceptions); moving > 4 || len(plan.Keeps) != 1 {
		t.Fatalf("%d shards at once: %+v", moving, plan)
	}
	g.rest(t, 2*time.Minute)
	loads := g.loads()
	if loads["b"] != 0 || g.moves != had {
		t.Errorf("%d moved of %d, and b has %d left", g.moves, had, loads["b"])
	}
	if most := max(loads["a"], loads["c"]); most > g.bound(2) {
		t.Errorf("one has %d, and may have %d", most, g.bound(2))
	}
}

// An order of weight 0 is carried out also while the member is drained: it must not get back what it has given away
// when the drain ends.
func TestAMemberOfWeight0GetsNothingBackWhenItsDrainEnds(t *testing.T) {
	g := newGroup(rules(), even(1000))
	for _, id := range []string{"a", "b", "c"} {
		g.join(t, id, "1")
	}
	g.put(layout.Coordinator(), "a")
	g.rest(t, 2*time.Minute)
	keeps := g.view().Owned("b")
	g.put(layout.Weight("b"), membership.WeightOrder{Keeps: keeps}.Encode())
	g.put(layout.Drain("b"), membership.Restriction{Keeps: keeps}.Encode())
	g.see()
	g.rest(t, 2*time.Minute)
	g.delete(layout.Drain("b"))
	if v := g.see(); slices.Contains(v.Owned("b"), true) {
		t.Errorf("b is drained no longer, has the weight 0, and got %d shards", v.Kept("b"))
	}
}

// An order of weight 0 is carried out while the member's drain is ignored.
func TestAMemberOfWeight0GivesAwayWhatItHasThoughItsDrainIsIgnored(t *testing.T) {
	g := newGroup(rules(), even(1000))
	for _, id := range []string{"a", "b"} {
		g.join(t, id, "1")
	}
	g.put(layout.Coordinator(), "a")
	g.rest(t, 2*time.Minute)
	for _, id := range []string{"a", "b"} {
		g.put(layout.Drain(id), membership.Restriction{}.Encode())
	}
	g.put(layout.Weight("b"), membership.WeightOrder{Keeps: g.see().Owned("b")}.Encode())
	g.see()
	g.rest(t, 2*time.Minute)
	if v := g.view(); !v.DrainsIgnored() || slices.Contains(v.Owned("b"), true) {
		t.Errorf("b has %d shards", v.Kept("b"))
	}
}

// Where a member's weight is 0 at once, the others have no more than they may, without a wait for quiet.
func TestWhatAMemberOfWeight0HadIsPlacedAtOnce(t *testing.T) {
	g := newGroup(rules(), even(1000))
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		g.join(t, id, "1")
	}
	g.rest(t, 2*time.Minute)
	g.put(layout.Weight("b"), membership.WeightOrder{}.Encode())
	g.see()
	g.carryOut(t)
	if most := slices.Max(slices.Collect(maps.Values(g.loads()))); most > g.bound(4) || g.loads()["b"] > 0 {
		t.Errorf("%v, and a member may have %d", g.loads(), g.bound(4))
	}
}

// When a member gets another weight, the ring moves roughly what it must, and the coordinator corrects the rest without
// waiting until the group has been quiet. It waits until the member has the slots that belong to the weight.
func TestAnotherWeightIsEvenedOutAtOnce(t *testing.T) {
	r := rules()
	r.Quiet = time.Hour
	g := newGroup(r, even(1000))
	for _, id := range []string{"a", "b", "c"} {
		g.join(t, id, "1")
	}
	g.rest(t, 2*time.Minute)
	g.moves = 0
	g.put(layout.Weight("b"), membership.WeightOrder{Weight: 6}.Encode())
	g.see()
	if g.rest(t, 2*time.Second); g.moves > 0 {
		t.Errorf("%d moved before the member has its slots", g.moves)
	}
	g.record("b", membership.Active, func(r *membership.Record) {
		r.Slots = shard.Reserve(g.view().Slots, func(string) bool { return true }, "b", 6)
		for _, n := range r.Slots {
			g.put(layout.Slot(n), "b")
		}
	})
	g.see()
	g.rest(t, 5*time.Second)
	if loads := g.loads(); loads["b"] < 47_000 || loads["b"] > 51_000 || g.moves > 40_000 {
		t.Errorf("b of weight 6 of 8 has %d of 64000, and %d moved", loads["b"], g.moves)
	}
}
