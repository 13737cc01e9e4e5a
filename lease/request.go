package lease

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/mutant"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// Committer carries out transactions, each at most once. An error of etcd's is one of rpctypes, and one of ctx is ctx's.
// NewCommitter makes one of a client.
type Committer interface {
	Commit(ctx context.Context, txn *pb.TxnRequest) (*pb.TxnResponse, error)
}

// NewCommitter sends transactions over a client's connection, as they are.
func NewCommitter(client *clientv3.Client) Committer { return txn.New(client) }

// request builds the parts of a transaction.
type request struct{ *txn.Batch }

// newRequest has room for the comparisons and the writes of all ops, and for a guard.
func newRequest(results []Result, guard Guard) request {
	size := txn.Size{KeyBytes: len(guard.Key), Creates: len(results) + 1}
	for i := range results {
		op := &results[i].Op
		size.KeyBytes += len(op.Key)
		if op.Delete {
			size.Deletes++
		} else {
			size.Puts++
		}
	}
	return request{txn.NewBatch(size)}
}

// guarded compares the guard, if there is one.
func (r request) guarded(guard Guard, compare []*pb.Compare) []*pb.Compare {
	if guard.Key == "" || mutant.Is(mutant.ClaimUnguarded) {
		return compare
	}
	return append(compare, r.Created(r.Key(guard.Key), guard.CreateRevision))
}

// op is an op's comparison, and its write.
func (r request) op(op *Op) (*pb.Compare, *pb.RequestOp) {
	key := r.Key(op.Key) // for both
	compare := r.Created(key, op.Expect)
	if mutant.Is(mutant.ReleaseAny) && op.Delete || mutant.Is(mutant.ClaimOverAnother) && !op.Delete && op.Expect == 0 {
		compare.Result, compare.TargetUnion = pb.Compare_NOT_EQUAL, &pb.Compare_CreateRevision{CreateRevision: -1}
	}
	if op.Delete {
		return compare, r.Delete(key)
	}
	lease := op.Lease
	if mutant.Is(mutant.UpdateWithoutLease) && op.Expect != 0 {
		lease = clientv3.NoLease
	}
	return compare, r.Put(key, op.Value, int64(lease))
}
