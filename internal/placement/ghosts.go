package placement

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// Members that never come back leave slots behind. Others may use them, but nobody needs to know for ever whose they
// were. So a coordinator frees the slots of members that it has missed for ghostAfter, by its own clock and within its
// own term. That moves nothing: a slot without a live member is passed over in either case, and the ring keeps its
// length. A member that is expected back keeps its slots.

const (
	// ghostAfter is how long a member must have been gone for its slots to be freed.
	ghostAfter = time.Hour
	// ghostLook is the pause between two looks for such slots.
	ghostLook = time.Minute
	// ghostMost is how many keys are freed at once.
	ghostMost = 32
)

// Ghost is a member that has been gone for long, and some of the slots that are reserved for it.
type Ghost struct {
	Member string
	Slots  []int
	Blocks []shard.Block
}

// ghosts is what a planner knows of members that are gone, and for which slots are reserved.
type ghosts struct {
	missed map[string]time.Duration // since when
	looked time.Duration            // when look was last called; 0: never
	lost   bool                     // somebody has gone since, or is not expected back any more
}

// see forgets the members that are there, and notes whether look may find others than before. before is the last view,
// nil at first.
func (g *ghosts) see(before, v *membership.View) {
	if before != nil {
		g.lost = g.lost || lacks(v.Members, before.Members) || lacks(v.Reservations, before.Reservations)
	}
	for id := range v.Members {
		delete(g.missed, id)
	}
}

// lacks says whether a key of one map is not in another one.
func lacks[T any](in, of map[string]T) bool {
	for key := range of {
		if _, has := in[key]; !has {
			return true
		}
	}
	return false
}

// look returns what is to be freed, and when to look again; 0: there is no need.
func (g *ghosts) look(v *membership.View, now time.Duration) (free []Ghost, next time.Duration) {
	if g.looked > 0 && now < g.looked+ghostLook {
		if len(g.missed) == 0 && !g.lost {
			return nil, 0
		}
		return nil, g.looked + ghostLook
	}
	g.looked, g.lost = now, false
	gone := map[string]*Ghost{}
	of := func(id string) *Ghost {
		_, live := v.Members[id]
		_, reserved := v.Reservations[id]
		if id == "" || live || reserved {
			return nil
		}
		if gone[id] == nil {
			gone[id] = &Ghost{Member: id}
		}
		return gone[id]
	}
	for n, id := range v.Slots {
		if m := of(id); m != nil {
			m.Slots = append(m.Slots, n)
		}
	}
	for _, b := range v.Blocks {
		if m := of(b.Member); m != nil {
			m.Blocks = append(m.Blocks, b)
		}
	}
	maps.DeleteFunc(g.missed, func(id string, _ time.Duration) bool { return gone[id] == nil })
	left := ghostMost
	for _, id := range slices.Sorted(maps.Keys(gone)) {
		since, known := g.missed[id]
		if !known {
			g.missed[id] = now
		}
		if m := gone[id]; known && now-since >= ghostAfter && left > 0 {
			m.Slots = m.Slots[:min(len(m.Slots), left)]
			m.Blocks = m.Blocks[:min(len(m.Blocks), left-len(m.Slots))]
			left -= len(m.Slots) + len(m.Blocks)
			free = append(free, *m)
		}
	}
	if len(free) > 0 {
		g.looked = 0 // what is left follows at once
		return free, now + soon
	}
	if len(g.missed) == 0 {
		return nil, 0
	}
	return nil, now + ghostLook
}

// putOff makes the next look come after the usual pause, though not all is freed that was to be.
func (g *ghosts) putOff(now time.Duration) { g.looked = now }

// giveUp frees slots of members that are gone for good, if nothing else is to be done.
func (d *draft) giveUp() {
	free, next := d.planner.ghosts.look(d.view, d.now)
	d.plan.Free = free
	if next > 0 && (d.plan.Next == 0 || next < d.plan.Next) {
		d.plan.Next = next
	}
}

// freeAll frees the slots of some members. What cannot be freed is put off, so that the coordinator does not try it
// again and again: where etcd takes few comparisons in a transaction, it never can.
func (p *Publisher) freeAll(ctx context.Context, all []Ghost) (revision int64, err error) {
	for _, g := range all {
		freed, err := p.free(ctx, g)
		if revision = max(revision, freed); err != nil {
			p.planner.ghosts.putOff(p.o.Now())
			return revision, fmt.Errorf("free the slots of member %q, which is gone: %w", g.Member, err)
		}
	}
	return revision, nil
}

// free frees a member's slots, if nobody has taken them, and the member has not come back and is not expected back.
func (p *Publisher) free(ctx context.Context, g Ghost) (revision int64, err error) {
	layout := p.o.Layout
	ifs := []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(layout.Member(g.Member)), "=", 0),
		clientv3.Compare(clientv3.CreateRevision(layout.Reservation(g.Member)), "=", 0),
	}
	for left := g; len(left.Slots)+len(left.Blocks) > 0; {
		n := max(1, min(ghostMost, p.o.Limits.Ops()-1-len(ifs)))
		var all []write
		for ; len(left.Slots) > 0 && len(all) < n; left.Slots = left.Slots[1:] {
			key := layout.Slot(left.Slots[0])
			mine := clientv3.Compare(clientv3.Value(key), "=", g.Member)
			all = append(all, write{mine, clientv3.OpPut(key, "")})
		}
		for ; len(left.Blocks) > 0 && len(all) < n; left.Blocks = left.Blocks[1:] {
			b := left.Blocks[0]
			key := layout.Block(b.From)
			mine := clientv3.Compare(clientv3.Value(key), "=", membership.EncodeBlock(b))
			all = append(all, write{mine, clientv3.OpPut(key, membership.EncodeBlock(shard.Block{Slots: b.Slots}))})
		}
		if revision, err = p.commit(ctx, all, ifs...); err != nil {
			return revision, err
		}
	}
	p.o.Log.Info("freed the slots of a member that has been gone for long", zap.String("gone", g.Member),
		zap.Ints("slots", g.Slots), zap.Int("blocks", len(g.Blocks)))
	return revision, nil
}
