package lease

import (
	"errors"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/txn"
)

// inspectMost is up to how many ops a flat transaction also asks for what is there instead. That makes a conflict in a
// small batch, the common one, cost no second request; in a large batch it would slow down those without a conflict.
const inspectMost = 8

// flat carries out ops in one transaction that does all or nothing, the fastest that etcd has. Where it did nothing, the
// ops that are not known to be in conflict are tried each on its own, in a second one.
func (w *Writer) flat(results []Result) {
	n, spans, guard := len(results), spans(results), w.guardOf(results)
	r := newRequest(results, spans, guard)
	req := &pb.TxnRequest{
		Compare: r.guarded(guard, make([]*pb.Compare, 0, 1+len(spans))),
		Success: make([]*pb.RequestOp, n), Failure: make([]*pb.RequestOp, 0, 1+inspectMost),
	}
	if guard.Key != "" {
		req.Failure = append(req.Failure, txn.Look([]byte(guard.Key)))
	}
	for _, s := range spans {
		for i := s.From; i < s.To; i++ {
			op := &results[i].Op
			key := r.Key(op.Key)
			switch {
			case op.Any:
			case s.To-s.From == 1:
				req.Compare = append(req.Compare, r.compare(op, key))
			case i == s.From:
				req.Compare = append(req.Compare, r.Absent(key, results[s.To-1].Op.Key))
			}
			req.Success[i] = r.write(op, key)
			if n <= inspectMost {
				req.Failure = append(req.Failure, txn.Get(key))
			}
		}
	}
	resp, err := w.commit(req)
	if err != nil {
		if isReceiveLimit(err) {
			// What was written is answered with next to nothing, so if it is the answer that is too large, nothing was.
			err = fmt.Errorf("%w: %w", ErrTooLarge, err)
		}
		w.fail(results, req, err, w.flat)
		return
	}
	if resp.Succeeded {
		for i := range results {
			results[i].Revision = resp.Header.Revision
			results[i].Applied = true
		}
		return
	}
	found := resp.Responses
	if guard.Key != "" {
		if createRevision(found[0].GetResponseRange().Kvs) != guard.CreateRevision {
			guardFailed(results, resp.Header.Revision)
			return
		}
		found = found[1:]
	}
	if len(found) == 0 {
		w.nested(results)
		return
	}
	var rest []int
	for i := range results {
		kvs := found[i].GetResponseRange().Kvs
		if op := &results[i].Op; op.Any || createRevision(kvs) == op.Expect {
			rest = append(rest, i)
			continue
		}
		results[i].Revision = resp.Header.Revision
		results[i].Found = foundOf(kvs)
	}
	if len(rest) == 0 {
		return
	}
	again := make([]Result, len(rest))
	for i, at := range rest {
		again[i].Op = results[at].Op
	}
	w.nested(again)
	for i, at := range rest {
		results[at] = again[i]
	}
}

// guardOf is the guard of a transaction: none where it only deletes.
func (w *Writer) guardOf(results []Result) Guard {
	for i := range results {
		if !results[i].Op.Delete {
			return w.guard
		}
	}
	return Guard{}
}

// nested carries out ops in one transaction that decides on each of them by itself.
func (w *Writer) nested(results []Result) {
	guard := w.guardOf(results)
	r := newRequest(results, make([]txn.Span, len(results)), guard)
	req := &pb.TxnRequest{Compare: r.guarded(guard, nil), Success: make([]*pb.RequestOp, len(results))}
	for i := range results {
		op := &results[i].Op
		key := r.Key(op.Key)
		one := &pb.TxnRequest{Success: []*pb.RequestOp{r.write(op, key)}, Failure: []*pb.RequestOp{txn.Get(key)}}
		if !op.Any {
			one.Compare = []*pb.Compare{r.compare(op, key)}
		}
		req.Success[i] = txn.Nest(one)
	}
	resp, err := w.commit(req)
	if err != nil {
		w.fail(results, req, err, w.nested)
		return
	}
	if !resp.Succeeded {
		guardFailed(results, resp.Header.Revision)
		return
	}
	for i := range results {
		one := resp.Responses[i].GetResponseTxn()
		results[i].Revision = resp.Header.Revision
		results[i].Applied = one.Succeeded
		if !one.Succeeded {
			results[i].Found = foundOf(one.Responses[0].GetResponseRange().Kvs)
		}
	}
}

// fail gives the results of a transaction that returned an error. One that etcd does not take goes in parts, of what is known
// of its limits then.
func (w *Writer) fail(results []Result, req *pb.TxnRequest, err error, write func([]Result)) {
	limits := w.opts.Limits
	if !errors.Is(err, ErrTooLarge) {
		err = classify(limits.TooMany(err, req))
	}
	if errors.Is(err, ErrTooLarge) && len(results) > 1 {
		if !errors.Is(err, rpctypes.ErrTooManyOps) {
			bytes := 0
			for i := range results {
				bytes += size(&results[i].Op)
			}
			limits.TooLarge(bytes)
		}
		for half := (len(results) + 1) / 2; len(results) > 0; {
			n := min(half, len(results), w.most()) // which may be learnt to be less on the way
			write(results[:n])
			results = results[n:]
		}
		return
	}
	for i := range results {
		results[i].Err = err
	}
}

// classify tells what an error of a transaction means for its ops. clientv3 does not repeat a write unless it was surely
// not done, so that an error is the outcome of one attempt.
func classify(err error) error {
	var etcd rpctypes.EtcdError
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return fmt.Errorf("%w: %w", ErrLeaseGone, err)
	case errors.Is(err, rpctypes.ErrTooManyOps), errors.Is(err, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "trying to send message larger than max"):
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

// isReceiveLimit tells gRPC's limit on what is received, which has no error value: by etcd, or by the client. It is above
// etcd's own, unless one of them was configured.
func isReceiveLimit(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "received message larger than max")
}

func guardFailed(results []Result, revision int64) {
	for i := range results {
		results[i].Revision = revision
		results[i].Err = ErrGuard
	}
}

func createRevision(kvs []*mvccpb.KeyValue) int64 {
	if len(kvs) == 0 {
		return 0
	}
	return kvs[0].CreateRevision
}

func foundOf(kvs []*mvccpb.KeyValue) Found {
	if len(kvs) == 0 {
		return Found{}
	}
	return Found{CreateRevision: kvs[0].CreateRevision, Lease: clientv3.LeaseID(kvs[0].Lease), Value: kvs[0].Value}
}
