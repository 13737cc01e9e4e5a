package order

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/shard"
)

// keysPerLease is how many orders to try again are on one lease: etcd deletes all keys of a lease at once.
const keysPerLease = 1000

// Retry has a resource tried again at once. It returns what kept the resource from being handled: claims.Quarantined
// if it has freed it, claims.Failed if it has ordered that the member with the claim try again, and "" if there was
// nothing to do.
//
// Errors: picture.ErrNotFound where there is no such resource, appconfig.ErrGone, and those of a Reader.
func (d *Desk) Retry(ctx context.Context, id string, o Options) (was string, err error) {
	switch err := d.free(ctx, id); {
	case err == nil:
		return claims.Quarantined, nil
	case !errors.Is(err, picture.ErrNotFound):
		return "", err
	}
	found, err := d.Reader.Lookup(ctx, id)
	if err != nil || found.State != claims.Failed {
		return "", err
	}
	_, err = d.tryAgain(ctx, []string{id}, o)
	return claims.Failed, err
}

// RetryFailed has all resources tried again at once whose claims say that they have failed. It returns their ids, in
// order, also where it returns an error, but never nil. Its errors are those of Retry, without picture.ErrNotFound.
func (d *Desk) RetryFailed(ctx context.Context, o Options) ([]string, error) {
	ordered := []string{}
	err := d.Reader.EachFailed(ctx, func(ids []string) error {
		given, err := d.tryAgain(ctx, ids, o)
		ordered = append(ordered, given...)
		return err
	})
	slices.Sort(ordered)
	return ordered, err
}

// tryAgain orders that the members with the claims of some resources try again at once. It returns for which it has
// given the order, in as few transactions as etcd takes, one after the other: each order makes a member write, too.
func (d *Desk) tryAgain(ctx context.Context, ids []string, o Options) (given []string, err error) {
	value, err := json.Marshal(o.order(d.now()))
	if err != nil {
		return nil, err
	}
	for part := range slices.Chunk(ids, keysPerLease) {
		var lease int64
		err := d.ask(ctx, func(ctx context.Context) error {
			granted, err := d.Reader.Client.Grant(ctx, int64(life/time.Second))
			if err == nil {
				lease = int64(granted.ID)
			}
			return err
		})
		if err != nil {
			return given, err
		}
		done, err := d.putRetries(ctx, part, value, lease)
		given = append(given, done...)
		if err != nil {
			return given, err
		}
	}
	return given, nil
}

// putRetries writes the keys of such orders under a lease. It returns for which resources it has.
func (d *Desk) putRetries(ctx context.Context, ids []string, value []byte, lease int64) (done []string, err error) {
	committer, layout := txn.New(d.Reader.Client), d.Reader.Layout
	sender := txn.Sender[string]{
		Commit: func(req *pb.TxnRequest) (*pb.TxnResponse, error) {
			asking, cancel := context.WithTimeout(ctx, d.Reader.Timeout)
			defer cancel()
			return committer.Commit(asking, req)
		},
		Limits: &d.limits, Guards: txn.Guards{{Key: layout.Config(), Created: d.Created}}, MaxOps: txn.UsualOps,
		Write: func(id *string) txn.Write {
			return txn.Write{Key: layout.Retry(shard.Of(*id, d.Reader.Shards), *id), Any: true, Lease: lease}
		},
		Value: func(*string) []byte { return value },
		Size:  func(id *string) int { return len(*id) + len(value) + 100 },
		Done:  func(id *string, _ txn.Outcome) { done = append(done, *id) },
		Failed: func(_ []string, failure error) bool {
			if err = etcd.Unreachable(ctx, failure); errors.As(failure, new(*txn.GuardError)) {
				err = appconfig.ErrGone
			}
			return false
		},
	}
	sender.Send(slices.Clone(ids))
	return done, err
}

// free frees a resource that is quarantined. It returns picture.ErrNotFound where the resource is not.
func (d *Desk) free(ctx context.Context, id string) error {
	return d.ask(ctx, func(ctx context.Context) error {
		key := d.Reader.Layout.Quarantine(shard.Of(id, d.Reader.Shards), id)
		resp, err := d.Reader.Client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(key), ">", 0)).
			Then(append([]clientv3.Op{clientv3.OpDelete(key)}, d.noted()...)...).
			Commit()
		if err == nil && !resp.Succeeded {
			return fmt.Errorf("%w: it is not quarantined", picture.ErrNotFound)
		}
		return err
	})
}

// RetryAll frees all resources that are quarantined. It returns the ids of those that it has freed, also where it
// returns an error; it never returns nil.
func (d *Desk) RetryAll(ctx context.Context) ([]string, error) {
	freed := []string{}
	ids, err := d.Reader.Quarantined(ctx)
	if err != nil {
		return freed, err
	}
	for _, id := range ids {
		err := d.free(ctx, id)
		if errors.Is(err, picture.ErrNotFound) { // somebody else was faster
			continue
		}
		if err != nil {
			return freed, fmt.Errorf("resource %q: %w", id, err)
		}
		freed = append(freed, id)
	}
	return freed, nil
}
