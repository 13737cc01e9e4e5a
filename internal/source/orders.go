package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// order is an order of an operator that is not carried out yet.
type order struct {
	key      string
	revision int64 // the revision at which it was given; 0: there is no order
	accept   record.AcceptOrder
}

// orders follows the orders that operators give to the coordinator. Any goroutine may call its methods.
type orders struct {
	layout  keys.Layout
	created int64         // the create revision of the app; earlier orders are for another app
	news    chan struct{} // holds a token when orders may have changed
	refetch func()        // called for each new order to ask the source; must not block

	mu    sync.Mutex
	stand map[keys.Kind]order
}

func newOrders(layout keys.Layout, created int64, refetch func()) *orders {
	return &orders{
		layout: layout, created: created, refetch: refetch,
		news: make(chan struct{}, 1), stand: map[keys.Kind]order{},
	}
}

// Reset implements follow.Sink.
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

// Apply implements follow.Sink.
func (o *orders) Apply(events []*clientv3.Event, _ int64) {
	deed := func(ev *clientv3.Event) bool { return o.layout.Parse(string(ev.Kv.Key)).Kind == keys.Deed }
	if events = slices.DeleteFunc(slices.Clone(events), deed); len(events) == 0 {
		return // of many allocations there are very many
	}
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

// putLocked takes note of a key. It ignores a key that cannot be decoded. The caller holds o.mu.
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

// obey carries out the orders, as far as that can be done now. It is called after each round of fetches, and when there
// is a new order. It returns false if etcd failed, so that it must be called again.
func (t *Term) obey(ctx context.Context) (ok bool) {
	err := errors.Join(t.obeyAccept(ctx), t.obeyFetch(ctx))
	if err == nil || isEndOfTerm(err) || ctx.Err() != nil { // the next view ends the term
		return true
	}
	t.o.Log.Warn("cannot carry out an operator's order; retrying", zap.Error(err))
	return false
}

// obeyFetch deletes an order to ask the source, once an attempt is recorded that began after the order.
func (t *Term) obeyFetch(ctx context.Context) error {
	if fetch := t.orders.get(keys.FetchOrder); fetch.revision > 0 && t.recorded >= fetch.revision {
		t.o.Log.Info("the source was asked, as an operator has ordered")
		return t.takeBack(ctx, fetch)
	}
	return nil
}

// obeyAccept makes the removals that an operator has accepted, or refuses to.
func (t *Term) obeyAccept(ctx context.Context) error {
	accept := t.orders.get(keys.AcceptOrder)
	switch {
	case accept.revision == 0:
		return nil
	case t.record.Accepted.Revision >= accept.revision: // carried out, but perhaps not recorded
	case !t.sync.Answered():
		if t.askedFor < accept.revision {
			t.o.Log.Info("an operator accepts removals; asking the source first")
			t.askedFor = accept.revision
			t.refetch()
		}
		return nil
	default:
		if err := t.accept(ctx, accept); err != nil {
			return err
		}
	}
	if t.unrecorded {
		if err := t.writeRecord(ctx); err != nil {
			return err
		}
		t.unrecorded = false
	}
	return t.takeBack(ctx, accept)
}

// accept carries out an order to accept removals, and writes the outcome into t.record.
func (t *Term) accept(ctx context.Context, order order) error {
	accepted := record.Accepted{Revision: order.revision}
	out, err := t.sync.Accept(ctx, order.accept.Digest)
	switch {
	case errors.Is(err, catalogue.ErrOtherSet):
		accepted.Error = "what is held is not what was accepted any more"
		if t.record.Held == 0 {
			accepted.Error = "no removals are held any more"
		}
		t.o.Log.Warn("an operator's order to accept removals is refused",
			zap.String("reason", accepted.Error), zap.Int("held", t.record.Held))
	case err != nil:
		t.accepted += out.Removed
		return fmt.Errorf("remove what was accepted: %w", err)
	default:
		accepted.Removed = t.accepted + out.Removed
		t.record.LastChange = record.Change{At: t.o.Wall().UTC(), Removed: accepted.Removed}
		t.o.Log.Warn("made the removals that an operator has accepted",
			zap.Int("removed", accepted.Removed), zap.Strings("first", firstFew(out.Gone)))
	}
	t.accepted = 0
	t.record.Accepted, t.unrecorded = accepted, true
	t.recordHeld()
	t.tellHeld()
	return nil
}

// takeBack deletes an order that has been carried out or refused, unless it was given again since: the watch shows
// that.
func (t *Term) takeBack(ctx context.Context, order order) error {
	ctx, cancel := context.WithTimeout(ctx, t.o.CommandTimeout)
	defer cancel()
	unchanged := clientv3.Compare(clientv3.ModRevision(order.key), "=", order.revision)
	if _, err := t.o.KV.Txn(ctx).If(unchanged).Then(clientv3.OpDelete(order.key)).Commit(); err != nil {
		return fmt.Errorf("delete the order %q: %w", order.key, err)
	}
	return nil
}
