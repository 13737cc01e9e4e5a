package groupsim

import (
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// atRest checks what must hold when nothing has gone wrong for a while.
func (j *judge) atRest() {
	j.over = true
	w, v := j.w, j.w.view()
	for id, m := range v.Members {
		if m.State != membership.Active || m.Leaves {
			w.Failf("at rest, %s is %s", id, m.State)
		}
	}
	for _, m := range w.members {
		if m.stage == joined && m.view.Revision != v.Revision {
			w.Failf("at rest, %s sees revision %d, and not %d", m.id, m.view.Revision, v.Revision)
		}
	}
	for n, h := range w.holders {
		if owner := v.Owner(n); owner != "" && (h.m == nil || h.m.id != owner) {
			w.Failf("at rest, shard %d belongs to %s, which does not handle it", n, owner)
		}
	}
	if v.HasOlder() {
		return
	}
	for id := range v.Drains {
		if kept := v.Kept(id); kept > 0 {
			w.Failf("at rest, %s is drained, and keeps %d shards", id, kept)
		}
	}
	for id, order := range v.Weights {
		if slices.Contains(order.Keeps, true) || v.WeightOf(id) == 0 && v.Kept(id) > 0 {
			w.Failf("at rest, %s has the weight 0, and keeps %d shards: %v", id, v.Kept(id), order.Keeps)
		}
	}
	j.somebody(v)
	homes := j.ringAlone()
	j.evenness(v, homes)
	for n, e := range v.Exceptions {
		_, live := v.Members[e.Member]
		if live && homes[n] == e.Member || !live && homes[n] == v.Owner(n) {
			w.Failf("at rest, shard %d has an exception that nobody needs: %+v", n, e)
		}
	}
}

// somebody checks that each shard has an owner, if there is a member that could take shards, whether it is drained or
// not, and whether all that have a weight hold as much as that says.
func (j *judge) somebody(v *membership.View) {
	could, forced := "", false
	for id, m := range v.Members {
		if v.WeightOf(id) == 0 {
			continue
		}
		could, forced = id, forced || v.Drains[id].Force
		if v.NeedsSlots(id) && m.Holds() != v.WeightOf(id) {
			j.w.Failf("at rest, %s has the weight %d, and holds %d slots", id, v.WeightOf(id), m.Holds())
		}
	}
	if could == "" || forced || len(v.Reservations) > 0 {
		return
	}
	for n := range v.Shards {
		if v.Owner(n) == "" {
			j.w.Failf("at rest, shard %d belongs to nobody, though %s could take it", n, could)
		}
	}
}

// ringAlone returns the owners if there are no exceptions, and checks that these are what the ring says.
func (j *judge) ringAlone() []string {
	w := j.w
	var kvs []*mvccpb.KeyValue
	for _, name := range w.store.sorted {
		if key := w.layout.Parse(name); key.Kind != keys.Exception && len(name) > len(w.layout.Group()) &&
			name[:len(w.layout.Group())] == w.layout.Group() {
			kvs = append(kvs, w.store.kvs[name])
		}
	}
	v := w.group.View(kvs, w.store.revision)
	counts := func(id string) bool {
		_, restricted := keepsOnly(v, id)
		return works(v, id) && !restricted
	}
	slots, blocks := make([]string, len(v.Slots)), slices.Clone(v.Blocks)
	for i, id := range v.Slots {
		if counts(id) && slices.Contains(v.Members[id].Slots, i) {
			slots[i] = id
		}
	}
	for i, b := range blocks {
		if !counts(b.Member) || !slices.Contains(v.Members[b.Member].Blocks, b.From) {
			blocks[i].Member = ""
		}
	}
	ring := shard.NewBlockRing(slots, blocks)
	for n, owner := range v.Owners() {
		if _, pinned := v.Pins[n]; pinned {
			continue
		}
		want := ring.OwnerWithout(n, func(id string) bool { return !takes(v, id, n) })
		if want == "" {
			want = ring.Owner(n)
		}
		if want != owner {
			w.Failf("without exceptions, shard %d belongs to %s, and the ring gives it to %s", n, owner, want)
		}
	}
	return v.Owners()
}

// evenness checks that the load is within the bound, or that no single move would make anything better.
func (j *judge) evenness(v *membership.View, homes []string) {
	w := j.w
	members := map[string]shard.Capacity{}
	for id, m := range v.Members {
		members[id] = shard.Capacity{Weight: v.WeightOf(id), Takes: unfit(v, id) == "", Room: -1}
		if !m.HasJoined() {
			delete(members, id)
		}
	}
	p := shard.NewPlanner(shard.Problem{
		Home: homes, Owner: v.Owners(), Load: w.load, Members: members,
		Fixed: func(n int) bool { pin, pinned := v.Pins[n]; return pinned && pin.Member == v.Owner(n) },
	})
	p.Level(1 << 62)
	if steps := p.Steps(); len(steps) > 0 {
		w.Failf("at rest, %d moves would make the load more even, such as %+v", len(steps), steps[0])
	}
}
