package picture

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
)

// Prospect is what a plan of a group's future starts from, at one revision. Resources are counted, and not read.
type Prospect struct {
	Group    []*mvccpb.KeyValue // all keys below group/
	Loads    []*mvccpb.KeyValue // all keys below loads/
	Counts   []int              // by shard: how many entries the catalogue has, also those that are suspended
	Revision int64
}

// Prospect reads the group, and what its members say of their shards, and counts what is in each of these.
func (r *Reader) Prospect(ctx context.Context) (*Prospect, error) {
	return retry(func() (*Prospect, error) { return r.prospect(ctx) })
}

func (r *Reader) prospect(ctx context.Context) (*Prospect, error) {
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	found, revision, err := r.getAll(asking,
		clientv3.OpGet(r.Layout.Group(), clientv3.WithPrefix()),
		clientv3.OpGet(r.Layout.Loads(), clientv3.WithPrefix()),
	)
	if err != nil {
		return nil, fmt.Errorf("read the members: %w", etcd.Unreachable(ctx, err))
	}
	counts, err := r.countResources(ctx, revision)
	if err != nil {
		return nil, err
	}
	return &Prospect{Group: found[0], Loads: found[1], Counts: counts, Revision: revision}, nil
}

// GroupAt reads the keys below group/ as they were at a revision. The error matches ErrCompacted or ErrFuture if etcd
// does not have that revision.
func (r *Reader) GroupAt(ctx context.Context, revision int64) ([]*mvccpb.KeyValue, error) {
	resp, err := r.page(ctx, r.Layout.Group(), clientv3.GetPrefixRangeEnd(r.Layout.Group()), revision, 0)
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return nil, fmt.Errorf("revision %d: %w", revision, ErrCompacted)
	case errors.Is(err, rpctypes.ErrFutureRev):
		return nil, fmt.Errorf("revision %d: %w", revision, ErrFuture)
	case err != nil:
		return nil, fmt.Errorf("read the members as they were: %w", err)
	}
	return resp.Kvs, nil
}

// countsAtOnce is how many shards are counted in one request, less than etcd takes operations in a transaction.
const countsAtOnce = 100

// countResources counts the entries of the catalogue in each shard at a revision, without reading them.
func (r *Reader) countResources(ctx context.Context, revision int64) ([]int, error) {
	all := make([]int, 0, r.Shards)
	for len(all) < r.Shards {
		var gets []clientv3.Op
		for n := len(all); n < r.Shards && len(gets) < countsAtOnce; n++ {
			gets = append(gets, clientv3.OpGet(r.Layout.Resources(n),
				clientv3.WithPrefix(), clientv3.WithCountOnly(), clientv3.WithRev(revision)))
		}
		counts, err := r.counts(ctx, gets)
		if err != nil {
			return nil, fmt.Errorf("count the resources of shards: %w", err)
		}
		for _, count := range counts {
			all = append(all, int(count))
		}
	}
	return all, nil
}

// counts carries out some reads that only count: in one transaction or, if etcd takes fewer operations in one, one by
// one.
func (r *Reader) counts(ctx context.Context, gets []clientv3.Op) ([]int64, error) {
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	counts := make([]int64, 0, len(gets))
	resp, err := r.Client.Txn(asking).Then(gets...).Commit()
	if err == nil {
		for _, one := range resp.Responses {
			counts = append(counts, one.GetResponseRange().Count)
		}
		return counts, nil
	}
	if !errors.Is(err, rpctypes.ErrTooManyOps) {
		return nil, etcd.Unreachable(ctx, err)
	}
	for _, get := range gets {
		resp, err := r.Client.Do(asking, get)
		if err != nil {
			return nil, etcd.Unreachable(ctx, err)
		}
		counts = append(counts, resp.Get().Count)
	}
	return counts, nil
}
