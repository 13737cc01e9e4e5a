package picture

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// ErrOrderExpired says that nobody has carried out an order to the coordinator before it expired.
var ErrOrderExpired = errors.New("the order has expired")

// Order is an order to the coordinator: a key that etcd deletes after a while.
type Order struct {
	Key      string
	Revision int64 // the revision at which it was given
	Lease    int64 // the lease that the key lives on
}

// WaitBegun returns when the coordinator has deleted an order, since it has begun to carry it out. The error matches
// ErrOrderExpired if the order's lease has ended before that, and is a *WaitError if ctx ends first.
func (r *Reader) WaitBegun(ctx context.Context, order Order) error {
	last := ""
	err := r.until(ctx, &last, []string{order.Key}, func(ctx context.Context) (bool, error) {
		asking, cancel := context.WithTimeout(ctx, r.Timeout)
		defer cancel()
		found, err := r.Client.Get(asking, order.Key)
		if err != nil {
			return false, etcd.Unreachable(ctx, err)
		}
		if stands(found.Kvs, order) {
			last = "no coordinator has begun with it yet"
			return false, nil
		}
		lease, err := r.Client.TimeToLive(asking, clientv3.LeaseID(order.Lease))
		switch {
		case err != nil:
			return false, etcd.Unreachable(ctx, err)
		case lease.TTL < 0:
			return false, ErrOrderExpired
		}
		return true, nil
	})
	return ended(ctx, "the order", last, err)
}

// WaitOrder calls done with each new record of the source, until done returns true or an error. The error matches
// ErrOrderExpired if the order is gone before that, and is a *WaitError if ctx ends first. WaitOrder returns errors of
// done as they are.
func (r *Reader) WaitOrder(ctx context.Context, order Order, done func(record.Source) (bool, error)) error {
	last := ""
	prefixes := []string{r.Layout.Source(), order.Key}
	err := r.until(ctx, &last, prefixes, func(ctx context.Context) (bool, error) {
		asking, cancel := context.WithTimeout(ctx, r.Timeout)
		defer cancel()
		found, _, err := r.getAll(asking, clientv3.OpGet(r.Layout.Source()), clientv3.OpGet(order.Key))
		if err != nil {
			return false, etcd.Unreachable(ctx, err)
		}
		noted, err := decodeSource(found[0])
		if err != nil {
			return false, err
		}
		if yes, err := done(noted); yes || err != nil {
			return yes, err
		}
		switch {
		case stands(found[1], order):
			last = "no coordinator has carried it out yet"
			if noted.Error != "" {
				last = "the source's last error is: " + noted.Error
			}
			return false, nil
		case noted.Error != "":
			return false, fmt.Errorf("%w; the source's last error is: %s", ErrOrderExpired, noted.Error)
		default:
			return false, ErrOrderExpired
		}
	})
	return ended(ctx, "the order about the source", last, err)
}

// stands says whether etcd still has an order, or a later one with the same key.
func stands(found []*mvccpb.KeyValue, order Order) bool {
	for _, kv := range found {
		if kv.ModRevision >= order.Revision {
			return true
		}
	}
	return false
}
