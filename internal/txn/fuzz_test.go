package txn

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// Whatever the message, the terse codec reads of it what gRPC's own does, as far as it reads.
func FuzzTerse(f *testing.F) {
	for _, resp := range []*pb.TxnResponse{
		{},
		{Header: &pb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: 3, RaftTerm: 4}, Succeeded: true},
		{
			Header: &pb.ResponseHeader{Revision: 1 << 40}, Succeeded: true,
			Responses: []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}}},
		},
	} {
		message, err := proto.Marshal(resp)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message)
	}
	f.Add([]byte{0x10, 1, 0x0a, 2, 0x18, 7, 0x10, 0}) // succeeded, and then not
	f.Fuzz(func(t *testing.T, message []byte) {
		var whole, terse pb.TxnResponse
		if err := codec.CodecV2.Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, &whole); err != nil {
			return
		}
		if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, &terse); err != nil {
			t.Fatalf("gRPC's codec reads it, and terse says %v", err)
		}
		if whole.Succeeded != terse.Succeeded || !proto.Equal(whole.Header, terse.Header) || !whole.Succeeded && !proto.Equal(&whole, &terse) {
			t.Errorf("got %v, want %v", &terse, &whole)
		}
	})
}
