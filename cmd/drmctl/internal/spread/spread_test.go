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
	return Config{Members: 10, Resources: 20_000, Shards: 1024, Weights: []int{1}, Events: 50, Seed: 1, Bound: 1.1}
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
	r := mustRun(t, Config{Members: 1, Resources: 100, Shards: 16, Weights: []int{3}, Bound: 1.1})
	for name, f := range map[string]Figures{"ring": r.Ring, "balanced": r.Balanced} {
		if f.MaxOverAvg != 1 || f.Worst != 1 || f.Moves != 0 || f.Minimum != 0 || f.MovesOverMinimum() != 1 {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if r.Exceptions != 0 || len(r.Kinds) != 0 {
		t.Errorf("%d exceptions, events %v", r.Exceptions, r.Kinds)
	}
}

func TestTheRingMovesTheMinimum(t *testing.T) {
	for _, weights := range [][]int{{1}, {1, 2, 4}, {32}} {
		for seed := range uint64(5) {
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

func TestPlacementKeepsTheBoundAtSomeMoves(t *testing.T) {
	cfg := small()
	cfg.Shards = 4096 // shards must be small enough for the bound to be within reach
	r := mustRun(t, cfg)
	if r.Balanced.MaxOverAvg > cfg.Bound+0.01 || r.Ring.MaxOverAvg <= r.Balanced.MaxOverAvg || r.Exceptions == 0 {
		t.Errorf("max/avg %v with placement, %v without, %d exceptions", r.Balanced.MaxOverAvg, r.Ring.MaxOverAvg,
			r.Exceptions)
	}
	if m := r.Balanced.MovesOverMinimum(); m <= 1 || m > 3 {
		t.Errorf("%v of the moves that had to be", m)
	}
}

func TestASeedGivesTheSameAgain(t *testing.T) {
	timeless := func(r Report) Report {
		r.Balance = 0
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
	load := count(5000, 7)
	total := 0
	for _, n := range load {
		total += n
	}
	if total != 5000 || slices.Min(load) == 0 {
		t.Errorf("%v: %d resources", load, total)
	}
}

func TestTallyCountsResources(t *testing.T) {
	y := &tally{load: []int{1, 2, 4}}
	y.begin([]string{"a", "b", "b"}, map[string]int{"a": 1, "b": 1})
	y.event("c", []string{"a", "a", "c"}, map[string]int{"a": 1, "b": 1, "c": 2})
	f := y.end()
	// c got 4, as it must; the 2 that went from b to a need not have moved. a has 3 with a weight of 1; the average is
	// 7/4.
	if f.Moves != 6 || f.Minimum != 4 || f.MovesOverMinimum() != 1.5 || math.Abs(f.MaxOverAvg-12./7) > 1e-9 ||
		math.Abs(f.Worst-12./7) > 1e-9 {
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
	} {
		step()
		real, err := members.Read(ctx, client)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(real.Slots, g.view(false).Slots); diff != "" {
			t.Fatalf("step %d: slots (-real +simulated): %s", i, diff)
		}
		if diff := cmp.Diff(real.Owners(), g.view(false).Owners()); diff != "" {
			t.Fatalf("step %d: owners (-real +simulated): %s", i, diff)
		}
	}
	g.place(map[int]string{0: "d", 200: "b"})
	if owners := g.view(true).Owners(); owners[0] != "d" || owners[200] != "b" {
		t.Errorf("placement is not heeded: %q, %q", owners[0], owners[200])
	}
}

func ExampleRun() {
	r, err := Run(context.Background(), Config{
		Members: 4, Resources: 1000, Shards: 1024, Weights: []int{1}, Events: 10, Seed: 7, Bound: 1.1,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("moves over the minimum:", r.Ring.MovesOverMinimum())
	// Output: moves over the minimum: 1
}
