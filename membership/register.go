package membership

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/shard"
)

// Errors of a registration.
var (
	// ErrTaken says that another live member has the id. Register wraps it in a *TakenError.
	ErrTaken = errors.New("member id is taken")
	// ErrGone says that the member's key does not exist any more, or belongs to another registration.
	ErrGone = errors.New("member key is gone")
	// ErrOutdated says that the member has declined shards since the view that says what it keeps.
	ErrOutdated = errors.New("the view is older than what the member declines")
	// ErrAppGone says that the app was deleted since its Group was made; it may have been created again. Nothing was
	// written. drm.ErrAppGone is the same error.
	ErrAppGone = appconfig.ErrGone
	// ErrSchema says that the app, or one of its members, has a version of what is in etcd that is more than one step
	// away from this program's. Register and Activate wrap it in a *SchemaError. drm.ErrSchema is the same error.
	ErrSchema = appconfig.ErrSchema
)

// maxCompares is how many comparisons etcd takes in one transaction by default.
const maxCompares = 128

// TakenError says which member has the id. If the holder's key cannot be read, only its id, create revision and lease
// are known.
type TakenError struct{ Holder Member }

func (e *TakenError) Error() string { return fmt.Sprintf("member id %q is taken", e.Holder.ID) }

// Unwrap lets errors.Is find ErrTaken.
func (e *TakenError) Unwrap() error { return ErrTaken }

// Registrar registers one member. All fields are required, and must not change once the Registrar is in use. Its
// methods are safe for concurrent use.
type Registrar struct {
	// Client sends the requests: a *clientv3.Client, or its KV.
	Client clientv3.KV
	// Group that the member joins.
	Group Group
	// ID of the member: 1 to 512 bytes of UTF-8 without control characters. A member that comes back under its id gets
	// its slots back, and so its shards.
	ID string
	// Timeout bounds each request; it must be positive.
	Timeout time.Duration
}

func (g *Registrar) layout() keys.Layout { return g.Group.layout() }

// Registration is a member's key as this member last put it.
type Registration struct {
	Record         Record
	CreateRevision int64            // distinguishes this registration from an earlier or later one of the same id
	Lease          clientv3.LeaseID // the lease that the key lives on
	Revision       int64            // the revision at which this member wrote the key last; 0: it is not known
}

// Register puts the member's key under a lease, which the caller keeps alive (see package lease). In state Joining the
// member gets no slots, so that nobody's shards move until Activate gives it some. In any other state it gets slots at
// once. The record's Slots are ignored. A *TakenError says that another member has the id; ErrAppGone says that the app
// was deleted; a *SchemaError says that this program may not join the members that there are, or take the app over.
// When several members register at the same moment, Register tries again until ctx ends.
//
// After an error of etcd the member may be registered all the same: calling Register again under the same lease finds
// that out.
func (g *Registrar) Register(ctx context.Context, record Record, lease clientv3.LeaseID) (Registration, error) {
	record.Schema = Schema
	reg := Registration{Record: record, Lease: lease}
	if err := keys.CheckID(g.ID); err != nil {
		return Registration{}, fmt.Errorf("register member: got the id %q, want %w", g.ID, err)
	}
	if record.Weight < 0 || record.Weight > MaxWeight {
		return Registration{}, fmt.Errorf("register member %q: weight %d, want 0 to %d", g.ID, record.Weight, MaxWeight)
	}
	if err := g.until(ctx, g.register, &reg); err != nil {
		return Registration{}, fmt.Errorf("register member %q: %w", g.ID, err)
	}
	return reg, nil
}

// Activate makes a joining or unready member active and gives it slots: first its own from an earlier life, then the
// lowest whose holder is not live, then new ones. All of it is one transaction, so that a join changes the ring once
// and no shard moves twice. ErrGone says that the key no longer belongs to that registration; a *SchemaError that a
// member has come meanwhile beside which this one may not join. After an error of etcd the member may be active all the
// same; calling Activate again does no harm.
func (g *Registrar) Activate(ctx context.Context, reg Registration) (Registration, error) {
	reg.Record.State = Active
	if err := g.until(ctx, g.activate, &reg); err != nil {
		return reg, fmt.Errorf("activate member %q: %w", g.ID, err)
	}
	return reg, nil
}

