package shard

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// maxRounds bounds the alternation of Balance's two steps. Two or three rounds are enough in practice; the bound proves
// that Balance ends.
const maxRounds = 16

// Placement is the input of Balance, which changes nothing in it.
type Placement struct {
	// Home is the owner of each shard without exceptions, as Assign gives it for the ring and the pins.
	Home []string
	// Exceptions are the exceptions in force: shard → member. Balance drops the exception of a member that is
	// gone, of a pinned shard, or of a shard without resources.
	Exceptions map[int]string
	// Pinned reports whether Balance must leave a shard where it is. If Pinned is nil, no shard is pinned.
	Pinned func(shard int) bool
	// Load is the load of each shard: how many resources it has. A number below zero counts as zero.
	Load []int
	// Weights has every member that can own shards, with its share relative to the others' shares. Less than 1 counts
	// as 1.
	Weights map[string]int
	// Bound is how much load a member may have, as a multiple of its fair share. A lower bound makes the load more
	// even, and moves more shards. Less than 1 counts as 1; 1.1 to 1.25 is reasonable.
	Bound float64
}

// Balance returns the exceptions to put in force: for each of these shards, the member that should own it instead of
// its home. They bring every member's load down to its cap, Bound × its weighted fair share, rounded up (as in
// Mirrokni, Thorup & Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018; they deal with unit loads). A shard
// cannot be divided, so a cap may be out of reach; then no single move would improve anything. Balance panics if Load
// and Home differ in length.
//
// Few resources move: only members above their cap give shards away, and no more than necessary. An exception in force
// stays as long as its shard's home could not take the shard back comfortably, that is, with a load at most halfway
// from its fair share to its cap. That distance keeps shards from going to and fro when the load varies a little.
//
// The answer depends on nothing but the input. Balance applied to its own answer changes nothing.
func Balance(p Placement) map[int]string {
	b := newBalancer(p)
	if b == nil {
		return map[int]string{}
	}
	for range maxRounds {
		home := b.sendHome()
		shed := b.shed()
		if !home && !shed {
			break
		}
	}
	exceptions := map[int]string{}
	for s, m := range b.owner {
		if m >= 0 && m != b.home[s] {
			exceptions[s] = b.names[m]
		}
	}
	return exceptions
}

// balancer works on members by their position in the order of their ids, so that nothing depends on a map's order.
type balancer struct {
	names  []string
	weight []int
	load   []int // of each member
	limit  []int // the cap of each member's load
	easy   []int // the load up to which a member takes its shards back
	home   []int // the home of each shard, -1 if there is none
	owner  []int // the owner of each shard, -1 if there is none
	size   []int // the load of each shard
	fixed  []bool
}

func newBalancer(p Placement) *balancer {
	if len(p.Load) != len(p.Home) {
		panic("shard: one load for each shard is needed")
	}
	if len(p.Weights) == 0 {
		return nil
	}
	b := &balancer{
		names: slices.Sorted(maps.Keys(p.Weights)),
		home:  make([]int, len(p.Home)),
		owner: make([]int, len(p.Home)),
		size:  make([]int, len(p.Home)),
		fixed: make([]bool, len(p.Home)),
	}
	number := make(map[string]int, len(b.names))
	b.weight = make([]int, len(b.names))
	weights := 0
	for i, name := range b.names {
		number[name] = i
		b.weight[i] = max(1, p.Weights[name])
		weights += b.weight[i]
	}
	b.load = make([]int, len(b.names))
	total := 0
	for s, name := range p.Home {
		b.size[s] = max(0, p.Load[s])
		b.fixed[s] = p.Pinned != nil && p.Pinned(s)
		b.home[s], b.owner[s] = -1, -1
		m, ok := number[name]
		if !ok {
			continue // nobody can own the shard, so it is no load for anyone
		}
		b.home[s], b.owner[s] = m, m
		// An exception for a shard without resources relieves nobody.
		if m, ok := number[p.Exceptions[s]]; ok && !b.fixed[s] && b.size[s] > 0 {
			b.owner[s] = m
		}
		b.load[b.owner[s]] += b.size[s]
		total += b.size[s]
	}
	bound := max(1, p.Bound)
	b.limit = make([]int, len(b.names))
	b.easy = make([]int, len(b.names))
	for i, w := range b.weight {
		fair := float64(total) * float64(w) / float64(weights)
		b.limit[i] = int(math.Ceil(fair * bound))
		b.easy[i] = int(math.Ceil(fair * (1 + bound) / 2))
	}
	return b
}

