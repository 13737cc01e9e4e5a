package membership

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/shard"
)

// An etcd that allows few operations in a transaction (--max-txn-ops) refuses a registration with many slots. The
// member then reserves its slots one by one, in transactions of a few comparisons, before it becomes active. Shards may
// move twice because of that, since the ring grows before the member is live.

// isTooMany says whether etcd refused a transaction because it has too many operations.
func isTooMany(err error) bool { return errors.Is(err, rpctypes.ErrTooManyOps) }

// registerInSteps puts the key of a member that has no key yet, without slots, and then activates the member.
func (g *Registrar) registerInSteps(ctx context.Context, reg *Registration, p *picture) (again bool, err error) {
	joining := Registration{Record: reg.Record, Lease: reg.Lease}
	joining.Record.State = Joining
	joining.Record.hold(shard.Holding{})
	if again, err = g.put(ctx, &joining, p, nil, nil); again || err != nil {
		return again, err
	}
	reg.CreateRevision = joining.CreateRevision
	return g.activate(ctx, reg)
}

// activateInSteps reserves slots one by one, puts the member's key, and frees the slots that are left from a greater
// weight. The slots are safe meanwhile, since nobody takes a slot whose holder is live. If somebody else has taken a
// slot first, the caller begins anew. Slots are freed last, because a member whose key lists a slot that is not
// reserved for it (View.HasItsSlots) registers anew.
//
// A slot of a member that is gone takes three comparisons: of the slot, that its holder is not live, and that it is not
// expected back. Where etcd does not take as many, such slots are left alone.
func (g *Registrar) activateInSteps(ctx context.Context, reg *Registration, p *picture) (again bool, err error) {
	h := g.holding(p, reg)
	again, err = g.takeSteps(ctx, p, h)
	if isTooMany(err) {
		h = p.view.hold(func(string) bool { return true }, g.ID, p.view.WeightWith(g.ID, reg.Record.Weight))
		again, err = g.takeSteps(ctx, p, h)
	}
	if again || err != nil {
		return again, err
	}
	reg.Record.hold(h)
	if again, err = g.put(ctx, reg, p, nil, g.back(p)); again || err != nil {
		return again, err
	}
	for _, f := range g.surplus(p, h) {
		if done, err := g.step(ctx, f.put, p.unchanged(f.key)); !done {
			return true, err
		}
	}
	return false, nil
}

// step makes one write, unless somebody else was faster.
func (g *Registrar) step(ctx context.Context, op clientv3.Op, cmps ...clientv3.Cmp) (done bool, err error) {
	resp, err := g.commit(ctx, cmps, []clientv3.Op{op})
	return err == nil && resp.Succeeded, err
}

// takeSteps reserves what the member is to hold, one by one.
func (g *Registrar) takeSteps(ctx context.Context, p *picture, h shard.Holding) (again bool, err error) {
	layout := g.layout()
	gone := func(holder string) []clientv3.Cmp {
		if holder == "" || holder == g.ID {
			return nil
		}
		return []clientv3.Cmp{g.absent(holder), p.settled(layout.Reservations())}
	}
	for _, n := range h.Slots {
		key, holder := layout.Slot(n), p.slot(n)
		if holder == g.ID {
			continue
		}
		cmps := append(gone(holder), p.unchanged(key))
		if n >= p.view.Reserved().Length() {
			cmps = append(cmps, p.settled(layout.Blocks()))
		}
		if done, err := g.step(ctx, clientv3.OpPut(key, g.ID), cmps...); !done {
			return true, err
		}
	}
	for _, b := range h.Blocks {
		key := layout.Block(b.From)
		before, known := p.block(b.From)
		cmps := append(gone(before.Member), p.unchanged(key))
		if !known { // one comparison is about all slots and blocks, and whatever is between their keys
			end := clientv3.GetPrefixRangeEnd(layout.Slots())
			cmps = []clientv3.Cmp{
				clientv3.Compare(clientv3.ModRevision(layout.Blocks()), "<", p.view.Revision+1).WithRange(end),
			}
		}
		if before == b {
			continue
		}
		if done, err := g.step(ctx, clientv3.OpPut(key, EncodeBlock(b)), cmps...); !done {
			return true, err
		}
	}
	return false, nil
}
