package order

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
)

// Weigh orders that a member have a certain weight, 0 to membership.MaxWeight, whatever it says itself, until Unweigh.
// To order the weight that it has by order already changes what the options say.
//
// Errors: picture.ErrNotFound, ErrLastMember of weight 0, appconfig.ErrGone, and those of a Reader.
func (d *Desk) Weigh(ctx context.Context, member string, weight int, o Options) error {
	layout := d.Reader.Layout
	return d.change(ctx, layout.Weight(member), o.IfRevision, func(v *membership.View) (change, error) {
		w, stands := v.Weights[member]
		same := stands && w.Weight == weight
		if same && o.Why == "" && (!o.AtOnce || w.Keeps == nil) {
			return change{none: true}, nil
		}
		last := v.LastToTake(member)
		switch {
		case !stands && !o.Absent && !v.Known(member):
			return change{}, picture.ErrNotFound
		case !same && weight == 0 && !o.Force && last:
			return change{}, lastMember(v, member)
		}
		since, by, why := w.Since, w.By, w.Why
		if w.Order = o.order(d.now()); same {
			w.Since = since
			if o.Why == "" {
				w.By, w.Why = by, why
			}
		} else {
			w.Weight, w.Keeps = weight, nil
			if weight == 0 && !last { // a coordinator places these elsewhere, a few at a time
				w.Keeps = v.Owned(member)
			}
		}
		if o.AtOnce {
			w.Keeps = nil
		}
		c := change{value: w.Encode()}
		if weight == 0 && !o.Force {
			c.only, c.covered, c.seen = d.noOtherLeaves(v), true, v.Weights[member].ModRevision
		}
		return c, nil
	})
}

// Unweigh takes an order of Weigh back. It returns picture.ErrNotFound where there is neither such an order nor such a
// member.
func (d *Desk) Unweigh(ctx context.Context, member string) error {
	return d.change(ctx, d.Reader.Layout.Weight(member), 0, func(v *membership.View) (change, error) {
		_, stands := v.Weights[member]
		return takeBack(v, member, stands)
	})
}

// noOtherLeaves makes the comparisons that no other member was drained, or given another weight, since a view: of two
// orders that would leave nobody, one is refused.
func (d *Desk) noOtherLeaves(v *membership.View) []clientv3.Cmp {
	var all []clientv3.Cmp
	for _, orders := range []string{d.Reader.Layout.Drains(), d.Reader.Layout.Weights()} {
		all = append(all, clientv3.Compare(clientv3.ModRevision(orders), "<", v.Revision+1).WithPrefix())
	}
	return all
}