func (b *balancer) move(shard, to int) {
	b.load[b.owner[shard]] -= b.size[shard]
	b.load[to] += b.size[shard]
	b.owner[shard] = to
}

// sendHome ends the exceptions that are no longer needed, and those whose end relieves a member above its cap. It
// reports whether there were any. It puts no member above its cap.
func (b *balancer) sendHome() bool {
	moved := false
	for again := true; again; {
		again = false
		for s, from := range b.owner {
			home := b.home[s]
			if from == home || b.fixed[s] {
				continue
			}
			room := b.easy[home]
			if b.load[from] > b.limit[from] {
				room = b.limit[home]
			}
			if b.load[home]+b.size[s] <= room {
				b.move(s, home)
				again, moved = true, true
			}
		}
	}
	return moved
}

// shed moves shards away from the members above their cap, and reports whether any shard moved.
func (b *balancer) shed() bool {
	shards := make([][]int, len(b.names)) // what each member above its cap can give, the largest first
	var donors []int
	for m := range b.names {
		if b.load[m] > b.limit[m] {
			donors = append(donors, m)
		}
	}
	if len(donors) == 0 {
		return false
	}
	for s, m := range b.owner {
		if m >= 0 && !b.fixed[s] && b.size[s] > 0 && b.load[m] > b.limit[m] {
			shards[m] = append(shards[m], s)
		}
	}
	moved := false
	for _, m := range donors {
		slices.SortStableFunc(shards[m], func(x, y int) int { return cmp.Compare(b.size[y], b.size[x]) })
		for b.load[m] > b.limit[m] {
			at, to := b.pick(m, shards[m])
			if to < 0 {
				break
			}
			b.move(shards[m][at], to)
			shards[m] = slices.Delete(shards[m], at, at+1)
			moved = true
		}
	}
	return moved
}

// pick chooses which shard a member above its cap gives next, as an index into shards (sorted, the largest first), and
// to whom. Both are -1 if no move would improve anything.
func (b *balancer) pick(from int, shards []int) (at, to int) {
	if len(shards) == 0 {
		return -1, -1
	}
	roomiest, room := -1, 0
	for m := range b.names {
		if r := b.limit[m] - b.load[m]; m != from && r > room {
			roomiest, room = m, r
		}
	}
	excess := b.load[from] - b.limit[from]
	// The largest shard that is no more than has to go, otherwise the smallest that is enough: this moves few shards
	// and few resources.
	atMost := func(size int) int {
		return sortedIndex(shards, func(s int) bool { return b.size[s] <= size })
	}
	if i := atMost(min(excess, room)); i < len(shards) {
		return i, roomiest
	}
	if i := len(shards) - 1; b.size[shards[i]] <= room {
		return i, roomiest
	}
	// Nobody has room for even the smallest shard. Another member may still be better off with it than this one is.
	i := len(shards) - 1
	size := b.size[shards[i]]
	best := -1
	for m := range b.names {
		if m != from && (best < 0 || b.strain(m, size) < b.strain(best, size)) {
			best = m
		}
	}
	if best < 0 || b.strain(best, size) >= b.strain(from, 0) {
		return -1, -1
	}
	return i, best
}

// strain is a member's load relative to its weight, with some load added.
func (b *balancer) strain(m, added int) float64 {
	return float64(b.load[m]+added) / float64(b.weight[m])
}

// sortedIndex is the first index for which a condition holds; once the condition holds, it must hold to the end.
func sortedIndex(shards []int, holds func(shard int) bool) int {
	i, _ := slices.BinarySearchFunc(shards, true, func(s int, _ bool) int {
		if holds(s) {
			return 0
		}
		return -1
	})
	return i
}
