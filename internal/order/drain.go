package order

import (
	"context"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
)

// Drain orders that a member hold nothing, until Undrain. An order that stands already is left as it is. With absent,
// nothing need be known of the member.
//
// Errors: picture.ErrNotFound, ErrLastMember, and those of a Reader.
func (d *Desk) Drain(ctx context.Context, member string, absent bool) error {
	roll, err := d.Reader.Roll(ctx)
	switch {
	case err != nil:
		return err
	case roll.View.Ordered(member):
		return nil
	case !absent && !roll.View.Known(member):
		return picture.ErrNotFound
	case roll.View.LastToTake(member):
		for _, m := range roll.Members() {
			if m.ID != member && m.Reason != "" && m.Drain == "" {
				return fmt.Errorf("%w: %s could take what it has, but is not ready (%s); "+
					"start another member, or undrain one, first", ErrLastMember, m.ID, m.Reason)
			}
		}
		return fmt.Errorf("%w: nobody could take what it has, so the order would be ignored; "+
			"start another member, or undrain one, first", ErrLastMember)
	}
	return d.ask(ctx, func(ctx context.Context) error {
		order := membership.Restriction{Order: membership.Order{Since: time.Now().UTC()}}
		_, err := d.Reader.Client.Put(ctx, d.Reader.Layout.Drain(member), order.Encode())
		return err
	})
}

// Undrain takes an order of Drain back. It returns picture.ErrNotFound where there is neither such an order nor such a
// member.
func (d *Desk) Undrain(ctx context.Context, member string) error {
	roll, err := d.Reader.Roll(ctx)
	switch {
	case err != nil:
		return err
	case !roll.View.Known(member):
		return picture.ErrNotFound
	}
	return d.ask(ctx, func(ctx context.Context) error {
		_, err := d.Reader.Client.Delete(ctx, d.Reader.Layout.Drain(member))
		return err
	})
}

// ask calls f within the timeout of a request.
func (d *Desk) ask(ctx context.Context, f func(ctx context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, d.Reader.Timeout)
	defer cancel()
	return etcd.Unreachable(ctx, f(bounded))
}
