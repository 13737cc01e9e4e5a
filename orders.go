package drm

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// order is one that stands.
type order struct {
	key      string
	revision int64 // at which it was given; 0: there is none
	accept   record.AcceptOrder
}

// orders are those of operators to the coordinator, as far as etcd has told.
type orders struct {
	layout  keys.Layout
	created int64         // the revision that the app was created at: orders from before are of another app
	news    chan struct{} // holds a token when there is something new
	refetch func()        // is called with each new order to ask the source, and must not wait

	mu    sync.Mutex
	stand map[keys.Kind]order
}

func newOrders(layout keys.Layout, created int64, refetch func()) *orders {
	return &orders{layout: layout, created: created, refetch: refetch, news: make(chan struct{}, 1), stand: map[keys.Kind]order{}}
}

// Reset is a follow.Sink's.
func (o *orders) Reset(kvs []*mvccpb.KeyValue, _ int64) {
	o.mu.Lock()
	before := o.stand
	o.stand = map[keys.Kind]order{}
	for _, kv := range kvs {
		o.putLocked(kv)
	}
	again := o.stand[keys.FetchOrder].revision <= before[keys.FetchOrder].revision
	o.mu.Unlock()
	if !again {
		o.refetch()
	}
	o.tell()
}

// Apply is a follow.Sink's.
func (o *orders) Apply(events []*clientv3.Event, _ int64) {
	o.mu.Lock()
	before := o.stand[keys.FetchOrder].revision
	for _, ev := range events {
		if ev.Type == clientv3.EventTypeDelete {
			delete(o.stand, o.layout.Parse(string(ev.Kv.Key)).Kind)
		} else {
			o.putLocked(ev.Kv)
		}
	}
	again := o.stand[keys.FetchOrder].revision <= before
	o.mu.Unlock()
	if !again {
		o.refetch()
	}
	o.tell()
}

// putLocked takes note of a key. One that is not understood is no order, and is left alone. o.mu is held.
func (o *orders) putLocked(kv *mvccpb.KeyValue) {
	kind := o.layout.Parse(string(kv.Key)).Kind
	one := order{key: string(kv.Key), revision: kv.ModRevision}
	delete(o.stand, kind)
	if kv.ModRevision < o.created {
		return
	}
	switch kind {
	case keys.FetchOrder:
	case keys.AcceptOrder:
		var err error
		if one.accept, err = record.DecodeAccept(kv.Value); err != nil {
			return
		}
	default:
		return
	}
	o.stand[kind] = one
}

func (o *orders) tell() {
	select {
	case o.news <- struct{}{}:
	default:
	}
}

func (o *orders) get(kind keys.Kind) order {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stand[kind]
}

// obey carries out the orders that stand, as far as that can be done now. False says that etcd failed, and that it should be
// called again; it is called again after each round of fetches, too.
func (o *office) obey(ctx context.Context) (ok bool) {
	err := errors.Join(o.obeyAccept(ctx), o.obeyFetch(ctx))
	if err == nil || isEndOfTerm(err) || ctx.Err() != nil { // the view will tell
		return true
	}
	o.m.log.Warn("cannot carry out an operator's order; trying again", zap.Error(err))
	return false
}

// obeyFetch takes an order to ask the source back once an attempt that began after it is recorded.
func (o *office) obeyFetch(ctx context.Context) error {
	if fetch := o.orders.get(keys.FetchOrder); fetch.revision > 0 && o.recorded >= fetch.revision {
		o.m.log.Info("the source was asked, as an operator has ordered")
		return o.takeBack(ctx, fetch)
	}
	return nil
}

// obeyAccept makes the removals that an operator has accepted, or refuses to.
func (o *office) obeyAccept(ctx context.Context) error {
	accept := o.orders.get(keys.AcceptOrder)
	switch {
	case accept.revision == 0:
		return nil
	case o.record.Accepted.Revision >= accept.revision: // done, and perhaps not recorded
	case !o.sync.Answered():
		if o.askedFor < accept.revision {
			o.m.log.Info("an operator accepts removals; asking the source what it lacks")
			o.askedFor = accept.revision
			o.refetch()
		}
		return nil
	default:
		if err := o.accept(ctx, accept); err != nil {
			return err
		}
	}
	if o.unrecorded {
		if err := o.writeRecord(ctx); err != nil {
			return err
		}
		o.unrecorded = false
	}
	return o.takeBack(ctx, accept)
}

// accept carries out an order and takes down what came of it.
func (o *office) accept(ctx context.Context, order order) error {
	accepted := record.Accepted{Revision: order.revision}
	out, err := o.sync.Accept(ctx, order.accept.Digest)
	switch {
	case errors.Is(err, catalogue.ErrOtherSet):
		accepted.Error = "what is held is not what was accepted any more"
		if o.record.Held == 0 {
			accepted.Error = "no removals are held any more"
		}
		o.m.log.Warn("an operator's order to accept removals is refused", zap.String("reason", accepted.Error), zap.Int("held", o.record.Held))
	case err != nil:
		o.accepted += out.Removed
		return fmt.Errorf("remove what was accepted: %w", err)
	default:
		accepted.Removed = o.accepted + out.Removed
		o.record.LastChange = record.Change{At: o.m.wall().UTC(), Removed: accepted.Removed}
		o.m.log.Warn("removed what the source lacks and an operator has accepted", zap.Int("removed", accepted.Removed),
			zap.Strings("first", firstFew(out.Gone)))
	}
	o.accepted = 0
	o.record.Accepted, o.unrecorded = accepted, true
	o.recordHeld()
	o.tellHeld()
	return nil
}

// takeBack deletes an order that has been dealt with, unless it was given anew.
func (o *office) takeBack(ctx context.Context, order order) error {
	ctx, cancel := context.WithTimeout(ctx, o.m.cfg.Etcd.CommandTimeout)
	defer cancel()
	unchanged := clientv3.Compare(clientv3.ModRevision(order.key), "=", order.revision) // or it was given anew, which is heard of
	if _, err := o.m.kv.Txn(ctx).If(unchanged).Then(clientv3.OpDelete(order.key)).Commit(); err != nil {
		return fmt.Errorf("take back the order %q: %w", order.key, err)
	}
	return nil
}
