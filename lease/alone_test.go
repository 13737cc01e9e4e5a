package lease_test

import (
	"context"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/lease"
)

// answering is an etcd that answers at once, so that only the Writer is measured. If conflict is not 0, no flat
// transaction succeeds, and every conflict-th nested one fails.
type answering struct{ conflict int }

// Commit implements lease.Committer.
func (a answering) Commit(_ context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: 7}, Succeeded: true}
	nested := req.Success[0].GetRequestTxn() != nil
	if a.conflict == 0 {
		return resp, nil
	}
	if !nested {
		resp.Succeeded = false
		for _, op := range req.Failure {
			found := &pb.RangeResponse{}
			if string(op.GetRequestRange().Key) == "guard" {
				found.Kvs = []*mvccpb.KeyValue{{CreateRevision: 3}}
			}
			one := &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: found}}
			resp.Responses = append(resp.Responses, one)
		}
		return resp, nil
	}
	for i := range req.Success {
		one := &pb.TxnResponse{Succeeded: i%a.conflict != 0}
		if !one.Succeeded {
			one.Responses = []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{
				Kvs: []*mvccpb.KeyValue{{CreateRevision: 5, Lease: 9}},
			}}}}
		}
		resp.Responses = append(resp.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: one}})
	}
	return resp, nil
}

// BenchmarkWriter measures what the Writer itself takes for a transaction of 127 claims.
func BenchmarkWriter(b *testing.B) {
	const claims = 127
	value := []byte(`{"member":"worker-17","state":"claimed","since":"2020-01-02T03:04:05Z"}`)
	for _, test := range []struct {
		name     string
		vacant   bool
		conflict int
	}{{"claims", false, 0}, {"claims of shards that were empty", true, 0}, {"conflicts", false, 16}} {
		b.Run(test.name, func(b *testing.B) {
			done := make(chan int, 16)
			guard := lease.Guard{Key: "guard", CreateRevision: 3}
			w := lease.NewWriter(answering{test.conflict}, guard, lease.WriterOptions{Distinct: true},
				func(results []lease.Result) { done <- len(results) })
			defer w.Close()
			ops := make([]lease.Op, claims)
			for i := range ops {
				key := fmt.Sprintf("/drm/app/shards/0001/claims/%04d", i)
				ops[i] = lease.Op{Key: key, Vacant: test.vacant, Value: value, Lease: 9}
			}
			b.ReportAllocs()
			for b.Loop() {
				w.Submit(ops...)
				for n := 0; n < claims; {
					n += <-done
				}
			}
		})
	}
}
