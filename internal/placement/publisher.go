package placement

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/membership"
)

// Publisher plans and publishes for one term of a coordinator, one turn at a time. It has neither a goroutine nor a
// timer: a Term runs it, and so does a simulation. One goroutine at a time may use it.
type Publisher struct {
	o       Options
	number  int64 // the create revision of the coordinator's key
	planner *Planner
	written int64 // no older view shows what was published
	unsure  bool  // a write has failed, or its answer was lost: etcd may have carried it out
}

// NewPublisher makes the publisher of the term with that number, which is the create revision of the coordinator's key.
// Of the options, it has no use for Hub and Failures.
func NewPublisher(o Options, number int64) *Publisher {
	return &Publisher{o: o, number: number, planner: NewPlanner(o.Rules, o.Member, o.Shards, o.Now())}
}

// See takes a view. Each must be newer than the one before.
func (p *Publisher) See(v *membership.View) { p.planner.See(v, p.o.Now()) }

// Take takes what a member says that its shards weigh, at a revision.
func (p *Publisher) Take(member string, said claims.Loads, revision int64) {
	p.planner.Take(member, said, revision)
}

// Hasten obeys an order to balance the load now, and deletes it, which tells who waits for it that the coordinator has
// begun.
func (p *Publisher) Hasten(ctx context.Context) error {
	p.planner.Hasten()
	office := clientv3.Compare(clientv3.CreateRevision(p.o.Layout.Coordinator()), "=", p.number)
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	_, err := p.o.KV.Txn(ctx).If(office).Then(clientv3.OpDelete(p.o.Layout.RebalanceOrder())).Commit()
	if err != nil {
		return fmt.Errorf("delete the order to balance: %w", err)
	}
	return nil
}

// Fresh publishes the placement of an app in which nothing is handled yet, by what its shards are going to weigh. It
// does nothing before the first view.
func (p *Publisher) Fresh(ctx context.Context, load []int64) error {
	if p.planner.view == nil {
		return nil
	}
	return p.carryOut(ctx, p.planner.Fresh(load, p.o.Now(), p.o.Wall()))
}

// Turn publishes what is due by the last view. next is when the next turn is due at the latest if nothing is seen or
// said before; 0 if none is. ErrDeposed says that the term is over. After any other error another turn is due soon.
func (p *Publisher) Turn(ctx context.Context) (next time.Duration, err error) {
	if p.planner.view == nil {
		return 0, nil
	}
	if p.unsure {
		if err := p.look(ctx); err != nil {
			return 0, err
		}
	}
	if p.planner.view.Revision < p.written {
		return 0, nil
	}
	plan := p.planner.Plan(p.o.Now(), p.o.Wall())
	if plan.IsEmpty() {
		return plan.Next, nil
	}
	return plan.Next, p.carryOut(ctx, plan)
}

// carryOut publishes a plan.
func (p *Publisher) carryOut(ctx context.Context, plan *Plan) error {
	revision, err := p.publish(ctx, plan)
	if err != nil {
		p.unsure = true
		return err
	}
	p.written = max(p.written, revision)
	return nil
}

// look finds out from which revision on a view shows what etcd has carried out. A plan by an older one would not know
// what is on its way already, and might send more than may be.
func (p *Publisher) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	resp, err := p.o.KV.Get(ctx, p.o.Layout.Group(), clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend), clientv3.WithLimit(1))
	if err != nil {
		return fmt.Errorf("look what was published: %w", err)
	}
	p.unsure = false
	for _, kv := range resp.Kvs {
		p.written = max(p.written, kv.ModRevision)
	}
	return nil
}

var (
	// ErrDeposed says that this member is the coordinator no longer.
	ErrDeposed = errors.New("another member coordinates")
	// ErrOutdated says that somebody else has written one of the keys; the next view shows it.
	ErrOutdated = errors.New("the placement was changed meanwhile")
)

