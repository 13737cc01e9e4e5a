package membership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// Errors of a registration.
var (
	// ErrTaken says that a live member has the id. It is wrapped in a *TakenError.
	ErrTaken = errors.New("member id is taken")
	// ErrGone says that the member's key is not there any more, or is another registration's.
	ErrGone = errors.New("member key is gone")
	// ErrAppGone says that the app's config key is not the one that was given.
	ErrAppGone = errors.New("app config key is gone")
)

// maxCompares is etcd's default limit for one transaction.
const maxCompares = 128

// TakenError says who has an id. Of a holder whose key is not understood, only the id, revision and lease are known.
type TakenError struct{ Holder Member }

func (e *TakenError) Error() string { return fmt.Sprintf("member id %q is taken", e.Holder.ID) }

// Unwrap makes errors.Is(err, ErrTaken) hold.
func (e *TakenError) Unwrap() error { return ErrTaken }

// Registrar registers one member. Its fields are all required and do not change; it is safe for concurrent use.
type Registrar struct {
	Client  clientv3.KV
	Layout  keys.Layout
	Shards  int
	Config  int64 // the create revision of the app's config key
	ID      string
	Timeout time.Duration // of each request
}

// Registration is a member's key as it was put last.
type Registration struct {
	Record         Record
	CreateRevision int64 // tells this registration from an earlier or later one of the same id
	Lease          clientv3.LeaseID
}

// Register puts the member's key under a lease, with slots: its own from an earlier life first, then the lowest whose
// reserver is not live, then new ones. The record's Slots are ignored. A *TakenError says that the id is in use;
// ErrAppGone that the app is not what it was. Where members register at the same moment, it tries again until ctx ends.
//
// After an error of etcd the member may be registered nevertheless: another Register under the same lease finds that out.
func (g *Registrar) Register(ctx context.Context, record Record, lease clientv3.LeaseID) (Registration, error) {
	if record.Weight < 1 || record.Weight > MaxWeight {
		return Registration{}, fmt.Errorf("register member %q: weight %d, want 1 to %d", g.ID, record.Weight, MaxWeight)
	}
	for tries := 1; ; tries++ {
		reg, again, err := g.try(ctx, record, lease)
		if err == nil && again {
			err = pause(ctx, tries)
		}
		if err != nil {
			return Registration{}, fmt.Errorf("register member %q: %w", g.ID, err)
		}
		if !again {
			return reg, nil
		}
	}
}

// pause spreads members that register at the same moment: of those that ask for the same slots, one a round gets them.
func pause(ctx context.Context, tries int) error {
	t := time.NewTimer(rand.N(10 * time.Millisecond << min(tries, 6)))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

func (g *Registrar) try(ctx context.Context, record Record, lease clientv3.LeaseID) (reg Registration, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	resp, err := g.Client.Get(ctx, g.Layout.Group(), clientv3.WithPrefix())
	if err != nil {
		return reg, false, err
	}
	view := NewView(g.Layout, g.Shards, resp.Kvs, resp.Header.Revision)
	modified := make(map[string]int64, len(resp.Kvs))
	live := map[string]bool{} // by their keys, understood or not
	for _, kv := range resp.Kvs {
		modified[string(kv.Key)] = kv.ModRevision
		key := g.Layout.Parse(string(kv.Key))
		if key.Kind != keys.Member {
			continue
		}
		live[key.ID] = true
		if key.ID != g.ID {
			continue
		}
		m, understood := view.Members[g.ID]
		switch {
		case !understood: // another version's, perhaps
			m = Member{ID: g.ID, CreateRevision: kv.CreateRevision, Lease: kv.Lease}
		case kv.Lease == int64(lease): // the answer to an earlier try was lost
			return Registration{Record: m.Record, CreateRevision: m.CreateRevision, Lease: lease}, false, nil
		}
		return reg, false, &TakenError{Holder: m}
	}
	record.Slots = shard.Reserve(view.Slots, func(id string) bool { return live[id] }, g.ID, record.Weight)
	me := g.Layout.Member(g.ID)
	// Two newcomers may have read the same slots: the compare of each slot's revision lets one of them through. The
	// reserver of a slot that is taken over may have come back since: then its key is there.
	cmps := []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(g.Layout.Config()), "=", g.Config),
		clientv3.Compare(clientv3.CreateRevision(me), "=", 0),
	}
	ops := []clientv3.Op{clientv3.OpPut(me, record.encode(), clientv3.WithLease(lease))}
	absent := map[string]bool{g.ID: true}
	for _, n := range record.Slots {
		slot, reserver := g.Layout.Slot(n), ""
		if n < len(view.Slots) {
			reserver = view.Slots[n]
		}
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(slot), "=", modified[slot]))
		if reserver != "" && !absent[reserver] {
			absent[reserver] = true
			cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(g.Layout.Member(reserver)), "=", 0))
		}
		if reserver != g.ID {
			ops = append(ops, clientv3.OpPut(slot, g.ID))
		}
	}
	for n, reserver := range view.Slots { // slots of an earlier life with a greater weight; free, so that n never falls
		if reserver == g.ID && !slices.Contains(record.Slots, n) && len(cmps) < maxCompares {
			slot := g.Layout.Slot(n)
			cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(slot), "=", modified[slot]))
			ops = append(ops, clientv3.OpPut(slot, ""))
		}
	}
	txn, err := g.Client.Txn(ctx).If(cmps...).Then(ops...).Else(clientv3.OpGet(g.Layout.Config(), clientv3.WithKeysOnly())).Commit()
	if err != nil {
		return reg, false, err
	}
	if txn.Succeeded {
		return Registration{Record: record, CreateRevision: txn.Header.Revision, Lease: lease}, false, nil
	}
	config := txn.Responses[0].GetResponseRange().Kvs
	if len(config) == 0 || config[0].CreateRevision != g.Config {
		return reg, false, ErrAppGone
	}
	return reg, true, nil
}

