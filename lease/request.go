package lease

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/distributed-resource-manager/drm/internal/txn"
)

// request builds the parts of a transaction.
type request struct{ *txn.Batch }

// newRequest has room for a guard, the writes of all ops, and as many comparisons as there are spans.
func newRequest(results []Result, spans []txn.Span, guard Guard) request {
	size := txn.Size{KeyBytes: len(guard.Key), Creates: len(spans) + 1}
	for i := range results {
		op := &results[i].Op
		size.KeyBytes += len(op.Key)
		if op.Delete {
			size.Deletes++
		} else {
			size.Puts++
		}
	}
	for _, s := range spans {
		if s.To-s.From > 1 {
			size.KeyBytes += txn.EndBytes(results[s.To-1].Op.Key)
		}
	}
	return request{txn.NewBatch(size)}
}

// spans are the runs of ops that are compared as one.
func spans(results []Result) []txn.Span {
	return txn.Spans(len(results), func(i int) bool { return together(&results[i-1].Op, &results[i].Op) })
}

// together says whether two ops that follow each other are compared as one.
func together(a, b *Op) bool {
	return a.Vacant && b.Vacant && !a.Delete && !b.Delete && a.Expect == 0 && b.Expect == 0 &&
		a.Group == b.Group && a.Key < b.Key
}

// guarded compares the guard, if there is one.
func (r request) guarded(guard Guard, compare []*pb.Compare) []*pb.Compare {
	if guard.Key == "" {
		return compare
	}
	return append(compare, r.Created(r.Key(guard.Key), guard.CreateRevision))
}

// compare is an op's comparison.
func (r request) compare(op *Op, key []byte) *pb.Compare {
	return r.Created(key, op.Expect)
}

// write is what an op does.
func (r request) write(op *Op, key []byte) *pb.RequestOp {
	if op.Delete {
		return r.Delete(key)
	}
	return r.Put(key, op.Value, int64(op.Lease))
}
