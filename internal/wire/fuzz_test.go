package wire

import (
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

func encoded(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(c interface {
	Unmarshal(mem.BufferSlice, any) error
}, message []byte, v any,
) error {
	return c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, v)
}

// opOf returns the answer to a read in a transaction.
func opOf(list *pb.RangeResponse) *pb.ResponseOp {
	return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: list}}
}

// For any message: if the transaction succeeded and wrote anything, the header is the one that gRPC's own codec reads;
// otherwise everything is.
func FuzzTxnResponse(f *testing.F) {
	for _, resp := range []*pb.TxnResponse{
		{},
		{Header: &pb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: 3, RaftTerm: 4}, Succeeded: true},
		{
			Header: &pb.ResponseHeader{Revision: 1 << 40}, Succeeded: true,
			Responses: []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}}},
		},
		{
			Header: &pb.ResponseHeader{Revision: 9}, Succeeded: true,
			Responses: []*pb.ResponseOp{opOf(&pb.RangeResponse{}), opOf(&pb.RangeResponse{
				Header: &pb.ResponseHeader{Revision: 8}, Count: 1, More: true,
				Kvs: []*mvccpb.KeyValue{{Key: []byte("k"), Value: []byte("v"), ModRevision: 2, Lease: -4}},
			})},
		},
	} {
		f.Add(encoded(f, resp))
	}
	f.Add([]byte{0x10, 1, 0x0a, 2, 0x18, 7, 0x10, 0})               // succeeded, and then not
	f.Add([]byte{0x10, 1, 0x0a, 2, 0x18, 7, 0x1a, 4, 10, 0, 10, 0}) // a read in two parts
	f.Add([]byte{0x10, 1, 0x0a, 2, 0x18, 7, 0x1a, 3, 10, 1, 0xff})  // a read that is cut short
	f.Add([]byte{0x10, 1, 0x0a, 2, 0x18, 7, 0x0a, 2, 0x20, 7})      // a header in two parts
	f.Add([]byte{0x10, 1, 0x0a, 2, 0x18, 7, 0x3a, 2, 0x20, 7, 1})   // an unknown field that is cut short
	f.Fuzz(func(t *testing.T, message []byte) {
		var whole, part pb.TxnResponse
		if read(lean.CodecV2, message, &whole) != nil {
			return
		}
		if err := read(lean, message, &part); err != nil {
			t.Fatalf("gRPC's codec reads it, and this one says %v", err)
		}
		if whole.Succeeded && slices.ContainsFunc(whole.Responses, func(op *pb.ResponseOp) bool {
			return op.GetResponseRange() == nil
		}) {
			part.Responses, whole.Responses = nil, nil
		}
		if !proto.Equal(&whole, &part) {
			t.Errorf("got %v, want %v", &part, &whole)
		}
	})
}

// For any message, a list is the one that gRPC's own codec reads, or both codecs refuse it.
func FuzzRangeResponse(f *testing.F) {
	for _, resp := range []*pb.RangeResponse{
		{},
		{
			Header: &pb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: 3, RaftTerm: 4}, Count: 2, More: true,
			Kvs: []*mvccpb.KeyValue{
				{Key: []byte("k"), Value: []byte("v"), CreateRevision: 1, ModRevision: 2, Version: 3, Lease: -4},
				{Key: []byte("l")},
			},
		},
	} {
		f.Add(encoded(f, resp))
	}
	f.Add([]byte{0x12, 3, 0x0a, 1, 'k', 0x12, 2, 0x0a, 9})                       // a key that is cut short
	f.Add([]byte{0x0a, 2, 0x18, 7, 0x0a, 2, 0x20, 7, 0x12, 3, 0x0a, 1, 'k'})     // a header in two parts
	f.Add([]byte{0x12, 6, 0x0a, 1, 'k', 0x0a, 1, 'l', 0x12, 4, 0x3a, 2, 'm', 1}) // a key twice, and an unknown field
	f.Fuzz(func(t *testing.T, message []byte) {
		var want, got pb.RangeResponse
		refused, err := read(lean.CodecV2, message, &want), read(lean, message, &got)
		if (refused == nil) != (err == nil) {
			t.Fatalf("gRPC's codec says %v, and this one %v", refused, err)
		}
		if refused == nil && !proto.Equal(&want, &got) {
			t.Errorf("got %v, want %v", &got, &want)
		}
	})
}

// For any message, events are the ones that gRPC's own codec reads, or both codecs refuse them.
func FuzzWatchResponse(f *testing.F) {
	for _, resp := range []*pb.WatchResponse{
		{},
		{Header: &pb.ResponseHeader{Revision: 3}, WatchId: 5, Created: true},
		{
			Header: &pb.ResponseHeader{Revision: 3}, WatchId: 5, Canceled: true, CompactRevision: 2,
			CancelReason: "compacted",
		},
		{
			Header:  &pb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: 3, RaftTerm: 4},
			WatchId: 5, Fragment: true,
			Events: []*mvccpb.Event{
				{Kv: &mvccpb.KeyValue{
					Key: []byte("k"), Value: []byte("v"), CreateRevision: 1, ModRevision: 2, Version: 3, Lease: -4,
				}},
				{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte("l"), ModRevision: 3}},
				{Kv: &mvccpb.KeyValue{Key: []byte("m")}, PrevKv: &mvccpb.KeyValue{Key: []byte("m")}},
			},
		},
		{Events: []*mvccpb.Event{{}, {Kv: &mvccpb.KeyValue{Key: []byte("k"), Value: []byte("v")}}}},
	} {
		f.Add(encoded(f, resp))
	}
	f.Add([]byte{0x5a, 10, 0x12, 3, 0x0a, 1, 'k', 0x12, 3, 0x2a, 1, 'v'}) // an event in two parts
	f.Add([]byte{0x5a, 5, 0x12, 3, 0x0a, 9, 'k'})                         // a key that is cut short
	f.Add([]byte{0x5a, 0, 0x32, 1, 0xff})                                 // a reason that is not UTF-8
	f.Fuzz(func(t *testing.T, message []byte) {
		var want, got pb.WatchResponse
		refused, err := read(lean.CodecV2, message, &want), read(lean, message, &got)
		if (refused == nil) != (err == nil) {
			t.Fatalf("gRPC's codec says %v, and this one %v", refused, err)
		}
		if refused == nil && !proto.Equal(&want, &got) {
			t.Errorf("got %v, want %v", &got, &want)
		}
		var w Watched
		err = read(lean, message, &w)
		if err == nil {
			n := w.Count
			for e, oops := range w.Events() {
				if err = oops; oops == nil {
					w.Head.Events = append(w.Head.Events, e)
				}
			}
			if err == nil && len(w.Head.Events) != n {
				t.Errorf("%d events, want %d", len(w.Head.Events), n)
			}
		}
		if (refused == nil) != (err == nil) {
			t.Fatalf("gRPC's codec says %v, and event by event it is %v", refused, err)
		}
		if refused == nil && !proto.Equal(&want, w.Head) {
			t.Errorf("event by event: got %v, want %v", w.Head, &want)
		}
	})
}