// TakeSlots gives slots to an unready member that has none, because it became unready while it was joining, and leaves
// it unready. Such a member takes them when unreadiness is ignored (View.UnreadyIgnored), since it owns no shards
// without slots; until then they would only move shards between the other members. It fails as Activate does.
func (g *Registrar) TakeSlots(ctx context.Context, reg Registration) (Registration, error) {
	reg.Record.State = Unready
	if err := g.until(ctx, g.activate, &reg); err != nil {
		return reg, fmt.Errorf("take slots for member %q: %w", g.ID, err)
	}
	return reg, nil
}

// attempt is one try to write a registration. again says that somebody else wrote at the same time, so that another try
// is due.
type attempt func(context.Context, *Registration) (again bool, err error)

// until repeats an attempt until it succeeds or fails. The pauses in between spread members that register at the same
// moment: of those that ask for the same slots, one gets them in each round.
func (g *Registrar) until(ctx context.Context, try attempt, reg *Registration) error {
	pauses := pace.New(20*time.Millisecond, 640*time.Millisecond, 1)
	for {
		again, err := try(ctx, reg)
		if err != nil || !again {
			return err
		}
		if !pauses.Wait(ctx) {
			return context.Cause(ctx)
		}
	}
}

// register puts the key of a member that has no key yet.
func (g *Registrar) register(ctx context.Context, reg *Registration) (again bool, err error) {
	p, err := g.read(ctx)
	if err != nil {
		return false, err
	}
	if kv := p.keys[g.layout().Member(g.ID)]; kv != nil {
		m, understood := p.view.Members[g.ID]
		switch {
		case !understood: // perhaps another version wrote it
			m = Member{ID: g.ID, CreateRevision: kv.CreateRevision, Lease: kv.Lease}
		case kv.Lease == int64(reg.Lease) && m.State == Joining && reg.Record.State != Joining: // see registerInSteps
			reg.CreateRevision = m.CreateRevision
			return g.activate(ctx, reg)
		case kv.Lease == int64(reg.Lease): // the answer to an earlier try was lost
			reg.Record, reg.CreateRevision = m.Record, m.CreateRevision
			return false, nil
		}
		return false, &TakenError{Holder: m}
	}
	if err := p.view.CheckSchema(Schema); err != nil {
		return false, err
	}
	reg.Record.hold(shard.Holding{})
	var cmps []clientv3.Cmp
	var ops []clientv3.Op
	if reg.Record.State != Joining {
		h := g.holding(p, reg)
		cmps, ops = g.reserve(p, h)
		ops = append(ops, g.back(p)...)
		reg.Record.hold(h)
	}
	again, err = g.put(ctx, reg, p, cmps, ops)
	if isTooMany(err) && len(cmps) > 0 {
		return g.registerInSteps(ctx, reg, p)
	}
	return again, err
}

// activate writes the member's key again, with slots.
func (g *Registrar) activate(ctx context.Context, reg *Registration) (again bool, err error) {
	p, err := g.mine(ctx, reg)
	if err != nil {
		return false, err
	}
	if p.view.Members[g.ID].State == Joining {
		if err := p.view.CheckSchema(Schema); err != nil {
			return false, err
		}
	}
	return g.settle(ctx, reg, p)
}

// mine reads the group. ErrGone says that the registration is no longer in force, or that the member leaves: then
// nothing may make it active again, or end its reservation.
func (g *Registrar) mine(ctx context.Context, reg *Registration) (*picture, error) {
	p, err := g.read(ctx)
	if err != nil {
		return nil, err
	}
	kv := p.keys[g.layout().Member(g.ID)]
	if kv == nil || kv.CreateRevision != reg.CreateRevision || p.view.Members[g.ID].State == Leaving {
		return nil, ErrGone
	}
	return p, nil
}

// settle writes the member's key again, with the slots that belong to its weight.
func (g *Registrar) settle(ctx context.Context, reg *Registration, p *picture) (again bool, err error) {
	h := g.holding(p, reg)
	cmps, ops := g.reserve(p, h)
	reg.Record.hold(h)
	again, err = g.put(ctx, reg, p, cmps, append(ops, g.back(p)...))
	if isTooMany(err) {
		return g.activateInSteps(ctx, reg, p)
	}
	return again, err
}

