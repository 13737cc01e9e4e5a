package drm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/record"
	"github.com/distributed-resource-manager/drm/membership"
)

// orderTTL is the life of an order about the source. It bounds how late it may be carried out where there is no
// coordinator for a while, or its source fails: much later, whoever gave it would not expect it any more.
const orderTTL = 10 * time.Minute

// SourceOrder is an order about the source that was given to the coordinator. Where nobody carries it out within 10
// minutes, it expires.
type SourceOrder struct {
	key      string
	revision int64
}

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
		return SourceOrder{}, fmt.Errorf(
			"accept removals: %w",
			&InputError{"digest", "", "that of removals that are held"},
		)
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

// WaitAccepted returns when an order of AcceptRemovals has been carried out, with the number of entries that were
// removed: what was written meanwhile stays. ErrNotAccepted says that it was refused, and ErrOrderExpired that nobody
// carried it out.
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

// RefetchSource orders that the source be asked now, by the coordinator: as soon as it wants to be asked again, where
// it has said so (Retryable, Retry-After). It returns once etcd has the order. ErrNoSource says that no live member has
// a source, ErrNoApp that there is no such app.
func (c *Client) RefetchSource(ctx context.Context) (SourceOrder, error) {
	order, err := c.order(ctx, c.layout.FetchOrder(), "")
	if err != nil {
		return order, fmt.Errorf("ask the source: %w", err)
	}
	return order, nil
}

// WaitRefetched returns when an attempt to ask the source has ended that began after an order of RefetchSource, with
// what came of it. ErrSourceFailed says that it failed, and why; ErrOrderExpired that there was none.
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

// DropSource says that the app has no source from now on, without waiting for Config.SourceGone. What nobody but the
// source wanted is removed from the catalogue; what an allocation wants besides stays, as the allocation's; what was
// deallocated is not kept suspended any more; and the record of the source's fetches is deleted. It returns how many
// resources it removed, also where it failed before it was done: calling it again does the rest. A member that is
// started with a Retriever afterwards begins as in a new app.
//
// Errors: a *SourceInUseError (ErrSourceInUse) while a member that has a Retriever is alive; ErrNoApp; ErrAppGone;
// ErrUnreachable.
func (c *Client) DropSource(ctx context.Context) (removed int, err error) {
	config, store, err := c.toDrop(ctx)
	if err != nil {
		return 0, fmt.Errorf("drop the source: %w", err)
	}
	for {
		if err := c.sourceInUse(ctx, config); err != nil {
			return removed, fmt.Errorf("drop the source: %w", err)
		}
		revision, ok, err := c.markGone(ctx)
		if err != nil {
			return removed, fmt.Errorf("drop the source: %w", etcd.Unreachable(ctx, err))
		}
		if !ok {
			continue
		}
		done, err := store.Forget(ctx, revision)
		removed += done.Removed
		if errors.Is(err, catalogue.ErrSourceBack) {
			continue // a member with a source has come, or somebody else has forgotten the source
		}
		return removed, writeError(ctx, err)
	}
}

// SourceLeaves tells how many resources DropSource would remove now, and removes none. Its errors are those of
// DropSource.
func (c *Client) SourceLeaves(ctx context.Context) (removed int, err error) {
	config, store, err := c.toDrop(ctx)
	if err == nil {
		err = c.sourceInUse(ctx, config)
	}
	if err != nil {
		return 0, fmt.Errorf("look at what the source leaves: %w", err)
	}
	removed, err = store.Leaves(ctx)
	return removed, writeError(ctx, err)
}

// toDrop opens an app that is to lose its source.
func (c *Client) toDrop(ctx context.Context) (appconfig.Config, *catalogue.Store, error) {
	config, err := c.open(ctx, false)
	if err != nil {
		return config, nil, c.noApp(err)
	}
	store, err := c.store(ctx, false)
	return config, store, err
}

// sourceInUse returns an error where a live member has a source.
func (c *Client) sourceInUse(ctx context.Context, config appconfig.Config) error {
	group, err := c.readerOf(config).Group(ctx)
	if err != nil {
		return err
	}
	var have []string
	for id, member := range group.Members {
		if member.Source {
			have = append(have, id)
		}
	}
	if len(have) == 0 {
		return nil
	}
	return &SourceInUseError{Member: slices.Min(have)}
}

// markGone records that the source is gone, so that nothing is suspended any more, and returns the record's mod
// revision; 0 where there is none. False says that somebody else wrote it meanwhile.
func (c *Client) markGone(ctx context.Context) (revision int64, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Etcd.CommandTimeout)
	defer cancel()
	resp, err := c.client.Get(ctx, c.layout.Source())
	if err != nil || len(resp.Kvs) == 0 {
		return 0, err == nil, err
	}
	kv := resp.Kvs[0]
	noted, err := record.DecodeSource(kv.Value)
	if err != nil {
		noted = record.Source{} // a corrupt one is as good as none
	}
	if noted.Gone {
		return kv.ModRevision, true, nil
	}
	noted.Gone = true
	b, err := json.Marshal(noted)
	if err != nil {
		return 0, false, err
	}
	put, err := c.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(c.layout.Source()), "=", kv.ModRevision)).
		Then(clientv3.OpPut(c.layout.Source(), string(b))).
		Commit()
	if err != nil {
		return 0, false, err
	}
	return put.Header.Revision, put.Succeeded, nil
}
