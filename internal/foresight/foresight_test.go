package foresight_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/foresight"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/membership"
)

var layout = keys.New("/drm", "app")

// rules are the defaults of the library, but that nothing is paced.
var rules = placement.Rules{
	Quiet: time.Minute, PerMinute: 1 << 40, Moving: 1 << 40, MovingPerMember: 1 << 40, Again: 10 * time.Minute,
}

// empty is an app without members, whose shards have some resources each.
func empty(shards int, count func(shard int) int) foresight.Input {
	in := foresight.Input{
		Layout: layout, Shards: shards, Created: 1, Revision: 10, Rules: rules,
		Wall: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	for n := range shards {
		in.Counts = append(in.Counts, count(n))
	}
	return in
}

func run(t testing.TB, in foresight.Input, changes ...foresight.Change) *foresight.Outcome {
	t.Helper()
	out, err := foresight.Run(t.Context(), in, changes...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// joins are the changes by which so many members join, with weights 1 to most.
func joins(members, most int) (changes []foresight.Change) {
	for i := range members {
		changes = append(changes, foresight.Change{
			Kind: foresight.Join, Member: fmt.Sprintf("m%d", i), Weight: 1 + i%most,
		})
	}
	return changes
}

// then makes what a group settled at the start of another run.
func then(in foresight.Input, out *foresight.Outcome) foresight.Input {
	in.Group, in.Loads, in.Revision = out.Group, out.Loads, out.Revision
	in.Wall = in.Wall.Add(time.Hour)
	return in
}

// load adds up what each member has.
func load(v *membership.View, loads []int64) map[string]int64 {
	all := map[string]int64{}
	for n, owner := range v.Owners() {
		all[owner] += loads[n]
	}
	return all
}

// Whatever happens, the group comes to rest: what is planned from there on is that nothing moves. It stays within the
// bound, and nobody has what nobody may have.
func TestWhatAGroupSettlesAtIsAtRest(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			draw := rand.New(rand.NewPCG(seed, 1))
			in := empty(64, func(int) int { return draw.IntN(9) })
			members := 2 + draw.IntN(5)
			out := run(t, in, joins(members, 3)...)
			for step := range 6 {
				in = then(in, out)
				if still := run(t, in); !slices.Equal(still.Before.Owners(), still.After.Owners()) {
					t.Fatalf("step %d: it is not at rest", step)
				}
				c := anyChange(draw, out.After, step)
				next, err := foresight.Run(t.Context(), in, c)
				if errors.Is(err, order.ErrLastMember) || errors.Is(err, order.ErrCannotTake) ||
					errors.Is(err, order.ErrPinned) {
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", c, err)
				}
				out = next
				isFine(t, c, out)
			}
		})
	}
}

// isFine checks what a group has settled at.
func isFine(t *testing.T, c foresight.Change, out *foresight.Outcome) {
	t.Helper()
	v := out.After
	for n, owner := range v.Owners() {
		m, live := v.Members[owner]
		if !live || m.State != membership.Active || v.Ordered(owner) && !v.DrainsIgnored() || v.WeightOf(owner) == 0 {
			t.Errorf("%s: shard %d is %q's: %+v", c, n, owner, m)
		}
	}
	for id, m := range v.Members {
		if m.State == membership.Joining || m.State == membership.Leaving || v.Kept(id) > 0 ||
			v.NeedsSlots(id) && !v.HoldsItsWeight(id) {
			t.Errorf("%s: %q is not done: %+v", c, id, m)
		}
	}
	if len(v.Pins)+len(v.Cordons) > 0 { // these may be in the way of the bound
		return
	}
	total, weights, heaviest := int64(0), 0, slices.Max(out.Load)
	for id := range v.Members {
		if v.Eligible(id) {
			weights += v.WeightOf(id)
		}
	}
	for _, l := range out.Load {
		total += l
	}
	for id, has := range load(v, out.Load) {
		fair := total * int64(v.WeightOf(id)) / int64(weights)
		if has > max(fair*105/100, fair+heaviest)+1 {
			t.Errorf("%s: %s has %d, and its fair share is %d of %d", c, id, has, fair, total)
		}
	}
}

func anyChange(draw *rand.Rand, v *membership.View, step int) foresight.Change {
	var live []string
	for id := range v.Members {
		live = append(live, id)
	}
	slices.Sort(live)
	c := foresight.Change{Member: live[draw.IntN(len(live))], Shard: draw.IntN(v.Shards)}
	kinds := []foresight.Kind{
		foresight.Join, foresight.Weigh, foresight.Unweigh, foresight.Drain, foresight.Undrain, foresight.Move,
		foresight.Rebalance, foresight.Cordon, foresight.Uncordon, foresight.Pin,
	}
	if len(live) > 2 {
		kinds = append(kinds, foresight.Die, foresight.Stop, foresight.Die, foresight.Stop)
	}
	switch c.Kind = kinds[draw.IntN(len(kinds))]; c.Kind {
	case foresight.Join:
		c.Member, c.Weight = fmt.Sprintf("new%d", step), 1+draw.IntN(60)
	case foresight.Weigh:
		c.Weight = draw.IntN(50)
	default:
	}
	return c
}

