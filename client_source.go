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

// SourceOrder is an order about the source that was given to the coordinator. Where nobody carries it out within 10
// minutes, it expires.
type SourceOrder struct{ given picture.Order }

// Source tells how the source fares: it reads no more than that, unlike Status. An app that nobody has created has a
// zero one.
func (c *Client) Source(ctx context.Context) (SourceStatus, error) {
	noted, err := c.anyReader().Source(ctx)
	if err != nil {
		return SourceStatus{}, err
	}
	return statusOf(noted), nil
}

// AcceptRemovals orders that the removals which are held (SourceStatus.Held) be made, by the coordinator, without
// another answer of the source. digest is the HeldDigest of the SourceStatus that was looked at: where others are held
// by the time that the order arrives, none is made, and WaitAccepted says so. It returns once etcd has the order,
// before anything is removed. ErrNoSource says that no live member has a source, ErrNoApp that there is no such app, an
// *InputError that digest is empty.
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
// removed: what was written meanwhile stays. ErrNotAccepted says that it was refused, and ErrOrderExpired that nobody
// carried it out.
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

// RefetchSource orders that the source be asked now, by the coordinator: as soon as it wants to be asked again, where
// it has said so (Retryable, Retry-After). It returns once etcd has the order. ErrNoSource says that no live member has
// a source, ErrNoApp that there is no such app.
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
// what came of it. ErrSourceFailed says that it failed, and why; ErrOrderExpired that there was none.
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

// DropSource says that the app has no source from now on, without waiting for Config.SourceGone. What nobody but the
// source wanted is removed from the catalogue; what an allocation wants besides stays, as the allocation's; what was
// deallocated is not kept suspended any more; and the record of the source's fetches is deleted. It returns how many
// resources it removed, also where it failed before it was done: calling it again does the rest. A member that is
// started with a Retriever afterwards begins as in a new app.
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
