package order

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// An order may be for a group as somebody has seen it, at a revision. Then it is refused where the group has changed
// since. What counts are the members, their slots and reservations, the orders about them, and where shards are placed:
// from that follows who owns what. Which shards a full member declines, what is prepared, which resources were moved by
// themselves, and who coordinates do not count, since they change often, and without a change of plans.

// ErrChanged says that the group is not as it was at Options.IfRevision. It is wrapped in a text that says what has
// changed.
var ErrChanged = errors.New("the group has changed since")

// counts says whether a change of such a key is a change of the group.
func counts(k keys.Kind) bool {
	switch k {
	case keys.Member, keys.Slot, keys.Block, keys.Reservation, keys.Drain, keys.Cordon, keys.Weight, keys.Pin,
		keys.Placement, keys.Exception:
		return true
	default:
		return false
	}
}

// unchanged returns ErrChanged where a view is not as the group was at a revision, and otherwise the comparisons that
// it is still so when an order is written. A comparison sees what was written after the view, but not what was deleted:
// for example, a member may die in that moment. That would make no difference had it died a moment later, when the
// order had been written.
func (d *Desk) unchanged(ctx context.Context, v *membership.View, since int64) ([]clientv3.Cmp, error) {
	if since == 0 {
		return nil, nil
	}
	then, err := d.Reader.GroupAt(ctx, since)
	if err != nil {
		return nil, err
	}
	now, err := d.Reader.GroupAt(ctx, v.Revision)
	if err != nil {
		return nil, err
	}
	if what := d.difference(then, now); what != "" {
		return nil, fmt.Errorf("%w revision %d: %s; look at a new plan, and give its revision", ErrChanged, since, what)
	}
	l := d.Reader.Layout
	var all []clientv3.Cmp
	for _, span := range []struct{ from, to string }{
		{l.Blocks(), clientv3.GetPrefixRangeEnd(l.Blocks())},
		{l.Cordon(""), clientv3.GetPrefixRangeEnd(l.Cordon(""))},
		{l.Drains(), clientv3.GetPrefixRangeEnd(l.Members())}, // nothing else is between the two
		{l.Pins(), l.Prepared("")},                            // the pins and the placement
		{l.Reservations(), clientv3.GetPrefixRangeEnd(l.Reservations())},
		{l.Slots(), clientv3.GetPrefixRangeEnd(l.Weights())},
	} {
		all = append(all, clientv3.Compare(clientv3.ModRevision(span.from), "<", v.Revision+1).WithRange(span.to))
	}
	return all, nil
}

// Unchanged returns an error that matches ErrChanged where the group is not as it was at a revision.
func (d *Desk) Unchanged(ctx context.Context, since int64) error {
	v, err := d.Reader.Group(ctx)
	if err == nil {
		_, err = d.unchanged(ctx, v, since)
	}
	return err
}

// difference describes a key that counts, and differs between two moments; "" if there is none.
func (d *Desk) difference(then, now []*mvccpb.KeyValue) string {
	of := func(kvs []*mvccpb.KeyValue) map[string]int64 {
		all := map[string]int64{}
		for _, kv := range kvs {
			if counts(d.Reader.Layout.Parse(string(kv.Key)).Kind) {
				all[string(kv.Key)] = kv.ModRevision
			}
		}
		return all
	}
	was, is := of(then), of(now)
	for _, key := range slices.Sorted(maps.Keys(is)) {
		before, known := was[key]
		delete(was, key)
		switch {
		case !known:
			return d.describe(key) + " is new"
		case before != is[key]:
			return d.describe(key) + " is another one"
		}
	}
	for _, key := range slices.Sorted(maps.Keys(was)) {
		return d.describe(key) + " is gone"
	}
	return ""
}

// describe names what a key is about.
func (d *Desk) describe(key string) string {
	k := d.Reader.Layout.Parse(key)
	switch k.Kind {
	case keys.Member:
		return fmt.Sprintf("the key of member %q", k.ID)
	case keys.Reservation:
		return fmt.Sprintf("the reservation of member %q", k.ID)
	case keys.Drain:
		return fmt.Sprintf("the drain of member %q", k.ID)
	case keys.Cordon:
		return fmt.Sprintf("the cordon of member %q", k.ID)
	case keys.Weight:
		return fmt.Sprintf("the weight ordered for member %q", k.ID)
	case keys.Pin:
		return fmt.Sprintf("the pin of shard %d", k.Number)
	case keys.Exception:
		return fmt.Sprintf("the placement of shard %d", k.Number)
	case keys.Slot, keys.Block:
		return fmt.Sprintf("the reservation of slot %d", k.Number)
	default:
		return "the placement"
	}
}

// tooMany explains that etcd takes too few operations in a transaction for what an order compares.
func tooMany(err error, since int64) error {
	if since == 0 || !errors.Is(err, rpctypes.ErrTooManyOps) {
		return err
	}
	return fmt.Errorf("etcd takes too few operations in a transaction (--max-txn-ops) to compare a revision: %w", err)
}