func TestAJoinTakesAShareAndNothingElseMoves(t *testing.T) {
	in := empty(256, func(int) int { return 4 })
	in = then(in, run(t, in, joins(4, 1)...))
	out := run(t, in, foresight.Change{Kind: foresight.Join, Member: "new", Weight: 1})
	moved := 0
	for n := range in.Shards {
		if out.Before.Owner(n) != out.After.Owner(n) {
			moved++
			if out.After.Owner(n) != "new" {
				t.Errorf("shard %d went from %s to %s", n, out.Before.Owner(n), out.After.Owner(n))
			}
		}
	}
	if moved < 256/5-3 || moved > 256/5+3 || out.Paced || out.Rounds != 1 {
		t.Errorf("%d shards have moved, paced %v, in %d rounds", moved, out.Paced, out.Rounds)
	}
}

func TestADrainThatIsPacedTakesRounds(t *testing.T) {
	in := empty(256, func(int) int { return 4 })
	in = then(in, run(t, in, joins(4, 1)...))
	drain := foresight.Change{Kind: foresight.Drain, Member: "m1"}
	if out := run(t, in, drain); out.Paced {
		t.Errorf("it is not paced: %+v", out)
	}
	in.Rules.Moving = 20_000
	out := run(t, in, drain)
	if has := load(out.After, out.Load)["m1"]; !out.Paced || out.Rounds < 10 || out.Took < 5*time.Second || has > 0 {
		t.Errorf("%d rounds over %v, paced %v; it has %d", out.Rounds, out.Took, out.Paced, has)
	}
}

// What the members say counts, and not how many resources there are.
func TestLoadsAreAsTheMembersSay(t *testing.T) {
	in := empty(16, func(int) int { return 1 })
	first := run(t, in, joins(2, 1)...)
	in = then(in, first)
	in.Loads = nil
	for id, m := range first.After.Members {
		l := claims.Loads{Shards: map[int]int64{}, Seen: in.Revision}
		for n, owner := range first.After.Owners() {
			if owner == id {
				l.Shards[n] = int64(1+n) * 1000
			}
		}
		in.Loads = append(in.Loads, &mvccpb.KeyValue{
			Key: []byte(layout.Load(id)), Value: l.Encode(), CreateRevision: 9, ModRevision: 9, Lease: m.Lease,
		})
	}
	for n, l := range run(t, in).Load {
		if l != int64(1+n)*1000 {
			t.Errorf("shard %d weighs %d", n, l)
		}
	}
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	in := empty(16, func(int) int { return 1 })
	in = then(in, run(t, in, joins(1, 1)...))
	for want, c := range map[error]foresight.Change{
		picture.ErrNotFound: {Kind: foresight.Die, Member: "m9"},
		membership.ErrTaken: {Kind: foresight.Join, Member: "m0", Weight: 1},
		order.ErrLastMember: {Kind: foresight.Drain, Member: "m0"},
		order.ErrCannotTake: {Kind: foresight.Move, Member: "m9", Shard: 1},
	} {
		if _, err := foresight.Run(t.Context(), in, c); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", c, err, want)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := foresight.Run(gone, in); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context has ended: %v", err)
	}
}

func BenchmarkALargeGroup(b *testing.B) {
	in := empty(4096, func(int) int { return 250 })
	in.Rules = placement.Rules{
		Quiet: time.Minute, PerMinute: 1_000_000, Moving: 2_000_000, MovingPerMember: 500_000, Again: 10 * time.Minute,
	}
	in = then(in, run(b, in, joins(1000, 1)...))
	var zone []foresight.Change
	for i := range 333 {
		zone = append(zone, foresight.Change{Kind: foresight.Die, Member: fmt.Sprintf("m%d", 3*i)})
	}
	for name, changes := range map[string][]foresight.Change{
		"drain": {{Kind: foresight.Drain, Member: "m7"}},
		"join":  {{Kind: foresight.Join, Member: "new", Weight: 1}},
		"death": {{Kind: foresight.Die, Member: "m7"}},
		"zone":  zone,
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				out := run(b, in, changes...)
				b.ReportMetric(float64(out.Rounds), "rounds")
			}
		})
	}
}
