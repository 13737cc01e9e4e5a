package membership

import (
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
	then.Members, then.Slots = maps.Clone(v.Members), slices.Clone(v.Slots)
	then.Drains = maps.Clone(v.Drains)
	for id, drain := range then.Drains {
		drain.Keeps = nil
		then.Drains[id] = drain
	}
	for id := range v.Members {
		if leaving(id) {
			delete(then.Members, id)
		}
	}
	live := func(id string) bool { _, live := v.Members[id]; return live }
	for _, id := range joining {
		m := then.Members[id]
		m.State, m.Slots = Active, shard.Reserve(then.Slots, live, id, m.Weight)
		for _, n := range m.Slots {
			for len(then.Slots) <= n {
				then.Slots = append(then.Slots, "")
			}
			then.Slots[n] = id
		}
		then.Members[id] = m
	}
	then.weigh()
	f := Foresight{Owners: then.assign()}
	then.Exceptions, then.table = nil, nil
	f.Homes = then.assign()
	return f
}
