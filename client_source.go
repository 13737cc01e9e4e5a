package drm

import (
	"context"
	"errors"
	"fmt"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// SourceOrder is an order about the source that was given to the coordinator. It expires after 10 minutes, where nobody
// has carried it out by then.
type SourceOrder struct{ given picture.Order }

// Source tells how the source fares. It reads no more than that, unlike Status. For an app that does not exist the
// SourceStatus is zero.
func (c *Client) Source(ctx context.Context) (SourceStatus, error) {
	noted, err := c.anyReader().Source(ctx)
	if err != nil {
		return SourceStatus{}, err
	}
	return statusOf(noted), nil
}

// AcceptRemovals orders that the coordinator make the removals which are held (SourceStatus.Held), without another
// answer of the source. digest is the HeldDigest of the SourceStatus that was looked at: where other removals are held
// when the coordinator gets the order, it makes none, and WaitAccepted says so. AcceptRemovals returns once etcd has
// the order, before anything is removed. ErrNoSource says that no live member has a source, ErrNoApp that there is no
// such app, an *InputError that digest is empty.
func (c *Client) AcceptRemovals(ctx context.Context, digest string) (SourceOrder, error) {
	if digest == "" {
		empty := &InputError{"digest", "", "that of removals that are held"}
		return SourceOrder{}, fmt.Errorf("accept removals: %w", empty)
	}
	desk, err := c.desk(ctx)
	if err != nil {
		return SourceOrder{}, fmt.Errorf("accept removals: %w", err)
	}
	given, err := desk.AcceptRemovals(ctx, digest)
	if err != nil {
		return SourceOrder{}, fmt.Errorf("accept removals: %w", err)
	}
	return SourceOrder{given}, nil
}

// WaitAccepted returns when an order of AcceptRemovals has been carried out, with the number of entries that were
// removed: an entry that was written meanwhile stays. ErrNotAccepted says that the order was refused, ErrOrderExpired
// that nobody carried it out.
func (c *Client) WaitAccepted(ctx context.Context, o SourceOrder) (removed int, err error) {
	r, err := c.readerFor(ctx, o)
	if err == nil {
		removed, err = order.WaitAccepted(ctx, r, o.given)
	}
	if err != nil {
		return 0, fmt.Errorf("wait for the removals: %w", waitError(err))
	}
	return removed, nil
}

// RefetchSource orders that the coordinator ask the source now. Where the source wants to be left alone (Retryable,
// Retry-After), the coordinator asks when that time is over. RefetchSource returns once etcd has the order. ErrNoSource
// says that no live member has a source, ErrNoApp that there is no such app.
func (c *Client) RefetchSource(ctx context.Context) (SourceOrder, error) {
	desk, err := c.desk(ctx)
	if err != nil {
		return SourceOrder{}, fmt.Errorf("ask the source: %w", err)
	}
	given, err := desk.Refetch(ctx)
	if err != nil {
		return SourceOrder{}, fmt.Errorf("ask the source: %w", err)
	}
	return SourceOrder{given}, nil
}

// WaitRefetched returns when an attempt to ask the source has ended that began after an order of RefetchSource, with
// what came of the attempt. ErrSourceFailed says that the attempt failed, and why; ErrOrderExpired that there was none.
func (c *Client) WaitRefetched(ctx context.Context, o SourceOrder) (SourceStatus, error) {
	var last record.Source
	r, err := c.readerFor(ctx, o)
	if err == nil {
		last, err = order.WaitRefetched(ctx, r, o.given)
	}
	if err != nil {
		return statusOf(last), fmt.Errorf("wait for the source's answer: %w", waitError(err))
	}
	return statusOf(last), nil
}

// readerFor returns a reader that waits for an order. An order that was never given has expired.
func (c *Client) readerFor(ctx context.Context, o SourceOrder) (*picture.Reader, error) {
	r, err := c.reader(ctx)
	if err == nil && (r == nil || o.given.Revision == 0) {
		return nil, ErrOrderExpired
	}
	return r, err
}

// DropSource makes the app one without a source at once, without waiting for Config.SourceGone. Resources that only the
// source wanted are removed from the catalogue; resources that were allocated besides stay; nothing is suspended any
// more; and the record of the source's fetches is deleted. It returns how many resources it removed, also where it
// failed before all was done: calling it again does the rest. A member that is started with a Retriever afterwards
// begins as in a new app.
//
// Errors: a *SourceInUseError (ErrSourceInUse) while a member that has a Retriever is alive; ErrNoApp; ErrAppGone;
// ErrUnreachable.
func (c *Client) DropSource(ctx context.Context) (removed int, err error) {
	desk, store, err := c.toDrop(ctx)
	if err == nil {
		removed, err = desk.DropSource(ctx, store)
	}
	return removed, dropError(ctx, "drop the source", err)
}

// SourceLeaves tells how many resources DropSource would remove now, and removes none. Its errors are those of
// DropSource.
func (c *Client) SourceLeaves(ctx context.Context) (removed int, err error) {
	desk, store, err := c.toDrop(ctx)
	if err == nil {
		removed, err = desk.SourceLeaves(ctx, store)
	}
	return removed, dropError(ctx, "look at what the source leaves", err)
}

// toDrop returns what drops an app's source, and the catalogue that it is dropped from.
func (c *Client) toDrop(ctx context.Context) (*order.Desk, *catalogue.Store, error) {
	desk, err := c.desk(ctx)
	if err != nil {
		return nil, nil, err
	}
	store, err := c.store(ctx, false)
	return desk, store, err
}

func dropError(ctx context.Context, doing string, err error) error {
	var inUse *order.SourceInUseError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &inUse):
		return fmt.Errorf("%s: %w", doing, (*SourceInUseError)(inUse))
	default:
		return fmt.Errorf("%s: %w", doing, writeError(ctx, err))
	}
}
