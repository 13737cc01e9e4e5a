package shard_test

import (
	"fmt"
	"hash/fnv"
	"slices"
	"testing"

	"github.com/dgryski/go-jump"
	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/shard"
)

// naive is the mapping as it is described, without anything that makes it fast: see the golden test.
func naive(slots []string, n int, without func(string) bool) int {
	mix := func(x uint64) uint64 {
		x += 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		return x ^ x>>31
	}
	counts := func(i int) bool { return slots[i] != "" && !without(slots[i]) }
	h := uint64(n)
	for range 32 {
		h = mix(h)
		if i := int(jump.Hash(h, len(slots))); counts(i) {
			return i
		}
	}
	best, top := -1, uint64(0)
	for i := range slots {
		if score := mix(h ^ mix(uint64(i))); counts(i) && (best < 0 || score > top) {
			best, top = i, score
		}
	}
	return best
}

// anyReserved draws reservations of members m0 to m9, with blocks that slots by themselves lie between and in.
func anyReserved(t *rapid.T) shard.Reserved {
	var r shard.Reserved
	member := rapid.Custom(func(t *rapid.T) string {
		if n := rapid.IntRange(-2, 9).Draw(t, "member"); n >= 0 {
			return fmt.Sprint("m", n)
		}
		return ""
	})
	for range rapid.IntRange(0, 12).Draw(t, "parts") {
		if rapid.Bool().Draw(t, "block") {
			n := rapid.IntRange(1, 60).Draw(t, "slots")
			b := shard.Block{From: r.Length(), Slots: n, Member: member.Draw(t, "holder")}
			b.Used = rapid.IntRange(0, n).Draw(t, "used")
			r.Blocks = append(r.Blocks, b)
			continue
		}
		for from := r.Length(); len(r.Slots) < from; {
			r.Slots = append(r.Slots, "")
		}
		r.Slots = append(r.Slots, rapid.SliceOfN(member, 1, 20).Draw(t, "holders")...)
	}
	for range rapid.IntRange(0, 3).Draw(t, "inside") { // an older member's, which knows no blocks
		if n := r.Length(); n > 0 {
			i := rapid.IntRange(0, n-1).Draw(t, "slot")
			for len(r.Slots) <= i {
				r.Slots = append(r.Slots, "")
			}
			r.Slots[i] = member.Draw(t, "holder")
		}
	}
	return r
}

// each returns for whom each slot counts, of the members that are live.
func each(r shard.Reserved, live func(string) bool) []string {
	all := make([]string, r.Length())
	for _, b := range r.Blocks {
		for i := b.From; i < b.From+b.Used && live(b.Member); i++ {
			all[i] = b.Member
		}
	}
	for i, member := range r.Slots {
		if member != "" && live(member) {
			all[i] = member
		}
	}
	return all
}

// ringOf makes the ring of reservations.
func ringOf(r shard.Reserved, live func(string) bool) *shard.Ring {
	slots, blocks := slices.Clone(r.Slots), slices.Clone(r.Blocks)
	for i, member := range slots {
		if !live(member) {
			slots[i] = ""
		}
	}
	for i, b := range blocks {
		if !live(b.Member) {
			blocks[i].Member = ""
		}
	}
	return shard.NewBlockRing(slots, blocks)
}

// A ring with blocks, and one with a table of probes, answer as the naive way does.
func TestARingAnswersAsTheNaiveWayDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const shards = 60
		r := anyReserved(t)
		gone := rapid.SliceOfDistinct(rapid.IntRange(0, 9), rapid.ID).Draw(t, "gone")
		live := func(id string) bool {
			return !slices.ContainsFunc(gone, func(n int) bool { return id == fmt.Sprint("m", n) })
		}
		full := rapid.IntRange(0, 9).Draw(t, "declines")
		without := func(id string) bool { return id == fmt.Sprint("m", full) }
		slots, ring := each(r, live), ringOf(r, live)
		table, probes := ring.WithProbes(nil, shards-5) // the last ones are not in it
		again, same := ring.WithProbes(probes, shards-5)
		if probes != same {
			t.Fatal("a ring of the same length made another table")
		}
		for n := range shards {
			want, rest := -1, -1
			if len(slots) > 0 {
				want, rest = naive(slots, n, func(string) bool { return false }), naive(slots, n, without)
			}
			owner := ""
			if rest >= 0 {
				owner = slots[rest]
			}
			for name, ring := range map[string]*shard.Ring{"plain": ring, "table": table, "shared table": again} {
				if got := ring.Slot(n); got != want {
					t.Fatalf("%s: shard %d is on slot %d, want %d", name, n, got, want)
				}
				if got := ring.OwnerWithout(n, without); got != owner {
					t.Fatalf("%s: without a member, shard %d is %q's, want %q", name, n, got, owner)
				}
			}
		}
	})
}

func TestTheMappingOfBlocksNeverChanges(t *testing.T) {
	ring := shard.NewBlockRing([]string{"a", "", "b"}, []shard.Block{
		{From: 3, Slots: 1000, Used: 990, Member: "c"},
		{From: 1003, Slots: 50, Used: 50, Member: ""},
		{From: 1053, Slots: 32, Used: 7, Member: "d"},
	})
	sum := fnv.New64a()
	for n := range 4096 {
		fmt.Fprintf(sum, "%d ", ring.Slot(n))
	}
	if got := sum.Sum64(); got != 0x10b59a57e17ffd47 {
		t.Errorf("%#x", got)
	}
}

