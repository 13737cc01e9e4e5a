package membership

import (
	"cmp"
	"maps"
	"slices"

	"github.com/distributed-resource-manager/drm/shard"
)

// Foresight is who would own each shard if the members were others than they are now.
type Foresight struct {
	Homes  []string // by shard: the owner by its pin or the ring, without exceptions
	Owners []string // by shard: the owner with the exceptions that are there now
}

// Foresee tells who would own each shard when members that are about to leave have left, when drained members keep
// nothing any more, and when joining members have become active one after the other. It takes as long as to make two
// views. The slices are the caller's.
func (v *View) Foresee(joining []string, leaving func(id string) bool) Foresight {
	then := *v
	then.Members, then.Slots, then.Blocks = maps.Clone(v.Members), slices.Clone(v.Slots), slices.Clone(v.Blocks)
	then.Drains, then.Weights = maps.Clone(v.Drains), maps.Clone(v.Weights)
	for id, drain := range then.Drains {
		drain.Keeps = nil
		then.Drains[id] = drain
	}
	for id, weight := range then.Weights {
		weight.Keeps = nil
		then.Weights[id] = weight
	}
	for id := range v.Members {
		if leaving(id) {
			delete(then.Members, id)
		}
	}
	for _, id := range joining {
		then.join(id, v.holder)
	}
	then.weigh()
	f := Foresight{Owners: then.assign()}
	then.Exceptions, then.table = nil, nil
	f.Homes = then.assign()
	return f
}

// holder says whether a member's slots are not for others: it is live, or will be back soon.
func (v *View) holder(id string) bool {
	_, live := v.Members[id]
	_, reserved := v.Reservations[id]
	return live || reserved
}

// join makes a member active, with the slots that a Registrar would give it.
func (v *View) join(id string, holds func(id string) bool) {
	h := v.hold(holds, id, v.WeightOf(id))
	for _, n := range h.Slots {
		for len(v.Slots) <= n {
			v.Slots = append(v.Slots, "")
		}
		v.Slots[n] = id
	}
	for n, of := range v.Slots {
		if of == id && !slices.Contains(h.Slots, n) {
			v.Slots[n] = ""
		}
	}
	v.Blocks = slices.DeleteFunc(v.Blocks, func(b shard.Block) bool {
		return slices.ContainsFunc(h.Blocks, func(mine shard.Block) bool { return mine.From == b.From })
	})
	for i := range v.Blocks {
		if v.Blocks[i].Member == id {
			v.Blocks[i].Member = ""
		}
	}
	v.Blocks = append(v.Blocks, h.Blocks...)
	slices.SortFunc(v.Blocks, func(a, b shard.Block) int { return cmp.Compare(a.From, b.From) })
	m := v.Members[id]
	m.State = Active
	m.hold(h)
	v.Members[id] = m
}

// hold returns what a member of some weight should hold. At weight 0 it keeps what it has, and none of it counts.
func (v *View) hold(holds func(id string) bool, id string, weight int) shard.Holding {
	if weight > 0 {
		return v.Reserved().Reserve(holds, id, weight)
	}
	var h shard.Holding
	for n, of := range v.Slots {
		if of == id && len(h.Slots) < shard.Single {
			h.Slots = append(h.Slots, n)
		}
	}
	for _, b := range v.Blocks {
		if b.Member == id {
			h.Blocks = append(h.Blocks, b)
		}
	}
	return h
}

// hold sets what the member's key says that the member holds.
func (r *Record) hold(h shard.Holding) {
	r.Slots, r.Blocks, r.Held = h.Slots, nil, 0
	for _, b := range h.Blocks {
		r.Blocks = append(r.Blocks, b.From)
		r.Held = h.Weight()
	}
}