// publish writes a plan, and returns the revision of the last write. What says that all is prepared comes last.
func (p *Publisher) publish(ctx context.Context, plan *Plan) (revision int64, err error) {
	var all []write
	for _, e := range plan.Exceptions {
		key := p.o.Layout.Exception(e.Shard)
		all = append(all, write{
			clientv3.Compare(clientv3.ModRevision(key), "=", e.ModRevision), clientv3.OpPut(key, e.Encode()),
		})
	}
	for _, n := range plan.Drop {
		key := p.o.Layout.Exception(n)
		known := p.planner.view.Exceptions[n].ModRevision
		all = append(all, write{clientv3.Compare(clientv3.ModRevision(key), "=", known), clientv3.OpDelete(key)})
	}
	for _, id := range slices.Sorted(maps.Keys(plan.Keeps)) {
		key, value, revision := p.order(id, plan.Keeps[id])
		all = append(all, write{
			clientv3.Compare(clientv3.ModRevision(key), "=", revision),
			clientv3.OpPut(key, value, clientv3.WithIgnoreLease()),
		})
	}
	for _, id := range slices.Sorted(maps.Keys(plan.Prepared)) {
		m := p.planner.view.Members[id]
		all = append(all, write{
			clientv3.Compare(clientv3.CreateRevision(p.o.Layout.Member(id)), "=", m.CreateRevision),
			clientv3.OpPut(p.o.Layout.Prepared(id), strconv.FormatInt(plan.Prepared[id], 10),
				clientv3.WithLease(clientv3.LeaseID(m.Lease))),
		})
	}
	for _, id := range plan.Undrain {
		all = append(all, end(p.o.Layout.Drain(id), p.planner.view.Drains[id]))
	}
	for _, id := range plan.Uncordon {
		all = append(all, end(p.o.Layout.Cordon(id), p.planner.view.Cordons[id]))
	}
	for len(all) > 0 {
		n := min(len(all), max(1, p.o.Limits.Ops()-1))
		if revision, err = p.commit(ctx, all[:n]); err != nil {
			return revision, err
		}
		all = all[n:]
	}
	freed, err := p.freeAll(ctx, plan.Free)
	p.tell(plan)
	return max(revision, freed), err
}

// order returns the key and the next value of the order by which a member keeps some shards only, and the revision at
// which the order was given.
func (p *Publisher) order(id string, keeps []bool) (key, value string, revision int64) {
	if keepsByDrain(p.planner.view, id) {
		drain := p.planner.view.Drains[id]
		drain.Keeps = keeps
		return p.o.Layout.Drain(id), drain.Encode(), drain.ModRevision
	}
	weight := p.planner.view.Weights[id]
	weight.Keeps = keeps
	return p.o.Layout.Weight(id), weight.Encode(), weight.ModRevision
}

// end takes an order back, unless somebody has given it anew.
func end(key string, order membership.Restriction) write {
	return write{clientv3.Compare(clientv3.ModRevision(key), "=", order.ModRevision), clientv3.OpDelete(key)}
}

// write is one conditional write.
type write struct {
	unless clientv3.Cmp
	op     clientv3.Op
}

// commit makes some writes if this member is in office, all of them may be made, and some more holds.
func (p *Publisher) commit(ctx context.Context, all []write, more ...clientv3.Cmp) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	office := p.o.Layout.Coordinator()
	ifs := append([]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(office), "=", p.number)}, more...)
	ops := make([]clientv3.Op, 0, len(all))
	for _, w := range all {
		ifs, ops = append(ifs, w.unless), append(ops, w.op)
	}
	resp, err := p.o.KV.Txn(ctx).If(ifs...).Then(ops...).Else(clientv3.OpGet(office, clientv3.WithKeysOnly())).Commit()
	switch {
	case err != nil:
		refused := &pb.TxnRequest{Success: make([]*pb.RequestOp, len(ifs))}
		return 0, p.o.Limits.TooMany(err, refused)
	case resp.Succeeded:
		return resp.Header.Revision, nil
	}
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) == 0 || kvs[0].CreateRevision != p.number {
		return 0, ErrDeposed
	}
	return 0, ErrOutdated
}

// tell logs what was published.
func (p *Publisher) tell(plan *Plan) {
	why := map[membership.Why]int{}
	for _, e := range plan.Exceptions {
		why[e.Why]++
	}
	if len(plan.Undrain)+len(plan.Uncordon) > 0 {
		p.o.Log.Info("ended orders whose time is over",
			zap.Strings("drained", plan.Undrain), zap.Strings("cordoned", plan.Uncordon))
	}
	if len(why)+len(plan.Keeps)+len(plan.Drop) == 0 {
		return
	}
	p.o.Log.Info("placed shards", zap.Int("shards", len(plan.Exceptions)), zap.Any("why", why),
		zap.Int64("moving", (plan.load+500)/1000), zap.Int("dropped", len(plan.Drop)),
		zap.Strings("drained", slices.Sorted(maps.Keys(plan.Keeps))))
}
