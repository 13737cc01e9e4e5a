package core

import "math/bits"

// OneWeight is the weight of a resource of which nothing else is said, in the unit of Entry.Weight.
const OneWeight = 1000

// weight is a resource's weight with about three significant digits, in two bytes, since a member may have a million
// resources: eleven bits of mantissa and five of exponent. The zero value stands for OneWeight.
type weight uint16

const mantissaBits = 11

func weightOf(w int64) weight {
	if w <= 0 || w == OneWeight {
		return 0
	}
	exponent := max(0, bits.Len64(uint64(w))-mantissaBits)
	if exponent >= 1<<(16-mantissaBits) {
		return 1<<16 - 1
	}
	return weight(exponent<<mantissaBits | int(w>>exponent))
}

func (w weight) value() int64 {
	if w == 0 {
		return OneWeight
	}
	return int64(w&(1<<mantissaBits-1)) << (w >> mantissaBits)
}

// Loads are what the shards of this member weigh.
type Loads struct {
	// Shards has the weight of all resources that are wanted and belong to this member, by shard; without those of no
	// weight.
	Shards map[int]int64
	// Pending is the weight of those that are not handled yet, and whose Handle has not failed.
	Pending int64
}
