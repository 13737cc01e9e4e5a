package lease

import (
	"context"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/distributed-resource-manager/drm/internal/mutant"
)

// Committer carries out transactions, each at most once. An error of etcd's is one of rpctypes, and one of ctx is ctx's.
// NewCommitter makes one of a client.
type Committer interface {
	Commit(ctx context.Context, txn *pb.TxnRequest) (*pb.TxnResponse, error)
}

// NewCommitter sends transactions over a client's connection, as they are: clientv3's own builder takes ten objects for
// each conditional put, and copies each comparison, which shows when there are a hundred thousand.
func NewCommitter(client *clientv3.Client) Committer {
	return committer{clientv3.RetryKVClient(client)}
}

type committer struct{ kv pb.KVClient }

// callOptions are clientv3's defaults: to wait for a connection, and to leave limits to the server, but for what is
// beyond any that it could have.
var callOptions = []grpc.CallOption{
	grpc.WaitForReady(true), grpc.MaxCallSendMsgSize(2 << 20), grpc.MaxCallRecvMsgSize(math.MaxInt32),
}

// Commit implements Committer.
func (c committer) Commit(ctx context.Context, txn *pb.TxnRequest) (*pb.TxnResponse, error) {
	resp, err := c.kv.Txn(ctx, txn, callOptions...)
	return resp, clientv3.ContextError(ctx, err)
}

// request builds the parts of a transaction for n ops out of a few pieces of memory.
type request struct {
	keys     []byte
	compares []pb.Compare
	creates  []pb.Compare_CreateRevision
	ops      []pb.RequestOp
	puts     []pb.PutRequest
	putOps   []pb.RequestOp_RequestPut
	deletes  []pb.DeleteRangeRequest
	delOps   []pb.RequestOp_RequestDeleteRange
}

// newRequest has room for the comparisons and the writes of all ops, and for a guard.
func newRequest(results []Result, guard Guard) *request {
	bytes, deletes := len(guard.Key), 0
	for i := range results {
		bytes += len(results[i].Op.Key)
		if results[i].Op.Delete {
			deletes++
		}
	}
	n := len(results)
	return &request{
		keys:     make([]byte, 0, bytes),
		compares: make([]pb.Compare, 0, n+1), creates: make([]pb.Compare_CreateRevision, 0, n+1),
		ops:  make([]pb.RequestOp, 0, n),
		puts: make([]pb.PutRequest, 0, n-deletes), putOps: make([]pb.RequestOp_RequestPut, 0, n-deletes),
		deletes: make([]pb.DeleteRangeRequest, 0, deletes), delOps: make([]pb.RequestOp_RequestDeleteRange, 0, deletes),
	}
}

// key copies a key for both its comparison and its write.
func (r *request) key(key string) []byte {
	from := len(r.keys)
	r.keys = append(r.keys, key...)
	return r.keys[from:len(r.keys):len(r.keys)]
}

// created compares a key's create revision; 0: that there is no such key.
func (r *request) created(key []byte, result pb.Compare_CompareResult, revision int64) *pb.Compare {
	r.creates = append(r.creates, pb.Compare_CreateRevision{CreateRevision: revision})
	r.compares = append(r.compares, pb.Compare{
		Result: result, Target: pb.Compare_CREATE, Key: key, TargetUnion: &r.creates[len(r.creates)-1],
	})
	return &r.compares[len(r.compares)-1]
}

// guarded compares the guard, if there is one.
func (r *request) guarded(guard Guard, compare []*pb.Compare) []*pb.Compare {
	if guard.Key == "" {
		return compare
	}
	return append(compare, r.created(r.key(guard.Key), pb.Compare_EQUAL, guard.CreateRevision))
}

// op is an op's comparison, and its write.
func (r *request) op(op *Op) (*pb.Compare, *pb.RequestOp) {
	key := r.key(op.Key)
	compare := r.created(key, pb.Compare_EQUAL, op.Expect)
	if mutant.Is(mutant.ReleaseAny) && op.Delete || mutant.Is(mutant.ClaimOverAnother) && !op.Delete && op.Expect == 0 {
		compare.Result, r.creates[len(r.creates)-1].CreateRevision = pb.Compare_NOT_EQUAL, -1
	}
	r.ops = append(r.ops, pb.RequestOp{})
	write := &r.ops[len(r.ops)-1]
	if op.Delete {
		r.deletes = append(r.deletes, pb.DeleteRangeRequest{Key: key})
		r.delOps = append(r.delOps, pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &r.deletes[len(r.deletes)-1]})
		write.Request = &r.delOps[len(r.delOps)-1]
		return compare, write
	}
	r.puts = append(r.puts, pb.PutRequest{Key: key, Value: op.Value, Lease: int64(op.Lease)})
	put := &r.puts[len(r.puts)-1]
	if mutant.Is(mutant.UpdateWithoutLease) && op.Expect != 0 {
		put.Lease = 0
	}
	r.putOps = append(r.putOps, pb.RequestOp_RequestPut{RequestPut: put})
	write.Request = &r.putOps[len(r.putOps)-1]
	return compare, write
}

// read asks for a key.
func read(key []byte, keysOnly bool) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key, KeysOnly: keysOnly}}}
}

// nest makes a transaction a part of another.
func nest(txn *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}}
}
