package wire

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/encoding"
)

func BenchmarkRangeResponse(b *testing.B) {
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 1 << 30}}
	for n := range 1000 {
		key := fmt.Sprintf("/drm/app/shards/03ff/resources/resource-%07d", n)
		resp.Kvs = append(
			resp.Kvs,
			&mvccpb.KeyValue{
				Key:            []byte(key),
				Value:          make([]byte, 190),
				CreateRevision: 1 << 29,
				ModRevision:    1 << 30,
				Version:        2,
			},
		)
	}
	message := encoded(b, resp)
	for name, c := range map[string]encoding.CodecV2{"grpc": lean.CodecV2, "lean": lean} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var resp pb.RangeResponse
				if err := read(c, message, &resp); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWatchResponse(b *testing.B) {
	resp := &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: 1 << 30}, WatchId: 7}
	for n := range 100 {
		key := fmt.Sprintf("/drm/app/shards/03ff/claims/resource-%07d", n)
		resp.Events = append(resp.Events, &mvccpb.Event{Kv: &mvccpb.KeyValue{
			Key:            []byte(key),
			Value:          make([]byte, 90),
			CreateRevision: 1 << 30,
			ModRevision:    1 << 30,
			Version:        1,
			Lease:          1 << 60,
		}})
	}
	message := encoded(b, resp)
	for name, c := range map[string]encoding.CodecV2{"grpc": lean.CodecV2, "lean": lean} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var resp pb.WatchResponse
				if err := read(c, message, &resp); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
