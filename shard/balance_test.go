package shard_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/distributed-resource-manager/drm/shard"
)

// outcome is what a placement comes to with some exceptions.
type outcome struct {
	owners []string
	load   map[string]int // of each member
	cap    map[string]int
	total  int
}

func (o outcome) over(m string) int { return max(0, o.load[m]-o.cap[m]) }

func evaluate(p shard.Placement, exceptions map[int]string) outcome {
	o := outcome{owners: slices.Clone(p.Home), load: map[string]int{}, cap: map[string]int{}}
	weights := 0
	for _, w := range p.Weights {
		weights += w
	}
	for s := range o.owners {
		if m, ok := exceptions[s]; ok && p.Weights[m] > 0 && (p.Pinned == nil || !p.Pinned(s)) {
			o.owners[s] = m
		}
		o.load[o.owners[s]] += p.Load[s]
		o.total += p.Load[s]
	}
	for m, w := range p.Weights {
		o.cap[m] = int(math.Ceil(float64(o.total) * float64(w) / float64(weights) * p.Bound))
	}
	return o
}

func (o outcome) movedLoad(p shard.Placement, after outcome) (load int) {
	for s, m := range o.owners {
		if after.owners[s] != m {
			load += p.Load[s]
		}
	}
	return load
}

func drawPlacement(t *rapid.T) shard.Placement {
	members := rapid.IntRange(1, 30).Draw(t, "members")
	shards := rapid.IntRange(1, 200).Draw(t, "shards")
	p := shard.Placement{
		Home:       make([]string, shards),
		Load:       make([]int, shards),
		Weights:    map[string]int{},
		Exceptions: map[int]string{},
		Bound:      rapid.SampledFrom([]float64{1, 1.1, 1.25, 2}).Draw(t, "bound"),
	}
	heaviest := rapid.SampledFrom([]int{1, 4}).Draw(t, "heaviest member")
	var slots []string
	for i := range members {
		id := fmt.Sprint("m", i)
		p.Weights[id] = rapid.IntRange(1, heaviest).Draw(t, "weight")
		for range p.Weights[id] {
			slots = append(slots, id)
		}
	}
	copy(p.Home, shard.Assign(shards, shard.NewRing(slots), nil, nil, nil))
	largest := rapid.SampledFrom([]int{1, 10, 1000}).Draw(t, "largest shard")
	for s := range p.Load {
		p.Load[s] = rapid.IntRange(0, largest).Draw(t, "load")
	}
	for range rapid.IntRange(0, 20).Draw(t, "exceptions") {
		p.Exceptions[rapid.IntRange(0, shards).Draw(t, "shard")] = fmt.Sprint("m",
			rapid.IntRange(0, members).Draw(t, "member"))
	}
	pinned := rapid.IntRange(2, 50).Draw(t, "pin one in")
	if rapid.Bool().Draw(t, "pins") {
		p.Pinned = func(s int) bool { return s%pinned == 0 }
	}
	return p
}

func TestBalanceBringsLoadUnderTheCapOrNothingCan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlacement(t)
		before := evaluate(p, p.Exceptions)
		after := evaluate(p, shard.Balance(p))
		for m := range p.Weights {
			if after.over(m) == 0 {
				continue
			}
			// No shard of m may fit elsewhere, or even make another member's strain less than m's is.
			for s, owner := range after.owners {
				if owner != m || p.Load[s] == 0 || p.Pinned != nil && p.Pinned(s) {
					continue
				}
				for other, w := range p.Weights {
					load := after.load[other] + p.Load[s]
					if other != m && (load <= after.cap[other] || load*p.Weights[m] < after.load[m]*w) {
						t.Fatalf("%s has %d with a cap of %d, and %s (%d of %d) could take shard %d of %d",
							m, after.load[m], after.cap[m], other, after.load[other], after.cap[other], s, p.Load[s])
					}
				}
			}
		}
		worst := func(o outcome) (most float64) {
			for m, w := range p.Weights {
				if o.over(m) > 0 {
					most = max(most, float64(o.load[m])/float64(w))
				}
			}
			return most
		}
		if worst(after) > worst(before) {
			t.Fatalf("the worst strain above a cap rose from %g to %g", worst(before), worst(after))
		}
	})
}

func TestBalanceReachesTheCapWithSmallShards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlacement(t)
		p.Pinned = nil
		for s := range p.Load {
			p.Load[s] = 1
		}
		before := evaluate(p, nil)
		p.Exceptions = nil
		after := evaluate(p, shard.Balance(p))
		excess := 0
		for m := range p.Weights {
			excess += before.over(m)
			if after.over(m) > 0 {
				t.Fatalf("%s has %d with a cap of %d", m, after.load[m], after.cap[m])
			}
		}
		if moved := before.movedLoad(p, after); moved != excess {
			t.Fatalf("%d moved, and %d were too many", moved, excess)
		}
	})
}

func TestBalanceIsDeterministicAndSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlacement(t)
		given := maps.Clone(p.Exceptions)
		first := shard.Balance(p)
		if again := shard.Balance(p); !maps.Equal(first, again) {
			t.Fatalf("twice the same input: %v, then %v", first, again)
		}
		if !maps.Equal(given, p.Exceptions) {
			t.Fatalf("the input changed: %v, then %v", given, p.Exceptions)
		}
		p.Exceptions = first
		if again := shard.Balance(p); !maps.Equal(first, again) {
			t.Fatalf("applied to its own answer: %v, then %v", first, again)
		}
		for s, m := range first {
			if s < 0 || s >= len(p.Home) || m == p.Home[s] || p.Weights[m] == 0 || p.Load[s] == 0 ||
				p.Pinned != nil && p.Pinned(s) {
				t.Fatalf("a useless exception: shard %d to %q", s, m)
			}
		}
	})
}

func TestBalance(t *testing.T) {
	for _, c := range []struct {
		name       string
		home       string // one letter for each shard, a dot for none
		load       []int
		exceptions map[int]string
		pinned     []int
		weights    map[string]int
		bound      float64
		want       map[int]string
	}{
		{
			name: "even already", home: "aabb", load: []int{1, 1, 1, 1}, bound: 1.1,
			weights: map[string]int{"a": 1, "b": 1},
		},
		{
			name: "as few as it takes", home: "aaaaab", load: []int{1, 1, 1, 1, 1, 1}, bound: 1,
			weights: map[string]int{"a": 1, "b": 1}, want: map[int]string{0: "b", 1: "b"},
		},
		{
			name: "by weight", home: "aaaa", load: []int{1, 1, 1, 1}, bound: 1,
			weights: map[string]int{"a": 1, "b": 3}, want: map[int]string{0: "b", 1: "b", 2: "b"},
		},
		{
			name: "the shard that fits the excess", home: "aaab", load: []int{7, 3, 2, 6}, bound: 1,
			weights: map[string]int{"a": 1, "b": 1}, want: map[int]string{1: "b"},
		},
		{
			name: "a shard too large for anyone's cap still goes where it strains less", home: "aa",
			load: []int{100, 100}, bound: 1.1,
			weights: map[string]int{"a": 1, "b": 1, "c": 1}, want: map[int]string{1: "b"},
		},
		{
			name: "one huge shard stays, whatever the cap", home: "a", load: []int{100}, bound: 1.1,
			weights: map[string]int{"a": 1, "b": 1},
		},
		{
			name: "pinned shards stay", home: "aaaa", load: []int{1, 1, 1, 1}, pinned: []int{0, 1}, bound: 1,
			weights: map[string]int{"a": 1, "b": 1}, want: map[int]string{2: "b", 3: "b"},
		},
		{
			name: "an exception that is still needed", home: "aaaaab", load: []int{1, 1, 1, 1, 1, 1}, bound: 1,
			exceptions: map[int]string{3: "b", 4: "b"}, weights: map[string]int{"a": 1, "b": 1},
			want: map[int]string{3: "b", 4: "b"},
		},
		{
			name: "an exception that is no longer needed", home: "aabb", load: []int{1, 1, 1, 1}, bound: 1.1,
			exceptions: map[int]string{0: "b"}, weights: map[string]int{"a": 1, "b": 1},
		},
		{
			name: "an exception whose home is near its cap stays", home: "aab", load: []int{110, 8, 82}, bound: 1.2,
			exceptions: map[int]string{1: "b"}, weights: map[string]int{"a": 1, "b": 1}, want: map[int]string{1: "b"},
		},
		{
			name: "an exception goes home rather than elsewhere if its member is above the cap", home: "aabc",
			load: []int{8, 107, 113, 72}, exceptions: map[int]string{0: "b"}, bound: 1.2,
			weights: map[string]int{"a": 1, "b": 1, "c": 1},
		},
		{
			name: "exceptions that say nothing", home: "ab.", load: []int{5, 5, 5}, bound: 1.1, pinned: []int{1},
			exceptions: map[int]string{0: "a", 1: "a", 2: "a", 3: "a", -1: "a"},
			weights:    map[string]int{"a": 1, "b": 1},
		},
		{
			name: "an exception to a dead member", home: "ab", load: []int{5, 5}, bound: 1.1,
			exceptions: map[int]string{0: "z"}, weights: map[string]int{"a": 1, "b": 1},
		},
		{
			name: "shards without resources need no exception", home: "aaab", load: []int{0, 0, 0, 0}, bound: 1.1,
			exceptions: map[int]string{0: "b"}, weights: map[string]int{"a": 1, "b": 1},
		},
		{name: "no members", home: "..", load: []int{1, 1}, exceptions: map[int]string{0: "b"}, bound: 1.1},
		{
			name: "a bound or weight below 1 counts as 1", home: "aaaa", load: []int{1, 1, 1, 1}, bound: 0.1,
			weights: map[string]int{"a": 0, "b": -5}, want: map[int]string{0: "b", 1: "b"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := shard.Balance(shard.Placement{
				Home: letters(c.home), Exceptions: c.exceptions, Load: c.load, Weights: c.weights, Bound: c.bound,
				Pinned: func(s int) bool { return slices.Contains(c.pinned, s) },
			})
			if !maps.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
