package shard

import (
	"cmp"
	"math"
	"slices"

	"github.com/dgryski/go-jump"
)

// probes is how many slots a shard tries by jump hash before it picks among the live slots directly. It is part of
// the mapping: see the golden test. At 32, a ring with half of its slots live goes past it once in four billion
// shards, and a ring where almost nobody is live costs a shard 32 probes instead of one per dead slot.
const probes = 32

// Ring maps shards to slots. It is immutable, so any number of goroutines may use it at once.
//
// Each shard has an order of preference among all slots, live or not, and belongs to the first that is live:
//
//   - First come the slots that jump consistent hash (Lamping & Veach, "A Fast, Minimal Memory, Consistent Hash
//     Algorithm", 2014) gives for a sequence of hashes of the shard. Jump hash alone needs slots without gaps;
//     probing again goes around the gaps.
//   - After a fixed number of probes come all slots, ordered by rendezvous hash (Thaler & Ravishankar, "Using
//     Name-Based Mappings to Increase Hit Rates", 1998). Only rings with few live slots get there.
//
// The order does not depend on who is live, so a slot that goes dead gives away only its own shards, and a slot that
// goes live takes only the shards that become its own. A new slot at the end changes the order only in its own favour,
// as jump hash and rendezvous hash guarantee. So each change moves as few shards as possible.
type Ring struct {
	length int
	slots  []string // slot → live member, "" if there is none; slots in blocks may be missing
	blocks []Block  // the blocks of live members, in order
	live   []int32  // the slots that are live, without those in blocks, ascending
	keys   []uint64 // the rendezvous key of each of these
	alive  int      // how many slots are live
	probes *Probes  // nil: they are computed for each lookup
}

// NewRing makes the ring of a group. slots[i] is the live member on slot i, "" if no live member has the slot. Its
// length must be 1 + the highest reserved slot, so dead slots at the end count. NewRing copies the slice.
//
// A ring that gets shorter moves more shards than necessary. So whoever keeps the reservations should free a slot
// without forgetting that it exists.
func NewRing(slots []string) *Ring { return NewBlockRing(slots, nil) }

// NewBlockRing is NewRing for a group in which some slots are reserved in blocks. blocks has all of them, in ascending
// order; the Member of one is "" if no live member has it. A member that has a slot in a block by itself comes before
// the block's. The answers are those of the ring in which each slot of a block has its member by itself.
func NewBlockRing(slots []string, blocks []Block) *Ring {
	r := &Ring{length: max(len(slots), end(blocks)), slots: slices.Clone(slots)}
	if r.length > math.MaxInt32 {
		panic("shard: too many slots")
	}
	for _, b := range blocks {
		if b.Member != "" && b.Used > 0 {
			r.blocks = append(r.blocks, b)
			r.alive += b.Used
		}
	}
	for i, member := range r.slots {
		if member != "" {
			r.live = append(r.live, int32(i))
			r.keys = append(r.keys, mix(uint64(i)))
		}
	}
	r.alive += len(r.live)
	return r
}

// at returns the live member on a slot, "" if there is none.
func (r *Ring) at(slot int) string {
	if slot < len(r.slots) && r.slots[slot] != "" {
		return r.slots[slot]
	}
	if len(r.blocks) == 0 {
		return ""
	}
	// The last block that begins at the slot or before has it, if any.
	begins := func(b Block, slot int) int { return cmp.Compare(b.From, slot) }
	i, found := slices.BinarySearchFunc(r.blocks, slot, begins)
	if !found {
		i--
	}
	if i < 0 || slot >= r.blocks[i].From+r.blocks[i].Used {
		return ""
	}
	return r.blocks[i].Member
}

// Slot returns the live slot that a shard belongs to, -1 if no slot is live. It panics if shard is negative.
func (r *Ring) Slot(shard int) int { return r.slot(shard, nil) }

// slot is Slot of the ring without the slots of those members of which without is true. A nil without is false of all.
func (r *Ring) slot(shard int, without func(member string) bool) int {
	if shard < 0 {
		panic("shard: negative shard")
	}
	if r.alive == 0 {
		return -1
	}
	h := uint64(shard)
	if r.probes != nil && shard < r.probes.shards {
		for _, i := range r.probes.of(shard) {
			if member := r.at(int(i)); member != "" && (without == nil || !without(member)) {
				return int(i)
			}
		}
		h = r.probes.last[shard]
	} else {
		for range probes {
			h = mix(h)
			i := int(jump.Hash(h, r.length))
			if member := r.at(i); member != "" && (without == nil || !without(member)) {
				return i
			}
		}
	}
	return r.nearest(h, without)
}

// nearest returns the live slot with the greatest rendezvous hash, -1 if there is none.
func (r *Ring) nearest(h uint64, without func(member string) bool) int {
	best, top := -1, uint64(0)
	for i, slot := range r.live {
		if without != nil && without(r.slots[slot]) {
			continue
		}
		if score := mix(h ^ r.keys[i]); best < 0 || score > top {
			best, top = int(slot), score
		}
	}
	for _, b := range r.blocks {
		if without != nil && without(b.Member) {
			continue
		}
		for slot := b.From; slot < b.From+b.Used; slot++ {
			score := mix(h ^ mix(uint64(slot)))
			if (best < 0 || score > top) && r.at(slot) == b.Member {
				best, top = slot, score
			}
		}
	}
	return best
}

// OwnerWithout returns the member that a shard belongs to if some members do not count, "" if none is left: the same as
// Owner of a ring in which their slots are not live. It panics if shard is negative.
func (r *Ring) OwnerWithout(shard int, without func(member string) bool) string {
	if i := r.slot(shard, without); i >= 0 {
		return r.at(i)
	}
	return ""
}

// Owner returns the member that a shard belongs to, "" if no slot is live. It panics if shard is negative.
func (r *Ring) Owner(shard int) string {
	if i := r.Slot(shard); i >= 0 {
		return r.at(i)
	}
	return ""
}

// mix is one step of SplitMix64 (Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", 2014): every
// bit of the result depends on every bit of x. It adds before it multiplies, because without that 0 would stay 0, and
// shard 0 would probe the same slot for ever.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
