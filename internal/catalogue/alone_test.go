package catalogue_test

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// answering is an empty etcd that answers at once, so that only the catalogue is measured. With conflict, no flat
// transaction that writes succeeds, and every nested one does.
type answering struct{ conflict bool }

// Commit implements txn.Committer.
func (a answering) Commit(_ context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: 7}, Succeeded: true}
	done := req.Success
	if a.conflict && len(done) > 0 && done[0].GetRequestPut() != nil {
		resp.Succeeded, done = false, req.Failure
	}
	for _, op := range done {
		one := &pb.ResponseOp{}
		switch {
		case op.GetRequestTxn() != nil:
			one.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: &pb.TxnResponse{Succeeded: true}}
		case op.GetRequestRange() != nil:
			one.Response = &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{
				Kvs: []*mvccpb.KeyValue{{Key: op.GetRequestRange().Key, CreateRevision: 3}},
			}}
		}
		resp.Responses = append(resp.Responses, one)
	}
	return resp, nil
}

// nothing is a Lister of an empty catalogue.
type nothing struct{}

// List implements catalogue.Lister.
func (nothing) List(context.Context, string) ([]*mvccpb.KeyValue, int64, error) { return nil, 7, nil }

// BenchmarkApply measures what the catalogue itself takes to write 10,000 new entries.
func BenchmarkApply(b *testing.B) {
	all := items(0, 10_000)
	for name, conflict := range map[string]bool{"new": false, "conflicts": true} {
		b.Run(name, func(b *testing.B) {
			store := &catalogue.Store{
				Etcd: answering{conflict}, Layout: keys.New("/drm", "app"), Shards: 16, Config: 3,
				Timeout: time.Minute, Limits: new(txn.Limits),
			}
			rules := catalogue.Rules{Share: 0.5, MoreThan: 10, Now: func() time.Duration { return 0 }}
			b.ReportAllocs()
			for b.Loop() {
				y := store.NewSync(store.Layout.Coordinator(), 3, rules)
				if err := y.Load(b.Context(), nothing{}); err != nil {
					b.Fatal(err)
				}
				y.Ask()
				out, err := y.Apply(b.Context(), catalogue.Answer{Items: all}, 7)
				if err != nil || out.Added != len(all) {
					b.Fatalf("%+v, %v", out, err)
				}
			}
		})
	}
}
