package foresight

import (
	"context"
	"errors"
	"maps"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/membership"
)

// act lets each member do what the last view asks of it. It reports whether any of them has written something.
func (w *world) act(ctx context.Context) (wrote bool, err error) {
	before := w.store.revision
	for _, id := range slices.Sorted(maps.Keys(w.view.Members)) {
		if err := w.heed(ctx, w.view.Members[id]); err != nil && !errors.Is(err, membership.ErrGone) {
			return false, err
		}
	}
	w.look()
	if err := w.coordinate(ctx); err != nil {
		return false, err
	}
	return w.store.revision != before, nil
}

// heed is the next step of one member: it joins, stops, or takes the slots of its weight.
func (w *world) heed(ctx context.Context, m membership.Member) (err error) {
	v, reg := w.view, registrationOf(m)
	weight := v.WeightOf(m.ID)
	switch {
	case m.State == membership.Leaving:
		w.store.end(m.Lease)
	case m.State == membership.Joining && placement.MayJoin(v, m.ID):
		_, err = w.registrar(m.ID).Activate(ctx, reg)
	case !m.HasJoined():
	case m.Leaves:
		if placement.MayStop(v, m.ID) {
			_, err = w.registrar(m.ID).SetState(ctx, reg, membership.Leaving)
		}
	case m.State == membership.Unready && m.Holds() == 0 && v.UnreadyIgnored() && weight > 0:
		_, err = w.registrar(m.ID).TakeSlots(ctx, reg)
	case m.Schema >= membership.Schema && weight != 0 && v.NeedsSlots(m.ID) && m.Holds() != weight:
		_, err = w.registrar(m.ID).Weigh(ctx, reg, m.Weight)
	}
	return err
}

// coordinate fills the office if it is free, and begins the term of whoever has it.
func (w *world) coordinate(ctx context.Context) error {
	if w.view.Coordinator.CreateRevision == 0 {
		id := w.successor()
		if id == "" {
			w.term, w.publisher = 0, nil
			return nil
		}
		if _, err := w.registrar(id).StandForCoordinator(ctx, registrationOf(w.view.Members[id])); err != nil {
			return err
		}
		w.look()
	}
	number := w.view.Coordinator.CreateRevision
	if number == w.term {
		return nil
	}
	w.term, w.publisher, w.seen = number, nil, 0
	if w.view.HasGuide() { // otherwise its member is gone, or too old to place anything
		w.publisher = w.newPublisher(w.view.Coordinator.ID, number)
		w.see()
		for id, s := range w.loads {
			if w.store.kvs[w.in.Layout.Load(id)] != nil { // it has not died
				w.publisher.Take(id, s.loads, s.revision)
			}
		}
	}
	return nil
}

// successor returns the member that takes a free office; "" if there is none.
func (w *world) successor() string {
	var joined []string
	for id, m := range w.view.Members {
		if m.HasJoined() && !m.Leaves {
			joined = append(joined, id)
		}
	}
	slices.Sort(joined)
	for _, id := range joined {
		if (w.view.Members[id].Source || !w.view.SourceWanted(id)) && !w.view.BetterCoordinator(id) {
			return id
		}
	}
	if len(joined) == 0 {
		return ""
	}
	return joined[0]
}

// report lets the members say what their shards weigh, those that have something else to say than before. By then they
// handle what they own.
func (w *world) report(ctx context.Context) (wrote bool, err error) {
	owned := map[string]map[int]int64{}
	for n, id := range w.view.Owners() {
		if owned[id] == nil {
			owned[id] = map[int]int64{}
		}
		if w.load[n] > 0 {
			owned[id][n] = w.load[n]
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.view.Members)) {
		m := w.view.Members[id]
		if !m.HasJoined() || m.Schema < membership.Schema {
			continue
		}
		loads := claims.Loads{Shards: owned[id]}
		said := string(loads.Encode())
		if last, told := w.said[id]; told && last == said {
			continue
		}
		loads.Seen = w.view.Revision
		resp, err := w.client.Put(ctx, w.in.Layout.Load(id), string(loads.Encode()),
			clientv3.WithLease(clientv3.LeaseID(m.Lease)))
		if err != nil {
			return wrote, err
		}
		w.said[id], wrote = said, true
		w.loads[id] = saying{loads, resp.Header.Revision}
		if w.publisher != nil {
			w.publisher.Take(id, loads, resp.Header.Revision)
		}
	}
	return wrote, nil
}