// SetState rewrites the state of a registration. ErrGone says that the key is not that registration's any more.
func (g *Registrar) SetState(ctx context.Context, reg Registration, state State) (Registration, error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	reg.Record.State = state
	me := g.Layout.Member(g.ID)
	// The put carries the lease again: one without it would detach the key, and a dead member would stay for ever.
	txn, err := g.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(me), "=", reg.CreateRevision)).
		Then(clientv3.OpPut(me, reg.Record.encode(), clientv3.WithLease(reg.Lease))).
		Commit()
	if err != nil {
		return reg, fmt.Errorf("set state of member %q to %s: %w", g.ID, state, err)
	}
	if !txn.Succeeded {
		return reg, fmt.Errorf("set state of member %q to %s: %w", g.ID, state, ErrGone)
	}
	return reg, nil
}

// StandForCoordinator tries to become the coordinator under the registration's lease, and reports whether it did. The
// view's next change tells everyone; after an error, it alone tells. A registration that is not in force does not win.
func (g *Registrar) StandForCoordinator(ctx context.Context, reg Registration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	key := g.Layout.Coordinator()
	txn, err := g.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0),
			clientv3.Compare(clientv3.CreateRevision(g.Layout.Member(g.ID)), "=", reg.CreateRevision)).
		Then(clientv3.OpPut(key, g.ID, clientv3.WithLease(reg.Lease))).
		Commit()
	if err != nil {
		return false, fmt.Errorf("stand for coordinator: %w", err)
	}
	return txn.Succeeded, nil
}

// KeepOffice puts the coordinator key of a term as it was when this member won it, after somebody has overwritten it: the
// term, which is the key's create revision, stays what it was. ErrGone says that the key is not that term's any more.
func (g *Registrar) KeepOffice(ctx context.Context, reg Registration, createRevision int64) error {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	key := g.Layout.Coordinator()
	txn, err := g.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", createRevision)).
		Then(clientv3.OpPut(key, g.ID, clientv3.WithLease(reg.Lease))).
		Commit()
	if err != nil {
		return fmt.Errorf("keep the coordinator's office: %w", err)
	}
	if !txn.Succeeded {
		return fmt.Errorf("keep the coordinator's office: %w", ErrGone)
	}
	return nil
}

// Resign deletes the coordinator key if it is still the one with that create revision; another's stays.
func (g *Registrar) Resign(ctx context.Context, createRevision int64) error {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	key := g.Layout.Coordinator()
	_, err := g.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", createRevision)).
		Then(clientv3.OpDelete(key)).
		Commit()
	if err != nil {
		return fmt.Errorf("resign as coordinator: %w", err)
	}
	return nil
}
