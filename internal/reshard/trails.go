package reshard

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/shard"
)

// mostTrails is how many trails one transaction writes. A trail names resources whose shards differ from now on.
const mostTrails = 16

// moveTrail takes out of a trail what belongs to other shards, and adds it to the trails of that lease there. Each
// transaction moves whole names, so that none is lost and none is there twice.
func (j *Job) moveTrail(ctx context.Context, key keys.Key, kv *mvccpb.KeyValue) error {
	most := mostTrails
	kv, err := j.fresh(ctx, string(kv.Key)) // another trail of its page may have got something that belongs here
	if err != nil {
		return err
	}
	for kv != nil {
		t, err := claims.DecodeTrail(kv.Value)
		if err != nil {
			return nil //nolint:nilerr // what is not understood is left alone
		}
		parts := j.split(t)
		others := make([]int, 0, len(parts))
		for n := range parts {
			if n != key.Number {
				others = append(others, n)
			}
		}
		if len(others) == 0 {
			return nil
		}
		slices.Sort(others)
		rest, err := j.splitOff(ctx, key, kv, parts, others[:min(len(others), most)])
		switch {
		case errors.Is(err, rpctypes.ErrTooManyOps) && most > 1:
			most = 1
		case err != nil:
			return err
		default:
			kv = rest
		}
	}
	return nil
}

// fresh reads a key; nil: there is none.
func (j *Job) fresh(ctx context.Context, key string) (*mvccpb.KeyValue, error) {
	asking, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	resp, err := j.Client.Get(asking, key)
	if err != nil {
		return nil, fmt.Errorf("read a trail: %w", err)
	}
	if len(resp.Kvs) == 0 {
		return nil, nil
	}
	return resp.Kvs[0], nil
}

// splitOff moves the parts of a trail that belong to some other shards. It returns the trail as it is afterwards, nil
// if nothing is left of it.
func (j *Job) splitOff(
	ctx context.Context, key keys.Key, kv *mvccpb.KeyValue, parts map[int]claims.Trail, others []int,
) (*mvccpb.KeyValue, error) {
	cmps := append(j.unchanged(), clientv3.Compare(clientv3.ModRevision(string(kv.Key)), "=", kv.ModRevision))
	var ops []clientv3.Op
	for _, n := range others {
		to := j.Layout.Trail(n, key.Lease)
		there, err := j.fresh(ctx, to)
		if err != nil {
			return nil, err
		}
		part, revision := parts[n], int64(0)
		if there != nil {
			revision = there.ModRevision
			if t, err := claims.DecodeTrail(there.Value); err == nil {
				part = join(t, part)
			}
		}
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(to), "=", revision))
		ops = append(ops, clientv3.OpPut(to, string(part.Encode())))
		delete(parts, n)
	}
	var rest claims.Trail
	for _, n := range slices.Sorted(maps.Keys(parts)) {
		rest = join(rest, parts[n])
	}
	if len(rest.IDs) == 0 {
		ops = append(ops, clientv3.OpDelete(string(kv.Key)))
	} else {
		ops = append(ops, clientv3.OpPut(string(kv.Key), string(rest.Encode())))
	}
	asking, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	resp, err := j.Client.Txn(asking).If(cmps...).Then(ops...).Commit()
	switch {
	case err != nil:
		return nil, fmt.Errorf("move a trail: %w", err)
	case !resp.Succeeded:
		return nil, errOvertaken
	}
	j.report.Moved++
	if err := j.written("trail"); err != nil || len(rest.IDs) == 0 {
		return nil, err
	}
	return &mvccpb.KeyValue{Key: kv.Key, Value: rest.Encode(), ModRevision: resp.Header.Revision}, nil
}

// split cuts a trail into the parts that belong to each shard.
func (j *Job) split(t claims.Trail) map[int]claims.Trail {
	parts := map[int]claims.Trail{}
	for i, id := range t.IDs {
		n := shard.Of(id, j.To)
		part, begun := parts[n]
		if !begun {
			part = t
			part.IDs, part.Returned = nil, 0
		}
		part.IDs = append(part.IDs, id)
		if i < t.Returned {
			part.Returned++
		}
		parts[n] = part
	}
	return parts
}

// join makes one trail of two of one lease. What had returned comes first.
func join(a, b claims.Trail) claims.Trail {
	if len(a.IDs) == 0 {
		return b
	}
	if len(b.IDs) == 0 {
		return a
	}
	joined := a
	joined.IDs = slices.Concat(a.IDs[:a.Returned], b.IDs[:b.Returned], a.IDs[a.Returned:], b.IDs[b.Returned:])
	joined.Returned = a.Returned + b.Returned
	joined.Alone = a.Alone && b.Alone
	if b.At.After(a.At) {
		joined.At = b.At
	}
	return joined
}
