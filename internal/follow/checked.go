package follow

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/lease"
)

// Every answer of etcd has a header with its revision, so every request can show at no cost that the store was rewound.
// What an answer proves depends on the request:
//
//   - Linearizable reads, transactions, and grants and revocations of leases: the member that answers has applied
//     everything that was committed before it was asked. So the revision in the header is at least as high as any
//     that was seen before the request was sent; a lower revision proves that the store went back.
//   - Keepalives and watches: the member at the other end answers with what it has applied, which may lag behind what
//     another member has told. Here a lower revision is only a reason to ask at once.
//   - A cluster's id never changes, whichever member tells it.

// KV returns the client's KV; it checks the header of each answer. Once the store is known to be rewound it sends
// nothing more: such a store uses revisions a second time, so that a comparison may hold for a key that is not meant.
func (h *Hub) KV() clientv3.KV { return checkedKV{h.client, h} }

type checkedKV struct {
	clientv3.KV
	hub *Hub
}

// Get implements clientv3.KV.
func (k checkedKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if clientv3.OpGet(key, opts...).IsSerializable() { // its answer may be older than what was known before
		if _, err := k.hub.before(); err != nil {
			return nil, err
		}
		return k.KV.Get(ctx, key, opts...)
	}
	return checked(k.hub, func() (*clientv3.GetResponse, error) { return k.KV.Get(ctx, key, opts...) },
		func(r *clientv3.GetResponse) *pb.ResponseHeader { return r.Header })
}

// Put implements clientv3.KV.
func (k checkedKV) Put(
	ctx context.Context,
	key, value string,
	opts ...clientv3.OpOption,
) (*clientv3.PutResponse, error) {
	return checked(k.hub, func() (*clientv3.PutResponse, error) { return k.KV.Put(ctx, key, value, opts...) },
		func(r *clientv3.PutResponse) *pb.ResponseHeader { return r.Header })
}

// Txn implements clientv3.KV.
func (k checkedKV) Txn(ctx context.Context) clientv3.Txn { return checkedTxn{k.KV.Txn(ctx), k.hub} }

type checkedTxn struct {
	clientv3.Txn
	hub *Hub
}

// If implements clientv3.Txn.
func (t checkedTxn) If(cs ...clientv3.Cmp) clientv3.Txn { return checkedTxn{t.Txn.If(cs...), t.hub} }

// Then implements clientv3.Txn.
func (t checkedTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	return checkedTxn{t.Txn.Then(ops...), t.hub}
}

// Else implements clientv3.Txn.
func (t checkedTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	return checkedTxn{t.Txn.Else(ops...), t.hub}
}

// Commit implements clientv3.Txn.
func (t checkedTxn) Commit() (*clientv3.TxnResponse, error) {
	return checked(t.hub, t.Txn.Commit, func(r *clientv3.TxnResponse) *pb.ResponseHeader { return r.Header })
}

// Committer returns a Committer that checks the header of each answer, as KV does.
func (h *Hub) Committer(c txn.Committer) txn.Committer { return checkedCommitter{c, h} }

type checkedCommitter struct {
	txn.Committer
	hub *Hub
}

// Commit implements txn.Committer.
func (c checkedCommitter) Commit(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	return checked(c.hub, func() (*pb.TxnResponse, error) { return c.Committer.Commit(ctx, req) },
		(*pb.TxnResponse).GetHeader)
}

// Leases returns a lease.Lessor on the client. Its keepalives share streams, and it checks the header of each answer.
// Once the store is known to be rewound it sends nothing more, as with KV: every write, a revocation too, takes the
// store's revision further, until others who knew the old history can no longer tell the two apart.
func (h *Hub) Leases() Leases { return Leases{h} }

// Rounds renew leases together with those of all hubs that share the client's streams, and check the header of each
// answer.
func (h *Hub) Rounds() *lease.Rounds { return h.rounds }

// Leases sends the client's requests about leases, and checks the answers.
type Leases struct{ hub *Hub }

// Grant asks etcd for a lease, as the client does.
func (l Leases) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	return checked(l.hub, func() (*clientv3.LeaseGrantResponse, error) { return l.hub.renewer.Grant(ctx, ttl) },
		func(r *clientv3.LeaseGrantResponse) *pb.ResponseHeader { return r.ResponseHeader })
}

// KeepAliveOnce renews a lease, as lease.Renewer does. If the store was rewound, it says that the lease does not exist.
func (l Leases) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	if _, err := l.hub.before(); err != nil {
		return nil, fmt.Errorf("%w: %w", rpctypes.ErrLeaseNotFound, err)
	}
	resp, err := l.hub.renewer.KeepAliveOnce(ctx, id)
	if err == nil {
		if err = l.hub.Observe(resp.ResponseHeader); err != nil {
			err = fmt.Errorf("%w: %w", rpctypes.ErrLeaseNotFound, err)
		}
	}
	return resp, err
}

// Revoke deletes a lease, as the client does. If the store is known to be rewound, it says that the lease does not
// exist; the lease expires by itself.
func (l Leases) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	resp, err := checked(l.hub, func() (*clientv3.LeaseRevokeResponse, error) { return l.hub.renewer.Revoke(ctx, id) },
		func(r *clientv3.LeaseRevokeResponse) *pb.ResponseHeader { return r.Header })
	switch {
	case !errors.Is(err, ErrRewound):
		return resp, err
	case resp == nil: // nothing was sent
		return nil, fmt.Errorf("%w: %w", rpctypes.ErrLeaseNotFound, err)
	default:
		return resp, nil // OnRewound reports the rewound store; the lease is revoked all the same
	}
}

// checked sends a linearizable request and checks the header of the answer. If the header shows that the store was
// rewound, it returns both the answer and the error. If that is already known, it sends nothing and returns no answer.
func checked[R any](h *Hub, ask func() (R, error), header func(R) *pb.ResponseHeader) (answer R, err error) {
	before, err := h.before()
	if err != nil {
		return answer, err
	}
	if answer, err = ask(); err == nil {
		err = h.Check(before, header(answer))
	}
	return answer, err
}

// before returns the highest revision seen so far, for Check, or the error of a store that is known to be rewound.
func (t *trunk) before() (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.highest.Load(), t.rewound
}
