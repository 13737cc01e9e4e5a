package spread

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/distributed-resource-manager/drm/shard"
)

// Figures are the results of one way to spread.
type Figures struct {
	// MaxOverAvg is the load of the member with the most resources for its weight, as a multiple of the average, at the
	// end.
	MaxOverAvg float64
	// Worst is the greatest value that MaxOverAvg ever had.
	Worst float64
	// Moves is the load that went from one member to another, over all events: how many resources, if all weigh the
	// same.
	Moves int64
	// Minimum is the part of Moves that no way to spread could avoid: what a leaving member had, and what a joining one
	// got.
	Minimum int64
	// Kinds has the same two figures for the events of each kind.
	Kinds map[string]Moved
	// Decision is how long a member needs on average, after an event, to compute who owns what. DecisionMax is the
	// longest.
	Decision, DecisionMax time.Duration
}

// Moved is the load that moved, and the part of it that had to.
type Moved struct{ Moves, Minimum int64 }

// OverMinimum is Moves as a multiple of Minimum: 1 where nothing moved that did not have to.
func (m Moved) OverMinimum() float64 {
	if m.Moves == m.Minimum {
		return 1
	}
	return float64(m.Moves) / float64(max(1, m.Minimum))
}

// MovesOverMinimum is Moves as a multiple of Minimum: 1 where nothing moved that did not have to.
func (f Figures) MovesOverMinimum() float64 { return Moved{f.Moves, f.Minimum}.OverMinimum() }

// heaviest is the weight of the heaviest resource where weights differ.
const heaviest = 1_000_000

// weigh returns the load of each shard, and the fewest and the most resources in a shard. The ids of resources are like
// those of any source: a name and a number. If skew is 0, each resource has a weight of 1. Otherwise weights follow
// Zipf's law: the resource of rank n has the weight heaviest / n^skew, but at least 1.
func weigh(resources, shards int, skew float64) (load []int64, smallest, largest int) {
	load, counts := make([]int64, shards), make([]int, shards)
	id := append(make([]byte, 0, 32), "resource-"...)
	for i := range resources {
		s := shard.Of(string(strconv.AppendInt(id, int64(i), 10)), shards)
		counts[s]++
		if skew == 0 {
			load[s]++
		} else {
			load[s] += max(1, int64(math.Round(heaviest/math.Pow(float64(i+1), skew))))
		}
	}
	return load, slices.Min(counts), slices.Max(counts)
}

// tally adds up the figures of one way to spread.
type tally struct {
	Figures
	load      []int64 // by shard
	owners    []string
	decisions int
}

// decided measures how long it takes to find the owners.
func (t *tally) decided(find func() []string) []string {
	began := time.Now()
	owners := find()
	took := time.Since(began)
	t.Decision += took // the sum; it becomes the average at the end
	t.DecisionMax = max(t.DecisionMax, took)
	t.decisions++
	return owners
}

// begin starts the counting of moves.
func (t *tally) begin(owners []string, members map[string]int) {
	t.Kinds = map[string]Moved{}
	t.owners = owners
	t.evenness(members)
}

// event counts what moved in an event, given the owners after it. member is the member that the event happened to, and
// empty where it concerned none. What moves because of an event may be counted in several steps.
func (t *tally) event(kind, member string, owners []string) {
	moved := t.Kinds[kind]
	for s, before := range t.owners {
		after := owners[s]
		if before == after {
			continue
		}
		t.Moves += t.load[s]
		moved.Moves += t.load[s]
		if before == member || after == member {
			t.Minimum += t.load[s]
			moved.Minimum += t.load[s]
		}
	}
	t.Kinds[kind] = moved
	t.owners = owners
}

// evenness notes how even the load is among members with these weights.
func (t *tally) evenness(members map[string]int) {
	load := make(map[string]int64, len(members))
	var total, weights int64
	for s, m := range t.owners {
		if _, ok := members[m]; !ok {
			panic(fmt.Sprintf("spread: shard %d is owned by %q, who is not there", s, m))
		}
		load[m] += t.load[s]
		total += t.load[s]
	}
	most := 0.0
	for id, w := range members {
		weights += int64(w)
		most = max(most, float64(load[id])/float64(w))
	}
	t.MaxOverAvg = most * float64(weights) / float64(total)
	t.Worst = max(t.Worst, t.MaxOverAvg)
}

func (t *tally) end() Figures {
	f := t.Figures
	f.Decision /= time.Duration(max(1, t.decisions))
	return f
}
