package foresight

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
)

// Kind says what happens to a group.
type Kind string

// The kinds of changes. Those that an operator orders are refused where the order would be.
const (
	Die         Kind = "die"          // the member ends without notice, and its lease with it
	DieLabelled Kind = "die-labelled" // so do all members with a label, at the same moment
	Stop        Kind = "stop"         // the member stops in order, for good
	Join        Kind = "join"         // a member joins, or comes back
	Weigh       Kind = "weigh"        // the order that the member have a weight
	Unweigh     Kind = "unweigh"      // the end of that order
	Drain       Kind = "drain"        // the order that the member hold nothing
	Undrain     Kind = "undrain"      // the end of that order
	Cordon      Kind = "cordon"       // the order that the member take nothing new
	Uncordon    Kind = "uncordon"     // the end of that order
	Move        Kind = "move"         // the order that the shard belong to the member now
	Pin         Kind = "pin"          // the order that the shard belong to the member for good
	Unpin       Kind = "unpin"        // the end of that order
	Rebalance   Kind = "rebalance"    // the order to even the load out now
)

// Change is one thing that happens to a group.
type Change struct {
	Kind   Kind
	Member string        // of all kinds but DieLabelled, Unpin and Rebalance
	Weight int           // of Join: the member's own; of Weigh
	Shard  int           // of Move, Pin and Unpin
	Label  string        // of DieLabelled
	Value  string        // of DieLabelled: what Label has to be
	Order  order.Options // of what an operator orders
}

// String says what happens, for errors.
func (c Change) String() string {
	switch c.Kind {
	case Die:
		return fmt.Sprintf("the end of member %q", c.Member)
	case DieLabelled:
		return fmt.Sprintf("the end of all members with the label %s=%s", c.Label, c.Value)
	case Move, Pin, Unpin:
		return fmt.Sprintf("%s shard %d", c.Kind, c.Shard)
	case Rebalance:
		return string(c.Kind)
	default:
		return fmt.Sprintf("%s member %q", c.Kind, c.Member)
	}
}

// apply makes a change happen. picture.ErrNotFound says that there is no such member.
func (w *world) apply(ctx context.Context, c Change) (err error) {
	if c.Kind != Die { // many may die, and each of them is there or not
		w.look()
	}
	d, m := w.desk, c.Member
	switch c.Kind {
	case Die:
		err = w.die(func(id string) bool { return id == m }, "it does not live")
	case DieLabelled:
		labelled := func(id string) bool {
			value, has := w.view.Members[id].Labels[c.Label]
			return has && value == c.Value
		}
		err = w.die(labelled, "no live member has it; "+w.labels())
	case Stop:
		err = w.stop(ctx, m)
	case Join:
		err = w.join(ctx, m, c.Weight)
	case Weigh:
		err = d.Weigh(ctx, m, c.Weight, c.Order)
	case Unweigh:
		err = d.Unweigh(ctx, m)
	case Drain:
		err = d.Drain(ctx, m, c.Order)
	case Undrain:
		err = d.Undrain(ctx, m)
	case Cordon:
		err = d.Cordon(ctx, m, c.Order)
	case Uncordon:
		err = d.Uncordon(ctx, m)
	case Move:
		_, err = d.Move(ctx, c.Shard, m, c.Order)
	case Pin:
		err = d.Pin(ctx, c.Shard, m, c.Order)
	case Unpin:
		_, err = d.Unpin(ctx, c.Shard)
	case Rebalance:
		if _, err = d.Rebalance(ctx, c.Order); err == nil && w.publisher != nil {
			err = w.publisher.Hasten(ctx)
		}
	default:
		return fmt.Errorf("foresight: there is no change %q", c.Kind)
	}
	return err
}

// labels says which labels live members have: no list of members shows them.
func (w *world) labels() string {
	all := map[string]bool{}
	for _, m := range w.view.Members {
		for name, value := range m.Labels {
			all[name+"="+value] = true
		}
	}
	if len(all) == 0 {
		return "none has any (drmctl agent --label)"
	}
	some := slices.Sorted(maps.Keys(all))
	if len(some) > mostLabels {
		some = append(some[:mostLabels], "…")
	}
	return "what they have is " + strings.Join(some, ", ")
}

// mostLabels bounds how many labels an error names.
const mostLabels = 20

// die ends the leases of the live members that a function picks, all at one moment.
func (w *world) die(which func(id string) bool, none string) error {
	var leases []int64
	for _, id := range slices.Sorted(maps.Keys(w.view.Members)) {
		if which(id) {
			leases = append(leases, w.view.Members[id].Lease)
		}
	}
	if len(leases) == 0 {
		return fmt.Errorf("%w: %s", picture.ErrNotFound, none)
	}
	w.store.end(leases...)
	return nil
}

// stop lets a member tell the others that it is about to stop, as far as that makes a difference.
func (w *world) stop(ctx context.Context, id string) error {
	m, live := w.view.Members[id]
	switch {
	case !live:
		return fmt.Errorf("%w: it does not live", picture.ErrNotFound)
	case m.State == membership.Leaving || m.Leaves:
		return nil
	}
	reg, to := registrationOf(m), membership.Leaving
	if m.HasJoined() && w.view.HasGuide() && !w.view.Alone(id) {
		reg.Record.Leaves, to = true, m.State
	}
	_, err := w.registrar(id).SetState(ctx, reg, to)
	return err
}

// join registers a member that is about to join. It has the version of the member that came last, so that it is no
// deployment of another one.
func (w *world) join(ctx context.Context, id string, weight int) error {
	if m, live := w.view.Members[id]; live {
		return &membership.TakenError{Holder: m}
	}
	record := membership.Record{State: membership.Joining, Weight: weight, Started: w.wall(), Source: true}
	last := int64(0)
	for _, m := range w.view.Members {
		if m.CreateRevision > last {
			record.Version, last = m.Version, m.CreateRevision
		}
	}
	_, err := w.registrar(id).Register(ctx, record, clientv3.LeaseID(w.store.grant()))
	return err
}

func (w *world) registrar(id string) *membership.Registrar {
	return &membership.Registrar{Client: w.client, Group: w.group, ID: id, Timeout: patience}
}

func registrationOf(m membership.Member) membership.Registration {
	return membership.Registration{
		Record: m.Record, CreateRevision: m.CreateRevision, Lease: clientv3.LeaseID(m.Lease), Revision: m.ModRevision,
	}
}