// Weigh gives the member another weight of its own, 0 to MaxWeight, and the slots that belong to that, or to the weight
// that an operator has ordered (View.Weights). What the member keeps stays where it is. A member that needs no slots
// for now (View.NeedsSlots) has those that it had. It fails as Activate does; ErrGone also says that the member leaves.
func (g *Registrar) Weigh(ctx context.Context, reg Registration, weight int) (Registration, error) {
	reg.Record.Weight = weight
	err := g.until(ctx, func(ctx context.Context, reg *Registration) (again bool, err error) {
		p, err := g.mine(ctx, reg)
		if err != nil {
			return false, err
		}
		me := p.view.Members[g.ID]
		if me.HasJoined() {
			reg.Record.State = me.State
		}
		if !p.view.withWeight(g.ID, weight).NeedsSlots(g.ID) {
			return g.put(ctx, reg, p, nil, nil)
		}
		return g.settle(ctx, reg, p)
	}, &reg)
	if err != nil {
		return reg, fmt.Errorf("give member %q the weight %d: %w", g.ID, weight, err)
	}
	return reg, nil
}

// holding returns what the member should hold: as many slots as an operator has ordered, otherwise as its own weight
// says.
func (g *Registrar) holding(p *picture, reg *Registration) shard.Holding {
	return p.view.hold(p.holds, g.ID, p.view.WeightWith(g.ID, reg.Record.Weight))
}

// picture is the group as it was read, with what the comparisons of a transaction need.
type picture struct {
	view *View
	keys map[string]*mvccpb.KeyValue
	live map[string]bool // the ids of all member keys, including those that cannot be read
}

// holds says whether a member's slots are not for others: the member is live, or will be back soon.
func (p *picture) holds(id string) bool {
	_, reserved := p.view.Reservations[id]
	return p.live[id] || reserved
}

// back returns what a transaction must write besides if the member is back from a stop for which it has reserved its
// shards.
func (g *Registrar) back(p *picture) []clientv3.Op {
	if _, reserved := p.view.Reservations[g.ID]; !reserved {
		return nil
	}
	return []clientv3.Op{clientv3.OpDelete(g.layout().Reservation(g.ID))}
}

