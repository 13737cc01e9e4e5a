package spread

import (
	"maps"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/dgryski/go-jump"
)

// This file has other ways to find the owners of shards, for comparison. They know the members that can own shards and
// their weights, and nothing else.

// rendezvous is rendezvous hashing (Thaler & Ravishankar, 1998): a shard belongs to the member for which a hash of both
// is greatest. A member's weight raises its chances in proportion.
type rendezvous struct {
	owners []string
	best   []float64      // by shard: the score of its owner
	known  map[string]int // the members at the last time
}

func newRendezvous(shards int) *rendezvous {
	return &rendezvous{owners: make([]string, shards), best: make([]float64, shards)}
}

// assign returns the owners. It compares only what has changed since the last time: there may be 1,000 members.
func (r *rendezvous) assign(members map[string]int) []string {
	orphan := make([]bool, len(r.owners))
	for s, owner := range r.owners {
		if _, there := members[owner]; !there {
			orphan[s], r.owners[s], r.best[s] = true, "", math.Inf(-1)
		}
	}
	for id, weight := range members {
		hash := xxhash.Sum64String(id)
		_, known := r.known[id]
		for s := range r.owners {
			if known && !orphan[s] {
				continue
			}
			score := scoreOf(hash, s, weight)
			if score > r.best[s] || score == r.best[s] && id < r.owners[s] {
				r.owners[s], r.best[s] = id, score
			}
		}
	}
	r.known = maps.Clone(members)
	return slices.Clone(r.owners)
}

// scoreOf is -weight / ln(x) for a hash x of the member and the shard between 0 and 1.
func scoreOf(member uint64, shard, weight int) float64 {
	x := (float64(mix(member^mix(uint64(shard)))>>11) + 0.5) / (1 << 53)
	return -float64(weight) / math.Log(x)
}

// mix is one step of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// naiveJump is jump consistent hash (Lamping & Veach, 2014) over the members in the order of their ids. They are
// numbered without gaps, so all members behind one that comes or goes get other numbers. A member of weight w has w
// numbers.
func naiveJump(shards int, members map[string]int) []string {
	var numbers []string
	for _, id := range slices.Sorted(maps.Keys(members)) {
		for range members[id] {
			numbers = append(numbers, id)
		}
	}
	owners := make([]string, shards)
	for s := range owners {
		owners[s] = numbers[jump.Hash(mix(uint64(s)), len(numbers))]
	}
	return owners
}
