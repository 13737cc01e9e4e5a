package spread

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/membership"
)

func small() Config {
	return Config{Members: 10, Resources: 20_000, Shards: 1024, Weights: []int{1}, Events: 50, Seed: 1}
}

func mustRun(t *testing.T, cfg Config) Report {
	t.Helper()
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestOneMemberHasEverythingAndNothingMoves(t *testing.T) {
	r := mustRun(t, Config{Members: 1, Resources: 100, Shards: 16, Weights: []int{3}})
	for name, f := range map[string]Figures{
		"ring": r.Ring, "balanced": r.Balanced, "rendezvous": r.Rendezvous, "jump": r.Jump,
	} {
		if f.MaxOverAvg != 1 || f.Worst != 1 || f.Moves != 0 || f.Minimum != 0 || f.MovesOverMinimum() != 1 {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if r.Cost.Exceptions != 0 || len(r.Kinds) != 0 {
		t.Errorf("%d exceptions, events %v", r.Cost.Exceptions, r.Kinds)
	}
}

func TestTheRingMovesTheMinimum(t *testing.T) {
	for _, weights := range [][]int{{1}, {1, 2, 4}, {32}} {
		for seed := range uint64(3) {
			cfg := small()
			cfg.Weights, cfg.Seed = weights, seed
			r := mustRun(t, cfg)
			if r.Ring.Moves != r.Ring.Minimum || r.Ring.Moves == 0 || r.Ring.MovesOverMinimum() != 1 {
				t.Errorf("weights %v, seed %d: %d moves, minimum %d", weights, seed, r.Ring.Moves, r.Ring.Minimum)
			}
			if r.Ring.MaxOverAvg < 1 || r.Ring.Worst < r.Ring.MaxOverAvg {
				t.Errorf("weights %v, seed %d: max/avg %v, at worst %v", weights, seed, r.Ring.MaxOverAvg, r.Ring.Worst)
			}
			total := 0
			for _, n := range r.Kinds {
				total += n
			}
			if total != cfg.Events {
				t.Errorf("seed %d: events %v, want %d", seed, r.Kinds, cfg.Events)
			}
		}
	}
}

func TestExceptionsKeepTheBoundAtFewMoves(t *testing.T) {
	for _, members := range []int{3, 30, 100} {
		for _, skew := range []float64{0, 0.5} {
			cfg := small()
			cfg.Members, cfg.Skew, cfg.Events = members, skew, 60
			r := mustRun(t, cfg)
			if r.Cost.Worst > 1 || r.Cost.Worst < 0.5 || r.Ring.MaxOverAvg <= r.Balanced.MaxOverAvg {
				t.Errorf("%d members, skew %v: max/avg %v, at worst %v of the limit; %v on the ring", members, skew,
					r.Balanced.MaxOverAvg, r.Cost.Worst, r.Ring.MaxOverAvg)
			}
			if m := r.Balanced.MovesOverMinimum(); m > 1.2 {
				t.Errorf("%d members, skew %v: %v of the moves that had to be", members, skew, m)
			}
			for kind, moved := range r.Balanced.Kinds {
				prepared := kind != Death && kind != Undrain
				if m := moved.OverMinimum(); m > 1.3 || prepared && m > 1.1 {
					t.Errorf("%d members, skew %v: %v of the moves that had to be with a %s", members, skew, m, kind)
				}
			}
		}
	}
}

func TestFewResourcesAreEven(t *testing.T) {
	for _, c := range []struct{ resources, members int }{{9, 3}, {60, 20}, {12, 4}, {100, 100}} {
		for _, shards := range []int{1024, 4096} {
			r := mustRun(t, Config{Members: c.members, Resources: c.resources, Shards: shards, Weights: []int{1}})
			if fair := float64(c.resources / c.members); r.Balanced.MaxOverAvg > float64(r.Largest)/fair &&
				r.Balanced.MaxOverAvg > 1 {
				t.Errorf("%d resources, %d members, %d shards: max/avg %v", c.resources, c.members, shards,
					r.Balanced.MaxOverAvg)
			}
		}
	}
}

// Where the group is as large as it may be, a correction is still one small event for each member.
func TestACorrectionIsOneSmallEventForEachMember(t *testing.T) {
	g, members := newGroup(4096), map[string]int{}
	for i := range 1000 {
		id := fmt.Sprintf("member-%05d", i)
		members[id] = 1
		g.join(id, 1)
	}
	load, _, _ := weigh(100_000, g.shards, 0)
	homes := g.view(false).Owners()
	p := &placer{group: g, load: load}
	p.level(homes, homes, members)
	if c := p.end(); c.Corrections < 100 || c.Exceptions != c.Corrections || c.Events != 1 || c.EventBytes > 200 {
		t.Errorf("%+v", c)
	}
}

func TestRivals(t *testing.T) {
	r := mustRun(t, small())
	if r.Rendezvous.MovesOverMinimum() != 1 || r.Rendezvous.MaxOverAvg > 1.6 {
		t.Errorf("rendezvous: %+v", r.Rendezvous)
	}
	if r.Jump.MovesOverMinimum() < 2 || r.Jump.MaxOverAvg > 1.6 {
		t.Errorf("jump: %+v", r.Jump)
	}
	members := map[string]int{"a": 1, "b": 3}
	for name, owners := range map[string][]string{
		"rendezvous": newRendezvous(4000).assign(members), "jump": naiveJump(4000, members),
	} {
		n := 0
		for _, m := range owners {
			if m == "b" {
				n++
			}
		}
		if n < 2800 || n > 3200 {
			t.Errorf("%s: a member of weight 3 of 4 has %d of 4000 shards", name, n)
		}
	}
}

func TestASeedGivesTheSameAgain(t *testing.T) {
	timeless := func(r Report) Report {
		r.Cost.Plan, r.Cost.PlanMax = 0, 0
		for _, f := range []*Figures{&r.Ring, &r.Balanced} {
			f.Decision, f.DecisionMax = 0, 0
		}
		return r
	}
	one, again := timeless(mustRun(t, small())), timeless(mustRun(t, small()))
	if diff := cmp.Diff(one, again); diff != "" {
		t.Errorf("not the same: %s", diff)
	}
	cfg := small()
	cfg.Seed = 2
	if other := timeless(mustRun(t, cfg)); cmp.Equal(one, other) {
		t.Error("another seed gives the same")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, small()); err == nil {
		t.Error("no error")
	}
}

func TestEveryResourceIsCounted(t *testing.T) {
	load, smallest, largest := weigh(5000, 7, 0)
	total := int64(0)
	for _, n := range load {
		total += n
	}
	if total != 5000 || smallest == 0 || int64(smallest) != slices.Min(load) || int64(largest) != slices.Max(load) {
		t.Errorf("%v: %d resources, shards of %d to %d", load, total, smallest, largest)
	}
	skewed, few, many := weigh(5000, 7, 1)
	if few != smallest || many != largest || slices.Max(skewed) < heaviest || slices.Min(skewed) < int64(few) {
		t.Errorf("%v: shards of %d to %d", skewed, few, many)
	}
}

func TestTallyCountsResources(t *testing.T) {
	y := &tally{load: []int64{1, 2, 4}}
	members := map[string]int{"a": 1, "b": 1, "c": 2}
	y.begin([]string{"a", "b", "b"}, map[string]int{"a": 1, "b": 1})
	y.event(Join, "c", []string{"a", "a", "c"})
	y.evenness(members)
	f := y.end()
	// c got 4, as it must; the 2 that went from b to a need not have moved. a has 3 with a weight of 1; the average is
	// 7/4.
	if f.Moves != 6 || f.Minimum != 4 || f.MovesOverMinimum() != 1.5 || math.Abs(f.MaxOverAvg-12./7) > 1e-9 ||
		math.Abs(f.Worst-12./7) > 1e-9 || f.Kinds[Join] != (Moved{6, 4}) {
		t.Errorf("%+v", f)
	}
}

// TestTheGroupIsWhatMembersWouldMakeOfIt replays a history with the real registrar and a real etcd.
func TestTheGroupIsWhatMembersWouldMakeOfIt(t *testing.T) {
	ctx, client := t.Context(), embeddedtest.Client(t)
	g := newGroup(256)
	members, err := membership.Open(ctx, client, "/drm", "spread", g.shards)
	if err != nil {
		t.Fatal(err)
	}
	join := func(id string, weight int) {
		g.join(id, weight)
		lease, err := client.Grant(ctx, 600)
		if err != nil {
			t.Fatal(err)
		}
		registrar := &membership.Registrar{
			Client: client, Group: members, ID: id, Timeout: 10 * time.Second,
		}
		reg, err := registrar.Register(ctx, membership.Record{State: membership.Joining, Weight: weight}, lease.ID)
		if err == nil {
			_, err = registrar.Activate(ctx, reg)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(key string, there bool) {
		if there {
			_, err = client.Put(ctx, key, "")
		} else {
			_, err = client.Delete(ctx, key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	leave := func(id string) { g.leave(id); write(g.layout.Member(id), false) }
	drain := func(id string) { g.drain(id); write(g.layout.Drain(id), true) }
	undrain := func(id string) { g.undrain(id); write(g.layout.Drain(id), false) }
	for i, step := range []func(){
		func() { join("a", 1) },
		func() { join("b", 3) },
		func() { join("c", 2) },
		func() { leave("b") },
		func() { join("d", 1) }, // d takes the lowest of b's slots
		func() { join("b", 3) }, // b has two slots left, and needs a new one
		func() { drain("c") },
		func() { leave("c") },
		func() { join("c", 1) }, // c gives a slot up, and is still drained
		func() { undrain("c") },
		func() { leave("a") },
		func() { join("e", 1000) },
		func() { join("f", 40) },
		func() { leave("e") },
		func() { join("g", 700) }, // g takes e's block, and uses a part of it
	} {
		step()
		real, err := members.Read(ctx, client)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(real.Slots, g.view(false).Slots); diff != "" {
			t.Fatalf("step %d: slots (-real +simulated): %s", i, diff)
		}
		if diff := cmp.Diff(real.Blocks, g.view(false).Blocks); diff != "" {
			t.Fatalf("step %d: blocks (-real +simulated): %s", i, diff)
		}
		if diff := cmp.Diff(real.Owners(), g.view(false).Owners()); diff != "" {
			t.Fatalf("step %d: owners (-real +simulated): %s", i, diff)
		}
	}
	for n, member := range map[int]string{0: "d", 200: "b"} {
		if g.except(n, member) == 0 || g.except(n, member) != 0 {
			t.Errorf("the exception of shard %d is not written once", n)
		}
	}
	if owners := g.view(true).Owners(); owners[0] != "d" || owners[200] != "b" {
		t.Errorf("exceptions are not heeded: %q, %q", owners[0], owners[200])
	}
	if g.accept(200); g.view(true).Owners()[200] != g.view(false).Owners()[200] {
		t.Error("an exception is still there")
	}
}

func ExampleRun() {
	r, err := Run(context.Background(), Config{
		Members: 4, Resources: 1000, Shards: 1024, Weights: []int{1}, Events: 10, Seed: 7,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("moves over the minimum:", r.Ring.MovesOverMinimum())
	// Output: moves over the minimum: 1
}
