package shard

// targets finds the member with the least strain among those that take shards. Members with the same limit are in one
// heap, the one with the least load on top, so a change of a member's load costs little. There are about as many heaps
// as there are different weights.
type targets struct {
	tier  []int8 // by member: 0 for one that shards go to, 1 for one that they go to if they must; -1 for none
	heaps []*loads
	heap  []*loads // by member; nil for one that takes nothing
	at    []int    // by member: its place in its heap
}

// loads is a heap of members with the same limit.
type loads struct {
	tier    int8
	members []int
}

type heapKey struct {
	limit int64
	tier  int8
}

// rank builds the heaps.
func (t *targets) rank(p *Planner) {
	members := len(p.names)
	t.tier, t.at, t.heap = make([]int8, members), make([]int, members), make([]*loads, members)
	t.heaps = nil
	preferred := func(m int) bool { return p.prefer == nil || p.prefer(p.names[m]) }
	some := false
	for m := range members {
		t.tier[m] = -1
		if p.takes(m) {
			t.tier[m] = 1
			if preferred(m) {
				t.tier[m], some = 0, true
			}
		}
	}
	byKey := map[heapKey]*loads{}
	for m := range members {
		if t.tier[m] < 0 {
			continue
		}
		if !some {
			t.tier[m] = 0
		}
		key := heapKey{p.limit[m], t.tier[m]}
		h := byKey[key]
		if h == nil {
			h = &loads{tier: t.tier[m]}
			byKey[key] = h
			t.heaps = append(t.heaps, h)
		}
		t.heap[m], t.at[m] = h, len(h.members)
		h.members = append(h.members, m)
	}
	for _, h := range t.heaps {
		for i := len(h.members)/2 - 1; i >= 0; i-- {
			t.down(p, h, i)
		}
	}
}

// fix puts a member back in order after its load has changed.
func (t *targets) fix(p *Planner, m int) {
	if h := t.heap[m]; h != nil {
		t.up(p, h, t.at[m])
		t.down(p, h, t.at[m])
	}
}

func before(p *Planner, a, b int) bool {
	return p.load[a] < p.load[b] || p.load[a] == p.load[b] && a < b
}

func (t *targets) swap(h *loads, i, j int) {
	h.members[i], h.members[j] = h.members[j], h.members[i]
	t.at[h.members[i]], t.at[h.members[j]] = i, j
}

func (t *targets) up(p *Planner, h *loads, i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !before(p, h.members[i], h.members[parent]) {
			return
		}
		t.swap(h, i, parent)
		i = parent
	}
}

func (t *targets) down(p *Planner, h *loads, i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h.members); child++ {
			if before(p, h.members[child], h.members[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		t.swap(h, i, least)
		i = least
	}
}

// pick returns the member that has the least strain once it has some load more, -1 if nobody can have it. must says
// that a member which is not preferred may have it if no other can.
func (t *targets) pick(p *Planner, size int64, must bool) int {
	best := -1
	for tier := int8(0); tier <= 1 && best < 0 && (tier == 0 || must); tier++ {
		for _, h := range t.heaps {
			if h.tier != tier {
				continue
			}
			m := t.first(p, h, 0, size)
			if m < 0 {
				continue
			}
			if best < 0 || p.strain(m, size) < p.strain(best, size) {
				best = m
			}
		}
	}
	return best
}

// first returns the member with the least load in a part of a heap, of those that have room.
func (t *targets) first(p *Planner, h *loads, i int, size int64) int {
	if i >= len(h.members) {
		return -1
	}
	if m := h.members[i]; p.hasRoom(m, size) {
		return m
	}
	left, right := t.first(p, h, 2*i+1, size), t.first(p, h, 2*i+2, size)
	if left < 0 || right >= 0 && before(p, right, left) {
		return right
	}
	return left
}
