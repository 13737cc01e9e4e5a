package picture

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/distributed-resource-manager/drm/internal/deed"
)

// mostPast is how many earlier values of a key are read, since each costs a request.
const mostPast = 5

// Past is a value that a key has had.
type Past struct {
	Revision int64  // when it was written
	Text     string // what it says, for people

	// By is who has written it by a command, and Why the reason that they gave; empty where that is not known.
	By, Why string
}

// history lists the values that a key has had since its creation, the latest first: the one at a revision, and those
// before it that etcd still has, mostPast at most.
func (r *Reader) history(ctx context.Context, key string, revision int64, text func([]byte) string) ([]Past, error) {
	all := []Past{}
	for len(all) <= mostPast {
		resp, err := r.page(ctx, key, "", revision, 0)
		switch {
		case errors.Is(err, rpctypes.ErrCompacted):
			return all, nil
		case err != nil:
			return nil, err
		case len(resp.Kvs) == 0:
			return all, nil
		}
		kv := resp.Kvs[0]
		all = append(all, Past{Revision: kv.ModRevision, Text: text(kv.Value)})
		if kv.Version <= 1 {
			return all, nil
		}
		revision = kv.ModRevision - 1
	}
	return all, nil
}

// deedAt returns who has made the changes of a revision by a command, and why, as far as etcd still has a record of it.
func (r *Reader) deedAt(ctx context.Context, revision int64) (deed.Origin, error) {
	resp, err := r.page(ctx, r.Layout.Deed(), "", revision, 0)
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return deed.Origin{}, nil
	case err != nil:
		return deed.Origin{}, err
	case len(resp.Kvs) == 0 || resp.Kvs[0].ModRevision != revision:
		return deed.Origin{}, nil
	}
	d, _ := deed.Decode(resp.Kvs[0].Value) // what cannot be read says nothing
	return d.Origin(), nil
}
