package lease

import (
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/distributed-resource-manager/drm/internal/txn"
)

// inspectMost is the largest number of ops for which a flat transaction also asks for what is in the way of each. A
// conflict in a small batch, the common one, then costs no second request; in a large batch the question would slow
// down the ops without a conflict.
const inspectMost = 8

// newSender makes the Sender of a Writer's transactions. Its items are results, whose outcomes it sets.
func newSender(w *Writer, guard Guard) *txn.Sender[Result] {
	s := &txn.Sender[Result]{
		Commit:      w.commit,
		Limits:      w.opts.Limits,
		FreeDeletes: true,
		By:          pb.Compare_CREATE,
		Inspect:     inspectMost,
		MaxOps:      w.opts.MaxOps,
		Write:       writeOf,
		Value:       func(r *Result) []byte { return r.Op.Value },
		Size:        func(r *Result) int { return size(&r.Op) },
		Done:        decided,
		Failed:      failed,
	}
	if guard.Key != "" {
		s.Guards = txn.Guards{{Key: guard.Key, Created: guard.CreateRevision}}
	}
	return s
}

// writeOf describes what an op writes.
func writeOf(r *Result) txn.Write {
	op := &r.Op
	bound := int64(op.Lease)
	if op.Unleased {
		bound = 0
	}
	return txn.Write{
		Key: op.Key, Delete: op.Delete, Lease: bound,
		Any: op.Any, Expect: op.Expect, Mod: op.Modified, Vacant: op.Vacant, Group: op.Group,
	}
}

// decided sets the outcome of an op that etcd has decided on.
func decided(r *Result, got txn.Outcome) {
	r.Revision, r.Applied = got.Revision, got.Applied
	if !got.Applied {
		r.Found = foundOf(got.Found)
	}
}

// failed sets the outcome of the ops of a transaction that etcd did not carry out.
func failed(results []Result, err error) (goOn bool) {
	var revision int64
	var guard *txn.GuardError
	if errors.As(err, &guard) {
		revision, err = guard.Revision, ErrGuard
	} else {
		err = classify(err)
	}
	for i := range results {
		results[i].Revision, results[i].Err = revision, err
	}
	return true
}

// classify tells what an error of a transaction means for its ops. clientv3 repeats a write only when the write was
// certainly not done, so an error is the outcome of one attempt.
func classify(err error) error {
	var etcd rpctypes.EtcdError
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return fmt.Errorf("%w: %w", ErrLeaseGone, err)
	case errors.Is(err, ErrTooLarge):
		return err
	case errors.Is(err, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.As(err, &etcd):
		switch etcd.Code() {
		case codes.ResourceExhausted, codes.PermissionDenied, codes.Unauthenticated, codes.InvalidArgument,
			codes.FailedPrecondition, codes.NotFound:
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

func foundOf(kv *mvccpb.KeyValue) Found {
	if kv == nil {
		return Found{}
	}
	return Found{
		CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Lease: clientv3.LeaseID(kv.Lease),
		Value: kv.Value,
	}
}
