// Package wire reads etcd's answers where there are many of them: lists of a million keys, news of them, and what came
// of a million writes. gRPC's own codec takes four objects for each key and each write; this one takes a few for all of
// an answer.
//
// Use Lean in place of Options for a call whose answer is one of those, and NewWatchClient for watches; any other
// answer is read as always.
package wire

import (
	"context"
	"math"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto" // registers the codec too
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Options are clientv3's defaults for a call: to wait for a connection, and to leave limits to the server, but for what
// is beyond any that it could have.
var Options = []grpc.CallOption{
	grpc.WaitForReady(true), grpc.MaxCallSendMsgSize(2 << 20), grpc.MaxCallRecvMsgSize(math.MaxInt32),
}

// Lean are Options with the codec of this package:
//
//   - Of a TxnResponse that tells of success only the header is read. Not for transactions that read anything then, or
//     whose writes return what was there before.
//   - All keys and values of a RangeResponse, and all of a WatchResponse, share one piece of memory. Whoever keeps one of
//     them for longer than the others copies it.
//
// It has no room left: callers append options of their own, at the same time.
var Lean = slices.Clip(append(slices.Clip(Options), grpc.ForceCodecV2(lean)))

// NewWatchClient is pb.NewWatchClient with the codec of this package: what is said at Lean of keys and values goes for
// the events of its watches.
func NewWatchClient(client *clientv3.Client) pb.WatchClient {
	return watchClient{pb.NewWatchClient(client.ActiveConnection())}
}

type watchClient struct{ pb.WatchClient }

func (w watchClient) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	return w.WatchClient.Watch(ctx, append(slices.Clip(opts), grpc.ForceCodecV2(lean))...)
}

type codec struct{ encoding.CodecV2 }

var lean = codec{encoding.GetCodecV2(proto.Name)}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch resp := v.(type) {
	case *pb.TxnResponse:
		buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buffer.Free()
		if header := succeeded(buffer.ReadOnlyData()); header != nil {
			if resp.Header = c.header(header); resp.Header != nil {
				resp.Succeeded = true
				return nil
			}
		}
	case *pb.RangeResponse:
		if whole := data.Materialize(); c.list(whole, resp) {
			return nil
		}
		resp.Reset()
	case *pb.WatchResponse:
		if whole := data.Materialize(); c.news(whole, resp) {
			return nil
		}
		resp.Reset()
	}
	return c.CodecV2.Unmarshal(data, v)
}

// header reads one in the usual way; nil where it is none.
func (c codec) header(message []byte) *pb.ResponseHeader {
	h := new(pb.ResponseHeader)
	if c.CodecV2.Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, h) != nil {
		return nil
	}
	return h
}

// count is how many messages, texts or bytes a message has under a tag.
func count(message []byte, tag protowire.Number) (n int) {
	for f := range fields(message) {
		if f.is(tag, protowire.BytesType) {
			n++
		}
	}
	return n
}

// succeeded finds the header of a TxnResponse that surely tells of success; nil where it does not.
func succeeded(message []byte) (header []byte) {
	success := false
	for f := range fields(message) {
		switch {
		case f.is(1, protowire.BytesType) && header == nil: // two would have to be merged
			header = f.bytes
		case f.is(2, protowire.VarintType):
			success = f.number != 0
		case f.is(3, protowire.BytesType):
		default:
			return nil
		}
	}
	if !success {
		return nil
	}
	return header
}

// list reads a RangeResponse that has nothing in it but what it is known to have. Its keys and values are parts of
// message.
func (c codec) list(message []byte, resp *pb.RangeResponse) bool {
	n := count(message, 2)
	kvs := make([]mvccpb.KeyValue, n)
	resp.Kvs = make([]*mvccpb.KeyValue, 0, n)
	for f := range fields(message) {
		switch {
		case f.is(1, protowire.BytesType) && resp.Header == nil: // two would have to be merged
			if resp.Header = c.header(f.bytes); resp.Header == nil {
				return false
			}
		case f.is(2, protowire.BytesType):
			kv := &kvs[len(resp.Kvs)]
			if !keyValue(f.bytes, kv) {
				return false
			}
			resp.Kvs = append(resp.Kvs, kv)
		case f.is(3, protowire.VarintType):
			resp.More = f.number != 0
		case f.is(4, protowire.VarintType):
			resp.Count = int64(f.number)
		default:
			return false
		}
	}
	return true
}

// news reads a WatchResponse that tells of events and of nothing else. Their keys and values are parts of message.
func (c codec) news(message []byte, resp *pb.WatchResponse) bool {
	n := count(message, 11)
	if n == 0 {
		return false
	}
	events, kvs := make([]mvccpb.Event, n), make([]mvccpb.KeyValue, n)
	resp.Events = make([]*mvccpb.Event, 0, n)
	for f := range fields(message) {
		switch {
		case f.is(1, protowire.BytesType) && resp.Header == nil: // two would have to be merged
			if resp.Header = c.header(f.bytes); resp.Header == nil {
				return false
			}
		case f.is(2, protowire.VarintType):
			resp.WatchId = int64(f.number)
		case f.is(7, protowire.VarintType):
			resp.Fragment = f.number != 0
		case f.is(11, protowire.BytesType):
			ev, kv := &events[len(resp.Events)], &kvs[len(resp.Events)]
			if !event(f.bytes, ev, kv) {
				return false
			}
			resp.Events = append(resp.Events, ev)
		default:
			return false
		}
	}
	return true
}

func event(message []byte, ev *mvccpb.Event, kv *mvccpb.KeyValue) bool {
	for f := range fields(message) {
		switch {
		case f.is(1, protowire.VarintType):
			ev.Type = mvccpb.Event_EventType(f.number)
		case f.is(2, protowire.BytesType) && ev.Kv == nil: // two would have to be merged
			if ev.Kv = kv; !keyValue(f.bytes, kv) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func keyValue(message []byte, kv *mvccpb.KeyValue) bool {
	for f := range fields(message) {
		switch {
		case f.is(1, protowire.BytesType):
			kv.Key = f.bytes
		case f.is(2, protowire.VarintType):
			kv.CreateRevision = int64(f.number)
		case f.is(3, protowire.VarintType):
			kv.ModRevision = int64(f.number)
		case f.is(4, protowire.VarintType):
			kv.Version = int64(f.number)
		case f.is(5, protowire.BytesType):
			kv.Value = f.bytes
		case f.is(6, protowire.VarintType):
			kv.Lease = int64(f.number)
		default:
			return false
		}
	}
	return true
}

// field is one field of a message, of one of the two types that etcd's answers have.
type field struct {
	tag    protowire.Number // 0: what follows is not understood
	kind   protowire.Type
	bytes  []byte
	number uint64
}

func (f field) is(tag protowire.Number, kind protowire.Type) bool {
	return f.tag == tag && f.kind == kind
}

// fields goes through a message's fields. Where it does not understand one, it yields a field without a tag, and ends.
func fields(message []byte) func(yield func(field) bool) {
	return func(yield func(field) bool) {
		for len(message) > 0 {
			var f field
			tag, kind, n := protowire.ConsumeTag(message)
			if n > 0 {
				message = message[n:]
				switch kind {
				case protowire.BytesType:
					f.bytes, n = protowire.ConsumeBytes(message)
				case protowire.VarintType:
					f.number, n = protowire.ConsumeVarint(message)
				default:
					n = -1
				}
			}
			if n < 0 {
				yield(field{})
				return
			}
			f.tag, f.kind, f.bytes = tag, kind, slices.Clip(f.bytes)
			message = message[n:]
			if !yield(f) {
				return
			}
		}
	}
}
