package membership

import (
	"context"
	"errors"
	"slices"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/shard"
)

// An etcd that allows few operations in a transaction (--max-txn-ops) refuses a registration with many slots. The
// member then reserves its slots one by one, in transactions of two comparisons, before it becomes active. Shards may
// move twice because of that, since the ring grows before the member is live.

// isTooMany says whether etcd refused a transaction because it has too many operations.
func isTooMany(err error) bool { return errors.Is(err, rpctypes.ErrTooManyOps) }

// registerInSteps puts the key of a member that has no key yet, without slots, and then activates the member.
func (g *Registrar) registerInSteps(ctx context.Context, reg *Registration) (again bool, err error) {
	joining := Registration{Record: reg.Record, Lease: reg.Lease}
	joining.Record.State, joining.Record.Slots = Joining, nil
	if again, err = g.put(ctx, &joining, nil, nil); again || err != nil {
		return again, err
	}
	reg.CreateRevision = joining.CreateRevision
	return g.activate(ctx, reg)
}

// activateInSteps reserves slots one by one, frees the slots that are left from an earlier life with a greater weight,
// and puts the member's key. The slots are safe meanwhile, since nobody takes a slot whose holder is live. If somebody
// else has taken a slot first, the caller begins anew.
func (g *Registrar) activateInSteps(ctx context.Context, reg *Registration, p *picture) (again bool, err error) {
	reserved := p.view.Slots
	slots := shard.Reserve(reserved, p.holds, g.ID, reg.Record.Weight)
	for n := range max(len(reserved), slots[len(slots)-1]+1) {
		reserver, to := "", g.ID
		if n < len(reserved) {
			reserver = reserved[n]
		}
		cmps := []clientv3.Cmp{g.unchanged(p, n)}
		switch mine, wanted := reserver == g.ID, slices.Contains(slots, n); {
		case mine == wanted:
			continue
		case mine:
			to = ""
		case reserver != "": // the reserver may have come back since
			cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(g.layout().Member(reserver)), "=", 0))
		}
		resp, err := g.commit(ctx, cmps, []clientv3.Op{clientv3.OpPut(g.layout().Slot(n), to)})
		if err != nil || !resp.Succeeded {
			return true, err
		}
	}
	reg.Record.Slots = slots
	return g.put(ctx, reg, nil, g.back(p))
}