func (g *Registrar) read(ctx context.Context) (*picture, error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	layout := g.layout()
	resp, err := g.Client.Get(ctx, layout.Group(), clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	p := &picture{
		view: g.Group.View(resp.Kvs, resp.Header.Revision),
		keys: make(map[string]*mvccpb.KeyValue, len(resp.Kvs)), live: map[string]bool{},
	}
	for _, kv := range resp.Kvs {
		p.keys[string(kv.Key)] = kv
		if key := layout.Parse(string(kv.Key)); key.Kind == keys.Member {
			p.live[key.ID] = true
		}
	}
	return p, nil
}

// put writes the member's key. It creates the key, or updates it if the registration has been made already.
func (g *Registrar) put(
	ctx context.Context, reg *Registration, p *picture, cmps []clientv3.Cmp, ops []clientv3.Op,
) (again bool, err error) {
	layout := g.layout()
	me := layout.Member(g.ID)
	// The key must be as it was read, since this member may have begun to leave meanwhile.
	cmps = append(cmps,
		clientv3.Compare(clientv3.CreateRevision(layout.Config()), "=", g.Group.Config), p.unchanged(me))
	// The put names the lease even if the key exists: a put without a lease would detach the key, which then never
	// expires.
	ops = append(ops, clientv3.OpPut(me, reg.Record.Encode(), clientv3.WithLease(reg.Lease)))
	resp, err := g.commit(ctx, cmps, ops)
	if err != nil {
		return false, err
	}
	if resp.Succeeded {
		reg.Revision = resp.Header.Revision
		if reg.CreateRevision == 0 {
			reg.CreateRevision = resp.Header.Revision
		}
		return false, nil
	}
	config := resp.Responses[0].GetResponseRange().Kvs
	if len(config) == 0 || config[0].CreateRevision != g.Group.Config {
		return false, ErrAppGone
	}
	return true, nil
}

// commit sends a transaction that reads the app's config key if a comparison fails.
func (g *Registrar) commit(ctx context.Context, cmps []clientv3.Cmp, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	config := clientv3.OpGet(g.layout().Config(), clientv3.WithKeysOnly())
	resp, err := g.Client.Txn(ctx).If(cmps...).Then(ops...).Else(config).Commit()
	if isTooMany(err) {
		err = txn.NewLimitError(max(len(cmps), len(ops)), err)
	}
	return resp, err
}

// SetState writes the registration's key again with another state, and in the state Unready with the Reason and
// MinReady of the registration's record. It leaves the slots as they are: a joining member becomes active by Activate,
// but it may become unready by SetState, without slots. ErrGone says that the key no longer belongs to that
// registration. After an error of etcd the state may have changed all the same.
func (g *Registrar) SetState(ctx context.Context, reg Registration, state State) (Registration, error) {
	var more []clientv3.Op
	if state == Unready { // the member is back, and cannot work: its shards wait for it no longer
		more = append(more, clientv3.OpDelete(g.layout().Reservation(g.ID)))
	}
	return g.setState(ctx, reg, state, nil, more...)
}

// Leave is SetState with the state Leaving. It also reserves the member's shards until it is back, under a lease which
// the caller does not keep alive: they belong to nobody else before the member is active again, or unready, or that
// lease has ended. The reservation has no effect while an order keeps the member from owning shards.
//
// seen is the revision of the view that says what the member keeps. Where the member has said since that it declines
// shards, nothing is written, and the error is ErrOutdated: others may have taken them over.
func (g *Registrar) Leave(
	ctx context.Context, reg Registration, r Reservation, until clientv3.LeaseID, seen int64,
) (Registration, error) {
	put := clientv3.OpPut(g.layout().Reservation(g.ID), r.Encode(), clientv3.WithLease(until))
	known := clientv3.Compare(clientv3.ModRevision(g.layout().Decline(g.ID)), "<", seen+1)
	return g.setState(ctx, reg, Leaving, []clientv3.Cmp{known}, put)
}

// setState writes the registration's key with another state, and does more in the same transaction if some more holds.
func (g *Registrar) setState(
	ctx context.Context, reg Registration, state State, ifs []clientv3.Cmp, more ...clientv3.Op,
) (Registration, error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	reg.Record.State = state
	me := g.layout().Member(g.ID)
	// The put names the lease again: without it the key would be detached, and a dead member would stay for ever.
	put := clientv3.OpPut(me, reg.Record.Encode(), clientv3.WithLease(reg.Lease))
	resp, err := g.Client.Txn(ctx).
		If(append(ifs, clientv3.Compare(clientv3.CreateRevision(me), "=", reg.CreateRevision))...).
		Then(append(more, put)...).
		Else(clientv3.OpGet(me, clientv3.WithKeysOnly())).
		Commit()
	if err != nil {
		return reg, fmt.Errorf("set state of member %q to %s: %w", g.ID, state, err)
	}
	if !resp.Succeeded {
		failed, kvs := ErrGone, resp.Responses[0].GetResponseRange().Kvs
		if len(kvs) > 0 && kvs[0].CreateRevision == reg.CreateRevision {
			failed = ErrOutdated
		}
		return reg, fmt.Errorf("set state of member %q to %s: %w", g.ID, state, failed)
	}
	reg.Revision = resp.Header.GetRevision()
	return reg, nil
}

// StandForCoordinator tries to make this member the coordinator, under the registration's lease, and reports whether it
// succeeded. It does not succeed while there is another coordinator, or if the registration is no longer in force.
// After an error only the next view tells who the coordinator is.
func (g *Registrar) StandForCoordinator(ctx context.Context, reg Registration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	layout := g.layout()
	key := layout.Coordinator()
	resp, err := g.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0),
			clientv3.Compare(clientv3.CreateRevision(layout.Member(g.ID)), "=", reg.CreateRevision)).
		Then(clientv3.OpPut(key, g.ID, clientv3.WithLease(reg.Lease))).
		Commit()
	if err != nil {
		return false, fmt.Errorf("stand for coordinator: %w", err)
	}
	return resp.Succeeded, nil
}

// KeepOffice repairs the coordinator's key after somebody has overwritten it: it puts the key as this member put it
// when its term began. The term, which is the key's create revision, stays the same. ErrGone says that the key no
// longer belongs to that term.
func (g *Registrar) KeepOffice(ctx context.Context, reg Registration, createRevision int64) error {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	key := g.layout().Coordinator()
	resp, err := g.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", createRevision)).
		Then(clientv3.OpPut(key, g.ID, clientv3.WithLease(reg.Lease))).
		Commit()
	if err != nil {
		return fmt.Errorf("keep the coordinator's office: %w", err)
	}
	if !resp.Succeeded {
		return fmt.Errorf("keep the coordinator's office: %w", ErrGone)
	}
	return nil
}

// Resign deletes the coordinator's key if it still has that create revision. The key of another term stays.
func (g *Registrar) Resign(ctx context.Context, createRevision int64) error {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	key := g.layout().Coordinator()
	_, err := g.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", createRevision)).
		Then(clientv3.OpDelete(key)).
		Commit()
	if err != nil {
		return fmt.Errorf("resign as coordinator: %w", err)
	}
	return nil
}
