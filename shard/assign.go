package shard

// Assign returns who owns each shard: element s is the member that shard s belongs to, "" if there is none. A pin (an
// operator's order) wins over an exception (the coordinator's, see Balance), and an exception over the ring. A pin or
// an exception is ignored if live says that its member is not live, so every shard has an owner if the ring has a live
// slot. A nil map has no entries; a nil live reports every member as live.
func Assign(shards int, ring *Ring, pins, exceptions map[int]string, live func(member string) bool) []string {
	owners := make([]string, shards)
	for s := range owners {
		if m, ok := pins[s]; ok && m != "" && (live == nil || live(m)) {
			owners[s] = m
		} else if m, ok := exceptions[s]; ok && m != "" && (live == nil || live(m)) {
			owners[s] = m
		} else {
			owners[s] = ring.Owner(s)
		}
	}
	return owners
}

// Moves returns how many shards go from one member to another between two assignments. It panics if their lengths
// differ. A shard that nobody owned before, or that nobody owns after, does not count as a move.
func Moves(before, after []string) int {
	moves := 0
	eachKept(before, after, func(from, to string) {
		if from != to {
			moves++
		}
	})
	return moves
}

// LeastMoves returns the fewest moves that could lead from one assignment to the other, given who joined and who left:
// each shard of a member that owns nothing afterwards must go, each shard of a member that owned nothing before must
// come, and at best the former shards are the latter. So it is what the joiners got or what the leavers had, whichever
// is more. It counts the same shards as Moves.
func LeastMoves(before, after []string) int {
	had, has := map[string]bool{}, map[string]bool{}
	for _, m := range before {
		had[m] = true
	}
	for _, m := range after {
		has[m] = true
	}
	joined, left := 0, 0
	eachKept(before, after, func(from, to string) {
		if !had[to] {
			joined++
		}
		if !has[from] {
			left++
		}
	})
	return max(joined, left)
}

// eachKept calls f for each shard that has an owner both before and after.
func eachKept(before, after []string, f func(from, to string)) {
	if len(before) != len(after) {
		panic("shard: assignments of different lengths")
	}
	for s, from := range before {
		if to := after[s]; from != "" && to != "" {
			f(from, to)
		}
	}
}
