package drm

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/record"
	"github.com/distributed-resource-manager/drm/membership"
)

// orderTTL is the life of an order about the source. It bounds how late it may be carried out where there is no coordinator
// for a while, or its source fails: much later, whoever gave it would not expect it any more.
const orderTTL = 10 * time.Minute

// SourceOrder is an order about the source that was given to the coordinator. Where nobody carries it out within 10
// minutes, it expires.
type SourceOrder struct {
	key      string
	revision int64
}

// Source tells how the source fares: it reads no more than that, unlike Status. An app that nobody has created has a zero one.
func (c *Client) Source(ctx context.Context) (SourceStatus, error) {
	noted, err := c.anyReader().Source(ctx)
	if err != nil {
		return SourceStatus{}, err
	}
	return statusOf(noted), nil
}

// AcceptRemovals orders that the removals which are held (SourceStatus.Held) be made, by the coordinator, without another
// answer of the source. digest is the HeldDigest of the SourceStatus that was looked at: where others are held by the time that the
// order arrives, none is made, and WaitAccepted says so. It returns once etcd has the order, before anything is removed.
// ErrNoSource says that no live member has a source, ErrNoApp that there is no such app, an *InputError that digest is empty.
func (c *Client) AcceptRemovals(ctx context.Context, digest string) (SourceOrder, error) {
	if digest == "" {
		return SourceOrder{}, fmt.Errorf("accept removals: %w", &InputError{"digest", "", "that of removals that are held"})
	}
	value, err := json.Marshal(record.AcceptOrder{Digest: digest})
	if err != nil {
		return SourceOrder{}, fmt.Errorf("accept removals: %w", err)
	}
	order, err := c.order(ctx, c.layout.AcceptOrder(), string(value))
	if err != nil {
		return order, fmt.Errorf("accept removals: %w", err)
	}
	return order, nil
}

// WaitAccepted returns when an order of AcceptRemovals has been carried out, with the number of entries that were removed:
// what was written meanwhile stays. ErrNotAccepted says that it was refused, and ErrOrderExpired that nobody carried it out.
func (c *Client) WaitAccepted(ctx context.Context, order SourceOrder) (removed int, err error) {
	err = c.waitOrder(ctx, order, func(noted record.Source) (bool, error) {
		done := noted.Accepted
		switch {
		case done.Revision < order.revision:
			return false, nil
		case done.Revision > order.revision:
			return false, fmt.Errorf("%w: another order has taken its place", ErrNotAccepted)
		case done.Error != "":
			return false, fmt.Errorf("%w: %s", ErrNotAccepted, done.Error)
		}
		removed = done.Removed
		return true, nil
	})
	if err != nil {
		return 0, fmt.Errorf("wait for the removals: %w", err)
	}
	return removed, nil
}

// RefetchSource orders that the source be asked now, by the coordinator: as soon as it wants to be asked again, where it has
// said so (Retryable, Retry-After). It returns once etcd has the order. ErrNoSource says that no live member has a source, ErrNoApp
// that there is no such app.
func (c *Client) RefetchSource(ctx context.Context) (SourceOrder, error) {
	order, err := c.order(ctx, c.layout.FetchOrder(), "")
	if err != nil {
		return order, fmt.Errorf("ask the source: %w", err)
	}
	return order, nil
}

// WaitRefetched returns when an attempt to ask the source has ended that began after an order of RefetchSource, with what
// came of it. ErrSourceFailed says that it failed, and why; ErrOrderExpired that there was none.
func (c *Client) WaitRefetched(ctx context.Context, order SourceOrder) (SourceStatus, error) {
	var last record.Source
	err := c.waitOrder(ctx, order, func(noted record.Source) (bool, error) {
		last = noted
		switch {
		case noted.Attempt < order.revision:
			return false, nil
		case noted.Error != "":
			return false, fmt.Errorf("%w: %s", ErrSourceFailed, noted.Error)
		}
		return true, nil
	})
	if err != nil {
		return statusOf(last), fmt.Errorf("wait for the source's answer: %w", err)
	}
	return statusOf(last), nil
}

// order gives an order to the coordinator: a key that etcd deletes by itself after a while.
func (c *Client) order(ctx context.Context, key, value string) (SourceOrder, error) {
	config, err := c.open(ctx, false)
	if err != nil {
		return SourceOrder{}, c.noApp(err)
	}
	group, err := c.readerOf(config).Group(ctx)
	if err != nil {
		return SourceOrder{}, err
	}
	if !hasSource(group) {
		return SourceOrder{}, ErrNoSource
	}
	asking, cancel := context.WithTimeout(ctx, c.cfg.Etcd.CommandTimeout)
	defer cancel()
	lease, err := c.client.Grant(asking, int64(orderTTL/time.Second))
	if err != nil {
		return SourceOrder{}, etcd.Unreachable(ctx, err)
	}
	resp, err := c.client.Txn(asking).
		If(clientv3.Compare(clientv3.CreateRevision(c.layout.Config()), "=", config.CreateRevision)).
		Then(clientv3.OpPut(key, value, clientv3.WithLease(lease.ID))).
		Commit()
	if err == nil && resp.Succeeded {
		return SourceOrder{key: key, revision: resp.Header.Revision}, nil
	}
	_, _ = c.client.Revoke(asking, lease.ID) // it expires by itself otherwise
	if err == nil {
		return SourceOrder{}, ErrAppGone
	}
	return SourceOrder{}, etcd.Unreachable(ctx, err)
}

func hasSource(v *membership.View) bool {
	for _, m := range v.Members {
		if m.Source {
			return true
		}
	}
	return false
}

// waitOrder calls done with each record of the source, until it says yes or fails, or the order is gone without that.
func (c *Client) waitOrder(ctx context.Context, order SourceOrder, done func(record.Source) (bool, error)) error {
	r, err := c.reader(ctx)
	if err != nil {
		return err
	}
	if r == nil || order.revision == 0 {
		return ErrOrderExpired
	}
	return waitError(r.WaitOrder(ctx, picture.Order{Key: order.key, Revision: order.revision}, done))
}
