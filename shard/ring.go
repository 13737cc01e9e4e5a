package shard

import (
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
	slots []string // slot → live member, "" if there is none
	live  []int32  // the slots that are live, ascending
	keys  []uint64 // the rendezvous key of each live slot
}

// NewRing makes the ring of a group. slots[i] is the live member on slot i, "" if no live member has the slot. Its
// length must be 1 + the highest reserved slot, so dead slots at the end count. NewRing copies the slice.
//
// A ring that gets shorter moves more shards than necessary. So whoever keeps the reservations should free a slot
// without forgetting that it exists.
func NewRing(slots []string) *Ring {
	if len(slots) > math.MaxInt32 {
		panic("shard: too many slots")
	}
	r := &Ring{slots: slices.Clone(slots)}
	for i, member := range r.slots {
		if member != "" {
			r.live = append(r.live, int32(i))
			r.keys = append(r.keys, mix(uint64(i)))
		}
	}
	return r
}

// Slot returns the live slot that a shard belongs to, -1 if no slot is live. It panics if shard is negative.
func (r *Ring) Slot(shard int) int { return r.slot(shard, nil) }

// slot is Slot of the ring without the slots of those members of which without is true. A nil without is false of all.
func (r *Ring) slot(shard int, without func(member string) bool) int {
	if shard < 0 {
		panic("shard: negative shard")
	}
	if len(r.live) == 0 {
		return -1
	}
	h := uint64(shard)
	for range probes {
		h = mix(h)
		i := jump.Hash(h, len(r.slots))
		if member := r.slots[i]; member != "" && (without == nil || !without(member)) {
			return int(i)
		}
	}
	best, top := int32(-1), uint64(0)
	for i, slot := range r.live {
		if without != nil && without(r.slots[slot]) {
			continue
		}
		if score := mix(h ^ r.keys[i]); best < 0 || score > top {
			best, top = slot, score
		}
	}
	return int(best)
}

// OwnerWithout returns the member that a shard belongs to if some members do not count, "" if none is left: the same as
// Owner of a ring in which their slots are not live. It panics if shard is negative.
func (r *Ring) OwnerWithout(shard int, without func(member string) bool) string {
	if i := r.slot(shard, without); i >= 0 {
		return r.slots[i]
	}
	return ""
}

// Owner returns the member that a shard belongs to, "" if no slot is live. It panics if shard is negative.
func (r *Ring) Owner(shard int) string {
	if i := r.Slot(shard); i >= 0 {
		return r.slots[i]
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
