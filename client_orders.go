package drm

import (
	"context"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

const (
	// maxOrderText is how long what an order says for people may be, in bytes: every member reads it.
	maxOrderText = 500
	// maxOrderLife is how long an order that ends by itself may stand.
	maxOrderLife = 366 * 24 * time.Hour
)

// OrderOptions says who gives an order, and how. The zero value says nothing: the order stands until it is taken back,
// and is refused where its member is not known, or is the last one that takes anything. An order that stands already
// keeps what the options do not say.
type OrderOptions struct {
	By  string // who gives the order; at most 500 bytes without control characters
	Why string // the reason; at most 500 bytes without control characters
	// For makes a drain or a cordon end by itself after this time, 1 s to 366 days, by etcd's clock. Where etcd elects
	// a new leader meanwhile, the time may begin anew. 0: it stands until it is taken back.
	For time.Duration
	// AtOnce makes a member that is drained, or gets the weight 0, let go of everything at once. Otherwise it lets go
	// of a few shards at a time, if the group has a coordinator that paces that.
	AtOnce bool
	// Force has a member drained, or given the weight 0, even if nobody is left who takes anything: then nothing is
	// handled. Of a drain it counts while the member is there.
	Force bool
	// Absent gives the order also where nothing is known of such a member: it is obeyed when the member comes.
	Absent bool
	// IfRevision has a Drain, Cordon, SetWeight, Pin, Move or Rebalance refused, with ErrChanged, where the group has
	// changed since that revision of etcd's, such as Plan.Revision: where a member has come, gone or changed its state,
	// an order about a member or shard is another one, or a shard is placed elsewhere. An order that stands already is
	// not refused, so that it can be repeated. 0: the order does not depend on a revision.
	IfRevision int64
}

// Validate returns an *InputError that names a field with a bad value; nil if there is none.
func (o OrderOptions) Validate() error {
	for _, said := range []struct{ field, text string }{{"By", o.By}, {"Why", o.Why}} {
		if len(said.text) > maxOrderText || !utf8.ValidString(said.text) || hasControl(said.text) {
			want := fmt.Sprintf("at most %d bytes of UTF-8 without control characters", maxOrderText)
			return &InputError{said.field, said.text, want}
		}
	}
	if o.For != 0 && (o.For < time.Second || o.For > maxOrderLife) {
		return &InputError{"For", o.For.String(), fmt.Sprintf("1s to %.0fh, or 0", maxOrderLife.Hours())}
	}
	return checkRevision(o.IfRevision)
}

func hasControl(text string) bool {
	for _, r := range text {
		if unicode.IsControl(r) {
			return true
		}
	}
	return false
}

// Drain orders that a member hold nothing, until Undrain. The order outlives the member, and may be given while the
// member is not there. An order that stands already is left as it is. ErrLastMember says that no member that is ready
// would be left to take its resources; ErrNotFound that the app knows no such member: DrainAbsent orders it all the
// same. A drmctl of an older version pays no heed to another drain at the same moment: where two such orders leave no
// member, all of them are ignored.
func (c *Client) Drain(ctx context.Context, member string) error {
	return c.DrainWith(ctx, member, OrderOptions{})
}

// DrainAbsent is Drain for any id, for instance that of a member that is to come.
func (c *Client) DrainAbsent(ctx context.Context, member string) error {
	return c.DrainWith(ctx, member, OrderOptions{Absent: true})
}

// DrainWith is Drain with options.
func (c *Client) DrainWith(ctx context.Context, member string, o OrderOptions) error {
	return c.about(ctx, "drain", member, o, func(d *order.Desk) error {
		return d.Drain(ctx, member, order.Options(c.said(o)))
	})
}

// Undrain takes the order of a Drain back. ErrNotFound says that there is neither such an order nor such a member.
func (c *Client) Undrain(ctx context.Context, member string) error {
	return c.about(ctx, "undrain", member, OrderOptions{}, func(d *order.Desk) error { return d.Undrain(ctx, member) })
}

// Cordon orders that a member keep the shards that it owns now, and be given no others, until Uncordon. Resources that
// come into these shards are the member's. The order outlives the member; what others take over meanwhile, it need not
// get back. Where no member is left that takes others, the cordoned ones take what nobody keeps. A second Cordon does
// not change what the member keeps. Members of older versions do not know of this order: as long as one lives, it may
// count in part only. ErrNotFound says that the app knows no such member.
func (c *Client) Cordon(ctx context.Context, member string, o OrderOptions) error {
	return c.about(ctx, "cordon", member, o, func(d *order.Desk) error {
		return d.Cordon(ctx, member, order.Options(c.said(o)))
	})
}

// Uncordon takes the order of a Cordon back. ErrNotFound says that there is neither such an order nor such a member.
func (c *Client) Uncordon(ctx context.Context, member string) error {
	return c.about(ctx, "uncordon", member, OrderOptions{}, func(d *order.Desk) error {
		return d.Uncordon(ctx, member)
	})
}

// SetWeight orders that a member have a certain weight, 0 to 1000, whatever its config or Manager.SetWeight says, until
// ResetWeight. The order outlives the member. Only what must move moves. A member of weight 0 holds nothing: it lets go
// of a few shards at a time, as a drained one does, or of everything with AtOnce; unlike a drained one, it does not get
// it back where all others are gone too. ErrNotFound says that the app knows no such member (see Absent); ErrLastMember
// that with weight 0 nobody would be left (see Force). Members of older versions do not know of this order: while one
// lives, it counts in part only. For must be 0.
func (c *Client) SetWeight(ctx context.Context, member string, weight int, o OrderOptions) error {
	const what = "set the weight of"
	switch {
	case weight < 0 || weight > membership.MaxWeight:
		want := fmt.Sprintf("0 to %d", membership.MaxWeight)
		return fmt.Errorf("%s member %q: %w", what, member, &InputError{"weight", fmt.Sprint(weight), want})
	case o.For != 0:
		want := "0: an ordered weight stands until it is reset"
		return fmt.Errorf("%s member %q: %w", what, member, &InputError{"For", o.For.String(), want})
	}
	return c.about(ctx, what, member, o, func(d *order.Desk) error {
		return d.Weigh(ctx, member, weight, order.Options(c.said(o)))
	})
}

// ResetWeight takes the order of a SetWeight back, so that the member has its own weight again. ErrNotFound says that
// there is neither such an order nor such a member.
func (c *Client) ResetWeight(ctx context.Context, member string) error {
	return c.about(ctx, "reset the weight of", member, OrderOptions{}, func(d *order.Desk) error {
		return d.Unweigh(ctx, member)
	})
}

// about gives an order about a member.
func (c *Client) about(ctx context.Context, what, member string, o OrderOptions, give func(*order.Desk) error) error {
	if err := keys.CheckID(member); err != nil {
		return fmt.Errorf("%s: %w", what, &InputError{"member", member, err.Error()})
	}
	if err := o.Validate(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	desk, err := c.desk(ctx)
	if err == nil {
		err = give(desk)
	}
	if err != nil {
		return fmt.Errorf("%s member %q: %w", what, member, err)
	}
	return nil
}

// WaitDrained returns when a member has no claim any more. If the member is alive, it waits a little longer, for the
// member's own figures (Members) to say so. Where every member is ordered to hold nothing, the orders are ignored, and
// it returns an error that says so. Where ctx ends first, the *WaitError says what the member still has.
func (c *Client) WaitDrained(ctx context.Context, member string) error {
	r, err := c.reader(ctx)
	if r == nil || err != nil {
		return err
	}
	return waitError(r.WaitDrained(ctx, member))
}

// DrainProgress says how far a drain is.
type DrainProgress struct {
	Left      int           // how many claims the member still has; -1: not known
	Gone      int           // how many it has let go of since the wait began
	Rate      float64       // how many of these a second, over the last 10 s
	Remaining time.Duration // how long the rest takes at that rate; 0: not known
	Waiting   string        // what is waited for; empty before that is known
	Slowest   string        // the resource that has kept the member longest, as far as is known; empty: none has
	Why       string        // why Slowest does: its Terminate runs, or has failed; its member does not answer
}

// WatchDrain is WaitDrained, and calls tell with the progress: at each change, but at most five times a second, and
// every second where nothing changes. It makes one call at a time, and none after it has returned. It follows all
// claims of the app by a watch; only where the member lets go of nothing for 5 s, and nothing is known of the reason,
// does it read claims to find one that is left, every 30 s at most.
func (c *Client) WatchDrain(ctx context.Context, member string, tell func(DrainProgress)) error {
	r, err := c.reader(ctx)
	if r == nil || err != nil {
		return err
	}
	return waitError(r.WatchDrained(ctx, member, func(p picture.Progress) { tell(DrainProgress(p)) }))
}

// WatchUndrain is WaitUndrained, and calls tell with what it waits for when that changes, one call at a time.
func (c *Client) WatchUndrain(ctx context.Context, member string, tell func(waiting string)) error {
	r, err := c.reader(ctx)
	if r == nil || err != nil {
		return err
	}
	return waitError(r.WatchUndrained(ctx, member, tell))
}

// WaitUndrained returns when a member has its share again (every resource of its shards, active or failed), or is not
// there. Where ctx ends first, the *WaitError says what the member does not have yet.
func (c *Client) WaitUndrained(ctx context.Context, member string) error {
	r, err := c.reader(ctx)
	if r == nil || err != nil {
		return err
	}
	return waitError(r.WaitUndrained(ctx, member))
}

// Pin orders that a shard belong to a member whenever that member can own shards, until Unpin. A pin of the shard to
// another member takes the place of the former one. ErrNotFound says that the app knows no such member. Members of
// older versions do not know of such a pin: as long as one lives, it may not count. For must be 0.
func (c *Client) Pin(ctx context.Context, shard int, member string, o OrderOptions) error {
	if o.For != 0 {
		return fmt.Errorf("pin: %w", &InputError{"For", o.For.String(), "0: a pin stands until it is taken back"})
	}
	return c.about(ctx, "pin a shard to", member, o, func(d *order.Desk) error {
		if err := checkShard(d, shard); err != nil {
			return err
		}
		return d.Pin(ctx, shard, member, order.Options(c.said(o)))
	})
}

// Unpin takes the order of a Pin back, and returns to which member the shard was pinned. ErrNotFound says that it was
// not.
func (c *Client) Unpin(ctx context.Context, shard int) (member string, err error) {
	desk, err := c.desk(ctx)
	if err == nil {
		err = checkShard(desk, shard)
	}
	if err == nil {
		member, err = desk.Unpin(ctx, shard)
	}
	if err != nil {
		return "", fmt.Errorf("unpin shard %d: %w", shard, err)
	}
	return member, nil
}

// Move orders that a shard belong to a member now. Unlike a pin, this does not stand for good: the shard goes elsewhere
// when the member can no longer own it, or when the load is evened out. Of the options, By and Why count. moved is
// false if the shard is the member's already. ErrPinned says that the shard is pinned; ErrCannotTake that the member
// cannot be given shards now, and why.
func (c *Client) Move(ctx context.Context, shard int, member string, o OrderOptions) (moved bool, err error) {
	err = c.about(ctx, "move a shard to", member, o, func(d *order.Desk) error {
		if err := checkShard(d, shard); err != nil {
			return err
		}
		moved, err = d.Move(ctx, shard, member, order.Options(c.said(o)))
		return err
	})
	return moved, err
}

// WaitMoved returns when a member has each resource of a shard, active or failed. Where ctx ends first, the *WaitError
// says what it does not have yet.
func (c *Client) WaitMoved(ctx context.Context, shard int, member string) error {
	r, err := c.needReader(ctx)
	if err != nil {
		return err
	}
	return waitError(r.WaitMoved(ctx, shard, member))
}

// RebalanceOrder is an order of Rebalance. It expires after 10 minutes, where no coordinator has begun with it by then.
type RebalanceOrder struct{ given picture.Order }

// Rebalance orders that the coordinator even the load out now, without waiting for a reason to do so. It returns once
// etcd has the order. Of the options, By and Why count. ErrNoPlacer says that there is no coordinator that places
// shards.
func (c *Client) Rebalance(ctx context.Context, o OrderOptions) (RebalanceOrder, error) {
	err := o.Validate()
	var desk *order.Desk
	if err == nil {
		desk, err = c.desk(ctx)
	}
	var given picture.Order
	if err == nil {
		given, err = desk.Rebalance(ctx, order.Options(c.said(o)))
	}
	if err != nil {
		return RebalanceOrder{}, fmt.Errorf("rebalance: %w", err)
	}
	return RebalanceOrder{given}, nil
}

// WaitRebalance returns when the coordinator has begun to carry an order out. ErrOrderExpired says that none did.
func (c *Client) WaitRebalance(ctx context.Context, o RebalanceOrder) error {
	r, err := c.reader(ctx)
	if err == nil && (r == nil || o.given.Revision == 0) {
		return ErrOrderExpired
	}
	if err != nil {
		return err
	}
	return waitError(r.WaitBegun(ctx, o.given))
}

// Orders lists the orders that stand, also those about members that are not there, by kind, member and shard.
func (c *Client) Orders(ctx context.Context) ([]OrderInfo, error) {
	g, err := c.Group(ctx)
	return g.Orders, err
}

// ShardOf returns the shard that a resource is in, whether or not there is such a resource. ErrNoApp says that there is
// no such app.
func (c *Client) ShardOf(ctx context.Context, id string) (int, error) {
	config, err := c.open(ctx, false)
	if err != nil {
		return 0, c.noApp(err)
	}
	return shard.Of(id, config.Shards), nil
}

// Shard tells of one shard. It reads the members, and of the catalogue this shard only. An *InputError says that there
// is no such shard.
func (c *Client) Shard(ctx context.Context, shard int) (ShardInfo, error) {
	desk, err := c.desk(ctx)
	if err == nil {
		err = checkShard(desk, shard)
	}
	var found picture.Shard
	if err == nil {
		found, err = desk.Reader.Shard(ctx, shard)
	}
	if err != nil {
		return ShardInfo{}, fmt.Errorf("shard %d: %w", shard, err)
	}
	return ShardInfo{found.Number, found.Member, found.Pinned, found.Resources}, nil
}

func checkShard(d *order.Desk, shard int) error { return checkShardNumber(shard, d.Reader.Shards) }

func checkShardNumber(shard, shards int) error {
	if shard < 0 || shard >= shards {
		return &InputError{"shard", fmt.Sprint(shard), fmt.Sprintf("0 to %d", shards-1)}
	}
	return nil
}
