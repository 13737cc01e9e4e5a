package shard

import "github.com/dgryski/go-jump"

// Try is one slot that was looked at when the owner of a shard was sought.
type Try struct {
	Slot   int
	Member string // the live member on the slot; "" if there is none
	// Nearest says that all slots of the first kind were tried in vain, and that this one has the greatest rendezvous
	// hash of the slots that may be taken.
	Nearest bool
}

// Walk returns the slots that a shard tries, in order, for people who want to know why the shard is where it is. accept
// says which live members may have the shard. The last try is the slot that OwnerWithout decides on if the others do
// not count; if no member is accepted, all tries are in vain. It panics if shard is negative.
func (r *Ring) Walk(shard int, accept func(member string) bool) []Try {
	if shard < 0 {
		panic("shard: negative shard")
	}
	if r.length == 0 {
		return nil
	}
	var tries []Try
	h := uint64(shard)
	for range probes {
		h = mix(h)
		i := int(jump.Hash(h, r.length))
		tries = append(tries, Try{Slot: i, Member: r.at(i)})
		if member := r.at(i); member != "" && accept(member) {
			return tries
		}
	}
	if i := r.nearest(h, func(member string) bool { return !accept(member) }); i >= 0 {
		tries = append(tries, Try{Slot: i, Member: r.at(i), Nearest: true})
	}
	return tries
}
