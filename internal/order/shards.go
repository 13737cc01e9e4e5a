package order

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
)

// Pin orders that a shard belongs to a member whenever that member can own shards, until Unpin. A pin to another member
// takes the place of the one that stands.
//
// Errors: picture.ErrNotFound, appconfig.ErrGone, and those of a Reader.
func (d *Desk) Pin(ctx context.Context, n int, member string, o Options) error {
	return d.change(ctx, d.Reader.Layout.Pin(n), o.IfRevision, func(v *membership.View) (change, error) {
		p, stands := v.Pins[n]
		same := stands && p.Member == member
		switch {
		case same && o.Why == "":
			return change{none: true}, nil
		case !same && !o.Absent && !v.Known(member):
			return change{}, picture.ErrNotFound // the caller names the member
		}
		said := o.order(d.now())
		if same {
			said.Since = p.Since
		}
		return change{value: membership.Pin{Order: said, Member: member}.Encode()}, nil
	})
}

// Unpin takes an order of Pin back, and returns to whom the shard was pinned. It returns picture.ErrNotFound where the
// shard is not pinned.
func (d *Desk) Unpin(ctx context.Context, n int) (member string, err error) {
	err = d.change(ctx, d.Reader.Layout.Pin(n), 0, func(v *membership.View) (change, error) {
		p, stands := v.Pins[n]
		if !stands {
			return change{}, fmt.Errorf("%w: it is not pinned", picture.ErrNotFound)
		}
		member = p.Member
		return change{delete: true}, nil
	})
	return member, err
}

// Move orders that a shard belongs to a member. Unlike a pin, that lasts until the coordinator has a reason to place
// the shard elsewhere. moved is false if the shard is the member's already.
//
// Errors: ErrPinned, ErrCannotTake, appconfig.ErrGone, and those of a Reader.
func (d *Desk) Move(ctx context.Context, n int, member string, o Options) (moved bool, err error) {
	layout := d.Reader.Layout
	err = d.change(ctx, layout.Exception(n), o.IfRevision, func(v *membership.View) (change, error) {
		if p, pinned := v.Pins[n]; pinned {
			return change{}, fmt.Errorf("%w to %q; unpin it first", ErrPinned, p.Member)
		}
		if moved = v.Owner(n) != member; !moved {
			return change{none: true}, nil
		}
		if why := hindrance(v, n, member); why != "" {
			return change{}, fmt.Errorf("%w: %s", ErrCannotTake, why)
		}
		said := o.order(d.now())
		e := membership.Exception{
			Member: member, Why: membership.WhyMove, By: said.By, Since: said.Since, Reason: said.Why,
		}
		return change{
			value: e.Encode(),
			only:  []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(layout.Pin(n)), "=", 0)},
		}, nil
	})
	return moved && err == nil, err
}

// hindrance says why a member cannot be given a shard; "" if it can.
func hindrance(v *membership.View, n int, member string) string {
	m, live := v.Members[member]
	_, cordoned := v.Cordons[member]
	owner := v.Members[v.Owner(n)]
	switch {
	case !live:
		return "it is not there"
	case v.Ordered(member) && !v.DrainsIgnored():
		return "it is drained; undrain it first"
	case !m.HasJoined() || m.State == membership.Unready && !v.UnreadyIgnored():
		return "it is " + string(m.State)
	case v.WeightOf(member) == 0:
		return "its weight is 0; give it another one first"
	case v.Takes(member, n):
	case v.Declines(member, n):
		return "it is full (MaxResources)"
	case cordoned:
		return "it is cordoned; uncordon it first"
	default:
		return "it owns no shards"
	}
	for id, one := range v.Members {
		if one.Schema < membership.Schema && (id == member || id == owner.ID) {
			return fmt.Sprintf("the version of %q is too old for that", id)
		}
	}
	return ""
}
