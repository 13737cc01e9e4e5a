package picture

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
)

// pageSize is how many keys one request reads, at most.
const pageSize = 2000

// between calls f for all keys from key up to end, without end, at a revision, page by page.
func (r *Reader) between(
	ctx context.Context, key, end string, revision int64, f func(*mvccpb.KeyValue), opts ...clientv3.OpOption,
) error {
	for {
		resp, err := r.page(ctx, key, end, revision, pageSize, opts...)
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			f(kv)
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return nil
		}
		key = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// page reads one key, if end is empty, or the keys from key up to end. Revision 0 means the latest, and limit 0 no
// limit.
func (r *Reader) page(
	ctx context.Context, key, end string, revision, limit int64, opts ...clientv3.OpOption,
) (*clientv3.GetResponse, error) {
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	opts = append(opts, clientv3.WithRev(revision), clientv3.WithLimit(limit))
	if end != "" {
		opts = append(opts, clientv3.WithRange(end))
	}
	resp, err := r.Client.Get(asking, key, opts...)
	return resp, etcd.Unreachable(ctx, err)
}

// first returns the first key from one on, up to end, without its value; nil: there is none.
func (r *Reader) first(ctx context.Context, key, end string) (*mvccpb.KeyValue, error) {
	found, err := etcd.First(ctx, r.Client, r.Timeout, key, end)
	return found, etcd.Unreachable(ctx, err)
}

// getAll makes several reads at one revision: in one transaction, or, if etcd allows fewer operations in one, one after
// the other at the revision of the first. ctx limits all of them. Errors are those of etcd's client; the caller calls
// etcd.Unreachable for them.
func (r *Reader) getAll(ctx context.Context, gets ...clientv3.Op) (found [][]*mvccpb.KeyValue, rev int64, err error) {
	resp, err := r.Client.Txn(ctx).Then(gets...).Commit()
	if err == nil {
		for _, one := range resp.Responses {
			found = append(found, one.GetResponseRange().Kvs)
		}
		return found, resp.Header.Revision, nil
	}
	if !errors.Is(err, rpctypes.ErrTooManyOps) {
		return nil, 0, err
	}
	for _, get := range gets {
		if rev != 0 {
			clientv3.WithRev(rev)(&get)
		}
		resp, err := r.Client.Do(ctx, get)
		if err != nil {
			return nil, 0, err
		}
		if rev == 0 {
			rev = resp.Get().Header.Revision
		}
		found = append(found, resp.Get().Kvs)
	}
	return found, rev, nil
}

// below reads the keys below each of several prefixes, all at one revision. It makes one request if all of them fit
// into a page.
func (r *Reader) below(ctx context.Context, prefixes []string) ([][]*mvccpb.KeyValue, error) {
	return retry(func() ([][]*mvccpb.KeyValue, error) { return r.belowOnce(ctx, prefixes) })
}

func (r *Reader) belowOnce(ctx context.Context, prefixes []string) ([][]*mvccpb.KeyValue, error) {
	limit := max(1, pageSize/len(prefixes))
	gets := make([]clientv3.Op, len(prefixes))
	for i, prefix := range prefixes {
		gets[i] = clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithLimit(int64(limit)))
	}
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	found, revision, err := r.getAll(asking, gets...)
	cancel()
	if err != nil {
		return nil, etcd.Unreachable(ctx, err)
	}
	for i, prefix := range prefixes {
		if len(found[i]) < limit {
			continue
		}
		rest := string(found[i][limit-1].Key) + "\x00"
		add := func(kv *mvccpb.KeyValue) { found[i] = append(found[i], kv) }
		if err := r.between(ctx, rest, clientv3.GetPrefixRangeEnd(prefix), revision, add); err != nil {
			return nil, err
		}
	}
	return found, nil
}
