package shard

import (
	"cmp"
	"slices"
)

// A member of a weight up to Single has slots of its own, each reserved by itself. What a greater weight needs beyond
// that is a block: consecutive slots that are reserved together, so that a weight of 1,000 costs hardly more than a
// weight of 1.
const (
	// Single is how many slots a member may have that are each reserved by itself.
	Single = 32
	// leastBlock is the least length of a block, so that a member has few of them. A weight may use a part of one.
	leastBlock = 32
	// mostTaken is how many blocks of members that are gone one reservation takes over.
	mostTaken = 16
)

// Block is a number of consecutive slots that are reserved together. Its length never changes.
type Block struct {
	From   int    // its first slot
	Slots  int    // how many slots it has, at least 1
	Used   int    // how many of these count, from the first on; the others are dead
	Member string // the member that it is reserved for; "" if there is none
}

// end returns how long a ring is that has these blocks.
func end(blocks []Block) (length int) {
	for _, b := range blocks {
		length = max(length, b.From+b.Slots)
	}
	return length
}

// Reserved says for whom the slots of a ring are reserved.
type Reserved struct {
	Slots []string // slot → the member for which it is reserved by itself; "" if there is none
	// Blocks are ascending. A slot in one that is reserved by itself belongs to that member all the same, but only
	// until the member reserves anew: members that do not know of blocks reserve such slots.
	Blocks []Block
	// LastSlot is the greatest number of a slot that can be reserved by itself; 0: no limit.
	LastSlot int
}

// Length returns how long the ring is.
func (r Reserved) Length() int { return max(len(r.Slots), end(r.Blocks)) }

// Holding is what a member holds: slots by themselves, and blocks. Both are ascending.
type Holding struct {
	Slots  []int
	Blocks []Block
}

// Weight returns how many slots count.
func (h Holding) Weight() int {
	n := len(h.Slots)
	for _, b := range h.Blocks {
		n += b.Used
	}
	return n
}

// Reserve returns the slots that a member of some weight should hold, in ascending order, in a group without blocks:
// see Reserved.Reserve. A weight of less than 1 counts as 1.
func Reserve(reserved []string, live func(member string) bool, id string, weight int) []int {
	return Reserved{Slots: reserved}.single(live, id, max(weight, 1))
}

// Reserve returns what a member of some weight should hold; live tells whether a member is live. The member takes its
// own slots and blocks first, the lowest first, so that a member that comes back finds its shards. It takes the rest
// from what is free or reserved for members that are not live, so that the ring does not grow: up to Single slots, the
// lowest first, and more in blocks, those first of which it needs all. What is left comes at the end of the ring.
//
// If the member has more than its weight needs, the answer leaves the rest out, and the caller frees it. A weight of
// less than 1 needs nothing.
func (r Reserved) Reserve(live func(member string) bool, id string, weight int) Holding {
	var h Holding
	left := max(weight, 0)
	r.alone(func(i int, member string) {
		if member == id && left > 0 && len(h.Slots) < Single {
			h.Slots = append(h.Slots, i)
			left--
		}
	})
	own := len(h.Slots)
	for _, b := range r.Blocks {
		if b.Member == id && left > 0 {
			left -= h.use(b, id, left)
		}
	}
	for taken := 0; left > Single-own && taken < mostTaken; taken++ {
		b, ok := r.fits(live, h, id, left)
		if !ok {
			break
		}
		left -= h.use(b, id, left)
	}
	if left > 0 && left <= Single-own && r.hasRoom(live, id, own+left) {
		h.Slots = r.single(live, id, own+left)
		left = 0
	}
	if left > 0 {
		h.use(Block{From: r.Length(), Slots: max(left, leastBlock)}, id, left)
	}
	slices.SortFunc(h.Blocks, func(a, b Block) int { return cmp.Compare(a.From, b.From) })
	return h
}

// use adds a block of which so many slots are needed at most, and returns how many of them count.
func (h *Holding) use(b Block, id string, most int) (used int) {
	b.Member, b.Used = id, min(b.Slots, most)
	h.Blocks = append(h.Blocks, b)
	return b.Used
}

// fits returns the block that suits a member best which needs so many slots more: the longest of which it needs all, or
// the shortest of which it needs half.
func (r Reserved) fits(live func(member string) bool, h Holding, id string, left int) (best Block, ok bool) {
	for _, b := range r.Blocks {
		if b.Member == id || b.Member != "" && live(b.Member) || b.Slots > 2*left ||
			slices.ContainsFunc(h.Blocks, func(taken Block) bool { return taken.From == b.From }) {
			continue
		}
		whole, better := b.Slots <= left, best.Slots <= left
		switch {
		case !ok, whole && !better, whole && b.Slots > best.Slots, !whole && !better && b.Slots < best.Slots:
			best, ok = b, true
		}
	}
	return best, ok
}

// hasRoom says whether a member can hold so many slots by themselves.
func (r Reserved) hasRoom(live func(member string) bool, id string, weight int) bool {
	slots := r.single(live, id, weight)
	return r.LastSlot == 0 || slots[len(slots)-1] <= r.LastSlot
}

// single returns so many slots for a member that are each reserved by itself: its own first, then those that are free,
// or of members that are not live, then new ones at the end of the ring.
func (r Reserved) single(live func(member string) bool, id string, weight int) []int {
	slots := make([]int, 0, weight)
	take := func(usable func(member string) bool) {
		r.alone(func(i int, member string) {
			if len(slots) < weight && usable(member) {
				slots = append(slots, i)
			}
		})
	}
	take(func(m string) bool { return m == id })
	take(func(m string) bool { return m != id && (m == "" || !live(m)) })
	for i := r.Length(); len(slots) < weight; i++ {
		slots = append(slots, i)
	}
	slices.Sort(slots)
	return slots
}

// alone calls f with each slot that is in no block, and the member for which it is reserved.
func (r Reserved) alone(f func(slot int, member string)) {
	blocks := r.Blocks
	for i, member := range r.Slots {
		for len(blocks) > 0 && blocks[0].From+blocks[0].Slots <= i {
			blocks = blocks[1:]
		}
		if len(blocks) == 0 || i < blocks[0].From {
			f(i, member)
		}
	}
}

// Of returns the member for which a slot is reserved, by itself or within a block; "" if there is none. Slots of a
// block that do not count are nobody's.
func (r Reserved) Of(slot int) string {
	if slot < len(r.Slots) && r.Slots[slot] != "" {
		return r.Slots[slot]
	}
	for _, b := range r.Blocks {
		if b.From <= slot && slot < b.From+b.Used {
			return b.Member
		}
	}
	return ""
}
