package shard

import "slices"

// Reserve returns the slots that a member of some weight should hold, in ascending order. reserved[i] is the member
// that slot i is reserved for, "" if there is none; live tells whether a member is live. The member takes its own slots
// first, the lowest first, so that a member that comes back finds its shards; then the lowest slots that are free or
// reserved for a member that is not live, so that the ring does not grow; then new slots at the end.
//
// If the member has more slots than its weight, the answer leaves the rest out, and the caller frees them. A weight of
// less than 1 counts as 1.
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
