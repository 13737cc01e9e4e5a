package drm

import (
	"context"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// Drain orders that a member hold nothing, until Undrain. The order outlives the member, and may be given while the member is not
// there. ErrLastMember says that nobody would be left to take what it has; ErrNotFound that nothing is known of such a member:
// DrainAbsent orders it all the same. Of two Drains at the same moment both may be obeyed: where that leaves nobody, all are ignored.
func (c *Client) Drain(ctx context.Context, member string) error { return c.drain(ctx, member, false) }

// DrainAbsent is Drain, of any id: of a member, say, that is to come.
func (c *Client) DrainAbsent(ctx context.Context, member string) error {
	return c.drain(ctx, member, true)
}

func (c *Client) drain(ctx context.Context, member string, absent bool) error {
	if err := keys.CheckID(member); err != nil {
		return fmt.Errorf("drain: %w", &InputError{"member", member, err.Error()})
	}
	r, err := c.needReader(ctx)
	if err != nil {
		return fmt.Errorf("drain member %q: %w", member, err)
	}
	roll, err := r.Roll(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("drain member %q: %w", member, err)
	case roll.View.Ordered(member):
		return nil
	case !absent && !roll.View.Known(member):
		return fmt.Errorf("drain member %q: %w", member, ErrNotFound)
	case roll.View.LastToTake(member):
		return fmt.Errorf("drain member %q: %w: nobody could take what it has, so the order would be ignored; start another member, or undrain one, first", member, ErrLastMember)
	}
	asking, cancel := context.WithTimeout(ctx, c.cfg.Etcd.CommandTimeout)
	defer cancel()
	if _, err := c.client.Put(asking, c.layout.Drain(member), membership.DrainValue(time.Now())); err != nil {
		return fmt.Errorf("drain member %q: %w", member, etcd.Unreachable(ctx, err))
	}
	return nil
}

// Undrain takes the order back. ErrNotFound says that there is neither such an order nor such a member.
func (c *Client) Undrain(ctx context.Context, member string) error {
	r, err := c.needReader(ctx)
	if err != nil {
		return fmt.Errorf("undrain member %q: %w", member, err)
	}
	roll, err := r.Roll(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("undrain member %q: %w", member, err)
	case !roll.View.Known(member):
		return fmt.Errorf("undrain member %q: %w", member, ErrNotFound)
	}
	asking, cancel := context.WithTimeout(ctx, c.cfg.Etcd.CommandTimeout)
	defer cancel()
	if _, err := c.client.Delete(asking, c.layout.Drain(member)); err != nil {
		return fmt.Errorf("undrain member %q: %w", member, etcd.Unreachable(ctx, err))
	}
	return nil
}

// WaitDrained returns when a member holds nothing, and says so itself (Members) if it is there and does so soon. Where every
// member is ordered to hold nothing, the orders are ignored, and it returns an error that says so. Where ctx ends first, the
// *WaitError says what the member still has.
func (c *Client) WaitDrained(ctx context.Context, member string) error {
	r, err := c.reader(ctx)
	if r == nil || err != nil {
		return err
	}
	return waitError(r.WaitDrained(ctx, member))
}

// WaitUndrained returns when a member holds its share again (every resource of its shards, handled or failed), or is not there.
// Where ctx ends first, the *WaitError says what it does not have yet.
func (c *Client) WaitUndrained(ctx context.Context, member string) error {
	r, err := c.reader(ctx)
	if r == nil || err != nil {
		return err
	}
	return waitError(r.WaitUndrained(ctx, member))
}
