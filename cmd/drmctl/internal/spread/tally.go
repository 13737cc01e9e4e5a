package spread

import (
	"fmt"
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
	// Moves counts the resources that went from one member to another, over all events.
	Moves int
	// Minimum counts the moves that no way to spread could avoid: what a leaving member had, and what a joining one
	// got.
	Minimum int
	// Decision is how long a member needs on average, after an event, to compute who owns what. DecisionMax is the
	// longest.
	Decision, DecisionMax time.Duration
}

// MovesOverMinimum is Moves as a multiple of Minimum: 1 where nothing moved that did not have to.
func (f Figures) MovesOverMinimum() float64 {
	if f.Moves == f.Minimum {
		return 1
	}
	return float64(f.Moves) / float64(max(1, f.Minimum))
}

// count returns how many resources each shard has. Their ids are like those of any source: a name and a number.
func count(resources, shards int) []int {
	load := make([]int, shards)
	id := append(make([]byte, 0, 32), "resource-"...)
	for i := range resources {
		load[shard.Of(string(strconv.AppendInt(id, int64(i), 10)), shards)]++
	}
	return load
}

// tally adds up the figures of one way to spread.
type tally struct {
	Figures
	load      []int // for each shard: how many resources it has
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
func (t *tally) begin(owners []string, eligible map[string]int) {
	t.owners = owners
	t.weigh(eligible)
}

// event counts what moved in an event, given the owners after it. member is the member that the event happened to, and
// empty where it concerned none.
func (t *tally) event(member string, owners []string, eligible map[string]int) {
	for s, before := range t.owners {
		after := owners[s]
		if before == after {
			continue
		}
		t.Moves += t.load[s]
		if before == member || after == member {
			t.Minimum += t.load[s]
		}
	}
	t.begin(owners, eligible)
}

// weigh notes how even the load is.
func (t *tally) weigh(eligible map[string]int) {
	load := make(map[string]int, len(eligible))
	total, weights := 0, 0
	for s, m := range t.owners {
		if _, ok := eligible[m]; !ok {
			panic(fmt.Sprintf("spread: shard %d is owned by %q, who is not there", s, m))
		}
		load[m] += t.load[s]
		total += t.load[s]
	}
	most := 0.0
	for id, w := range eligible {
		weights += w
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
