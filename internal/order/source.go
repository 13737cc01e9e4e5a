package order

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/record"
	"github.com/distributed-resource-manager/drm/internal/source"
)

// life is how long an order to the coordinator stands. It bounds how late the order may be carried out where there is
// no coordinator for a while, or where the source fails: much later, whoever gave the order would not expect it any
// more.
const life = 10 * time.Minute

// Refetch orders that the coordinator ask the source now. It returns once etcd has the order. ErrNoSource says that no
// live member has a source, appconfig.ErrGone that the app was deleted.
func (d *Desk) Refetch(ctx context.Context) (picture.Order, error) {
	value := ""
	if !d.Origin.IsZero() {
		value = d.Origin.At(d.now()).Encode()
	}
	return d.aboutSource(ctx, d.Reader.Layout.FetchOrder(), value)
}

// AcceptRemovals orders that the coordinator make the removals which are held, if their digest is the given one. Its
// errors are those of Refetch.
func (d *Desk) AcceptRemovals(ctx context.Context, digest string) (picture.Order, error) {
	value, err := json.Marshal(record.AcceptOrder{Digest: digest, Deed: d.Origin.At(d.now())})
	if err != nil {
		return picture.Order{}, err
	}
	return d.aboutSource(ctx, d.Reader.Layout.AcceptOrder(), string(value))
}

// aboutSource gives an order that only a coordinator with a source can carry out.
func (d *Desk) aboutSource(ctx context.Context, key, value string) (picture.Order, error) {
	switch member, err := d.withSource(ctx); {
	case err != nil:
		return picture.Order{}, err
	case member == "":
		return picture.Order{}, ErrNoSource
	}
	return d.toCoordinator(ctx, key, value)
}

// toCoordinator writes the key of an order, which etcd deletes when the order's life is over. Where not all of some
// comparisons hold, the error is errBusy.
func (d *Desk) toCoordinator(
	ctx context.Context, key, value string, only ...clientv3.Cmp,
) (given picture.Order, err error) {
	err = d.ask(ctx, func(ctx context.Context) error {
		client := d.Reader.Client
		lease, err := client.Grant(ctx, int64(life/time.Second))
		if err != nil {
			return err
		}
		config := d.Reader.Layout.Config()
		resp, err := client.Txn(ctx).
			If(append(only, clientv3.Compare(clientv3.CreateRevision(config), "=", d.Created))...).
			Then(clientv3.OpPut(key, value, clientv3.WithLease(lease.ID))).
			Else(clientv3.OpGet(config, clientv3.WithKeysOnly())).
			Commit()
		if err == nil && resp.Succeeded {
			given = picture.Order{Key: key, Revision: resp.Header.Revision, Lease: int64(lease.ID)}
			return nil
		}
		_, _ = client.Revoke(ctx, lease.ID) // where this fails, the lease expires
		if err != nil {
			return err
		}
		if found := resp.Responses[0].GetResponseRange().Kvs; len(found) > 0 && found[0].CreateRevision == d.Created {
			return errBusy
		}
		return appconfig.ErrGone
	})
	return given, err
}

// withSource returns a live member that has a source, the first one by id; "" where there is none.
func (d *Desk) withSource(ctx context.Context) (member string, err error) {
	group, err := d.Reader.Group(ctx)
	if err != nil {
		return "", err
	}
	for id, m := range group.Members {
		if m.Source && (member == "" || id < member) {
			member = id
		}
	}
	return member, nil
}

// WaitRefetched returns when an attempt to ask the source has ended that began after an order of Refetch, with the
// record of it. Where ctx ends first, the error is a *picture.WaitError. source.ErrFailed says that the attempt failed,
// and why; picture.ErrOrderExpired that there was none.
func WaitRefetched(ctx context.Context, r *picture.Reader, given picture.Order) (last record.Source, err error) {
	err = r.WaitOrder(ctx, given, func(noted record.Source) (bool, error) {
		last = noted
		switch {
		case noted.Attempt < given.Revision:
			return false, nil
		case noted.Error != "":
			return false, fmt.Errorf("%w: %s", source.ErrFailed, noted.Error)
		}
		return true, nil
	})
	return last, err
}

// WaitAccepted returns when an order of AcceptRemovals has been carried out, with the number of entries that were
// removed. Where ctx ends first, the error is a *picture.WaitError. ErrNotAccepted says that the order was refused,
// picture.ErrOrderExpired that nobody carried it out.
func WaitAccepted(ctx context.Context, r *picture.Reader, given picture.Order) (removed int, err error) {
	err = r.WaitOrder(ctx, given, func(noted record.Source) (bool, error) {
		done := noted.Accepted
		switch {
		case done.Revision < given.Revision:
			return false, nil
		case done.Revision > given.Revision:
			return false, fmt.Errorf("%w: another order has taken its place", ErrNotAccepted)
		case done.Error != "":
			return false, fmt.Errorf("%w: %s", ErrNotAccepted, done.Error)
		}
		removed = done.Removed
		return true, nil
	})
	return removed, err
}