// What a member gets is its weight; it takes nothing from those that are live, no slot of it is anybody else's, and
// what it had stays its own as far as its weight goes.
func TestReserveGivesAWeightAndTakesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyReserved(t)
		r.LastSlot = rapid.SampledFrom([]int{0, 0, 100, 1}).Draw(t, "last slot")
		gone := rapid.SliceOfDistinct(rapid.IntRange(1, 9), rapid.ID).Draw(t, "gone")
		live := func(id string) bool {
			return !slices.ContainsFunc(gone, func(n int) bool { return id == fmt.Sprint("m", n) })
		}
		weight := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(0, 1000)).Draw(t, "weight")
		before := each(r, live)
		h := r.Reserve(live, "m0", weight)
		if h.Weight() != weight {
			t.Fatalf("%+v counts %d, want %d", h, h.Weight(), weight)
		}
		if len(h.Slots) > shard.Single || len(h.Slots)+len(h.Blocks) > 64+len(r.Blocks) {
			t.Fatalf("%d slots and %d blocks", len(h.Slots), len(h.Blocks))
		}
		taken := map[int]bool{}
		take := func(i int) {
			if taken[i] {
				t.Fatalf("slot %d is in it twice", i)
			}
			taken[i] = true
			byItself := i < len(r.Slots) && r.Slots[i] != ""
			if i < len(before) && before[i] != "" && before[i] != "m0" && !byItself {
				t.Fatalf("slot %d was taken from %s", i, before[i])
			}
		}
		for _, i := range h.Slots {
			take(i)
			if i < len(before) && before[i] != "" && before[i] != "m0" {
				t.Fatalf("slot %d was taken from %s", i, before[i])
			}
		}
		for _, b := range h.Blocks {
			at := slices.IndexFunc(r.Blocks, func(old shard.Block) bool { return old.From == b.From })
			if at < 0 {
				if b.From != r.Length() {
					t.Fatalf("a new block at %d of a ring of %d", b.From, r.Length())
				}
				at, r.Blocks = len(r.Blocks), append(r.Blocks, b)
			}
			old := r.Blocks[at]
			if free := old.Member == "m0" || old.Member == "" || !live(old.Member); old.Slots != b.Slots || !free {
				t.Fatalf("block %+v became %+v", old, b)
			}
			for i := b.From; i < b.From+b.Used; i++ {
				take(i)
			}
		}
	})
}

// settle writes down what a member reserves.
func settle(r shard.Reserved, id string, h shard.Holding) shard.Reserved {
	next := shard.Reserved{Slots: slices.Clone(r.Slots), Blocks: slices.Clone(r.Blocks)}
	for i, member := range next.Slots {
		if member == id && !slices.Contains(h.Slots, i) {
			next.Slots[i] = ""
		}
	}
	for _, i := range h.Slots {
		for len(next.Slots) <= i {
			next.Slots = append(next.Slots, "")
		}
		next.Slots[i] = id
	}
	for i := range next.Blocks {
		if next.Blocks[i].Member == id {
			next.Blocks[i].Member = ""
		}
	}
	for _, b := range h.Blocks {
		if at := slices.IndexFunc(next.Blocks, func(old shard.Block) bool { return old.From == b.From }); at >= 0 {
			next.Blocks[at] = b
		} else {
			next.Blocks = append(next.Blocks, b)
		}
	}
	return next
}

// A member that joins, or gets another weight, moves only what comes to it or leaves it, whatever its weight is. The
// one exception is a ring that grows by slots that do not count, since a weight grew by less than a block.
func TestWeightsMoveTheLeastPossible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const shards = 256
		var r shard.Reserved
		weights, alive := map[string]int{}, map[string]bool{}
		live := func(id string) bool { return alive[id] }
		owners := func() []string { return owners(ringOf(r, live), shards) }
		anyWeight := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(0, 1000), rapid.SampledFrom([]int{32, 33, 1000}))
		for range rapid.IntRange(1, 15).Draw(t, "changes") {
			id := fmt.Sprint("m", rapid.IntRange(0, 5).Draw(t, "member"))
			before, had, length := owners(), 0, r.Length()
			if alive[id] && rapid.Bool().Draw(t, "leaves") {
				delete(alive, id)
			} else {
				had = weights[id]
				weights[id] = anyWeight.Draw(t, "weight")
				h := r.Reserve(live, id, weights[id])
				if !alive[id] {
					had = 0
				}
				alive[id] = true
				r = settle(r, id, h)
			}
			dead := 0
			for _, b := range r.Blocks {
				if b.From >= length {
					dead += b.Slots - b.Used
				}
			}
			after := owners()
			for n := range shards {
				from, to := before[n], after[n]
				gains, loses := to == id && from != "", from == id && to != ""
				switch {
				case from == to || dead > 0:
				case from != id && to != id:
					t.Fatalf("shard %d went from %q to %q, and only %s changed", n, from, to, id)
				case gains && weights[id] <= had, loses && alive[id] && weights[id] > had && had > 0:
					t.Fatalf("shard %d went from %q to %q when the weight of %s went from %d to %d",
						n, from, to, id, had, weights[id])
				}
			}
		}
	})
}
