package membership

import (
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/shard"
)

// unchanged makes the comparison that a key is still as it was read.
func (p *picture) unchanged(key string) clientv3.Cmp {
	revision := int64(0)
	if kv := p.keys[key]; kv != nil {
		revision = kv.ModRevision
	}
	return clientv3.Compare(clientv3.ModRevision(key), "=", revision)
}

// settled makes the comparison that nobody has written below a prefix since the picture was read.
func (p *picture) settled(prefix string) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(prefix), "<", p.view.Revision+1).WithPrefix()
}

// absent makes the comparison that a member is not live.
func (g *Registrar) absent(id string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(g.layout().Member(id)), "=", 0)
}

// reserve returns what a transaction must compare and write so that the member holds just that: maxCompares at most of
// each, with what put adds.
func (g *Registrar) reserve(p *picture, h shard.Holding) (cmps []clientv3.Cmp, ops []clientv3.Op) {
	layout := g.layout()
	// Two newcomers may have read the same slots: the comparison of each key's revision lets only one of them through.
	// The former holder of a slot may have come back since; then its key exists, or its reservation if it has stopped
	// again. One comparison is about all reservations, since there may be as many holders as slots.
	var gone []string
	add := func(key, holder string) {
		cmps = append(cmps, p.unchanged(key))
		if holder != "" && holder != g.ID && !slices.Contains(gone, holder) {
			gone = append(gone, holder)
			cmps = append(cmps, g.absent(holder))
		}
	}
	longer := false // the ring grows
	for _, n := range h.Slots {
		holder := p.slot(n)
		longer = longer || n >= p.view.Reserved().Length()
		add(layout.Slot(n), holder)
		if holder != g.ID {
			ops = append(ops, clientv3.OpPut(layout.Slot(n), g.ID))
		}
	}
	for _, b := range h.Blocks {
		before, known := p.block(b.From)
		if !known { // no slot may have been reserved where the block is going to be
			longer = true
			cmps = append(cmps, p.settled(layout.Slots()))
		}
		add(layout.Block(b.From), before.Member)
		if before != b {
			ops = append(ops, clientv3.OpPut(layout.Block(b.From), EncodeBlock(b)))
		}
	}
	if longer { // no block may have been reserved there either
		cmps = append(cmps, p.settled(layout.Blocks()))
	}
	if len(gone) > 0 {
		cmps = append(cmps, p.settled(layout.Reservations()))
	}
	const others = 2 // the comparisons that put adds
	// Slots that are left from an earlier life with a greater weight become free. Their keys stay, so that the ring
	// never shrinks.
	for _, f := range g.surplus(p, h) {
		if len(cmps)+others < maxCompares {
			cmps, ops = append(cmps, p.unchanged(f.key)), append(ops, f.put)
		}
	}
	return cmps, ops
}

// slot returns for whom a slot is reserved by itself.
func (p *picture) slot(n int) string {
	if n < len(p.view.Slots) {
		return p.view.Slots[n]
	}
	return ""
}

// block returns the block that begins at a slot.
func (p *picture) block(from int) (b shard.Block, known bool) {
	i := slices.IndexFunc(p.view.Blocks, func(b shard.Block) bool { return b.From == from })
	if i < 0 {
		return shard.Block{}, false
	}
	return p.view.Blocks[i], true
}

// freed is a reservation that becomes free.
type freed struct {
	key string
	put clientv3.Op
}

// surplus returns what the member has reserved besides what it is to hold, as it becomes free.
func (g *Registrar) surplus(p *picture, h shard.Holding) (all []freed) {
	for n, holder := range p.view.Slots {
		if key := g.layout().Slot(n); holder == g.ID && !slices.Contains(h.Slots, n) {
			all = append(all, freed{key, clientv3.OpPut(key, "")})
		}
	}
	for _, b := range p.view.Blocks {
		held := slices.ContainsFunc(h.Blocks, func(held shard.Block) bool { return held.From == b.From })
		if key := g.layout().Block(b.From); b.Member == g.ID && !held {
			all = append(all, freed{key, clientv3.OpPut(key, EncodeBlock(shard.Block{Slots: b.Slots}))})
		}
	}
	return all
}
