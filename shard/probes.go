package shard

import "github.com/dgryski/go-jump"

// sparse is how many times as many slots as live ones a ring has that is worth a table of probes.
const sparse = 4

// Probes is a table of the slots that shards try one after the other. They depend on the length of the ring only, not
// on who is live, so rings of the same length can share a table. It saves the time of a lookup where most members are
// gone: nearly all probes find a dead slot then, and a jump hash takes many times as long as a look at a table.
//
// A table never changes, so any number of goroutines may use it at once. It takes 136 bytes for each shard.
type Probes struct {
	length, shards int
	slots          []int32  // the probes of shard 0, then those of shard 1, …
	last           []uint64 // by shard: the hash of the last probe
}

func newProbes(length, shards int) *Probes {
	p := &Probes{
		length: length, shards: shards, slots: make([]int32, 0, shards*probes), last: make([]uint64, shards),
	}
	for shard := range shards {
		h := uint64(shard)
		for range probes {
			h = mix(h)
			p.slots = append(p.slots, jump.Hash(h, length))
		}
		p.last[shard] = h
	}
	return p
}

// of returns the slots that a shard tries.
func (p *Probes) of(shard int) []int32 { return p.slots[shard*probes : (shard+1)*probes] }

// WithProbes returns the same ring with a table for that many shards if the ring has so many dead slots that it is
// worth it, and the table. It takes the table that is given, if that is of another ring of the same length, and makes
// one otherwise. The answers are the same with and without it.
func (r *Ring) WithProbes(table *Probes, shards int) (*Ring, *Probes) {
	if r.alive == 0 || r.length < sparse*r.alive {
		return r, table
	}
	if table == nil || table.length != r.length || table.shards != shards {
		table = newProbes(r.length, shards)
	}
	with := *r
	with.probes = table
	return &with, table
}
