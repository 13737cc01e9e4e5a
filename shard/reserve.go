package shard

import "slices"

// Reserve returns the slots that a member of some weight should hold, in ascending order. reserved[i] is the member
// that slot i is reserved for, "" where there is none; live tells whether a member is. The member takes first its own
// slots, the lowest first, so that one that comes back finds its shards; then the lowest that are free or reserved for
// a member that isn't live, so that the ring doesn't grow; then new ones at the end.
//
// Own slots beyond the weight are not in the answer: the caller frees them. A weight of less than 1 counts as 1.
func Reserve(reserved []string, live func(member string) bool, id string, weight int) []int {
	weight = max(weight, 1)
	slots := make([]int, 0, weight)
	take := func(usable func(member string) bool) {
		for i, member := range reserved {
			if len(slots) < weight && usable(member) {
				slots = append(slots, i)
			}
		}
	}
	take(func(m string) bool { return m == id })
	take(func(m string) bool { return m != id && (m == "" || !live(m)) })
	for i := len(reserved); len(slots) < weight; i++ {
		slots = append(slots, i)
	}
	slices.Sort(slots)
	return slots
}
