// Package wire reads answers of etcd of which there are many, or which are large: lists of a million keys, their
// events, and the outcomes of a million writes. gRPC's own codec allocates four objects for each key and each write;
// this one allocates a few for a whole answer.
//
// Callers use Lean in place of Options for a call with such an answer, and NewWatchClient for watches. Any other answer
// is read as usual.
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

// Options are clientv3's defaults for a call: it waits for a connection, and leaves limits to the server, except for a
// limit above any that a server could have.
var Options = []grpc.CallOption{
	grpc.WaitForReady(true), grpc.MaxCallSendMsgSize(2 << 20), grpc.MaxCallRecvMsgSize(math.MaxInt32),
}

// Lean are the Options with the codec of this package:
//
//   - Of a TxnResponse that says success, only the header is read, unless all of its operations are reads. So it must
//     not be used for transactions that then read some keys and write others, or whose writes return the previous
//     value.
//   - All keys and values of a RangeResponse, of the reads of a TxnResponse, and of a WatchResponse, share one piece of
//     memory. Copy what is kept for longer than the others.
//
// The slice has no spare capacity, since several callers may append their own options at the same time.
var Lean = slices.Clip(append(slices.Clip(Options), grpc.ForceCodecV2(lean)))

// NewWatchClient is pb.NewWatchClient with the codec of this package. The keys and values of its events share memory,
// as Lean says. An answer may be of any size: etcd sends 1,000 revisions of its history in one, and gRPC by itself
// refuses 4 MiB.
func NewWatchClient(client *clientv3.Client) pb.WatchClient {
	return watchClient{pb.NewWatchClient(client.ActiveConnection())}
}

type watchClient struct{ pb.WatchClient }

func (w watchClient) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	own := []grpc.CallOption{grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.ForceCodecV2(lean)}
	return w.WatchClient.Watch(ctx, append(own, opts...)...)
}

type codec struct{ encoding.CodecV2 }

var lean = codec{encoding.GetCodecV2(proto.Name)}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch resp := v.(type) {
	case *pb.TxnResponse:
		buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buffer.Free()
		if header, reads := succeeded(buffer.ReadOnlyData()); header != nil {
			if reads > 0 && !c.lists(data.Materialize(), reads, resp) {
				resp.Reset()
				break
			}
			if resp.Header = c.header(header); resp.Header != nil {
				resp.Succeeded = true
				return nil
			}
			resp.Reset()
		}
	case *pb.RangeResponse:
		if whole := data.Materialize(); c.list(whole, resp) {
			return nil
		}
		resp.Reset()
	case *Watched:
		return resp.unmarshal(c, data)
	case *pb.WatchResponse:
		if whole := data.Materialize(); c.news(whole, resp) {
			return nil
		}
		resp.Reset()
	}
	return c.CodecV2.Unmarshal(data, v)
}

// header reads a header in the usual way, and returns nil if the message is not one.
func (c codec) header(message []byte) *pb.ResponseHeader {
	h := new(pb.ResponseHeader)
	if c.CodecV2.Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, h) != nil {
		return nil
	}
	return h
}

// count is how many length-delimited fields (messages, texts or bytes) a message has under a tag.
func count(message []byte, tag protowire.Number) (n int) {
	for f := range fields(message) {
		if f.is(tag, protowire.BytesType) {
			n++
		}
	}
	return n
}

// succeeded finds the header of a TxnResponse that certainly says success, or returns nil. reads is how many operations
// it has if all of them are reads, and otherwise 0.
func succeeded(message []byte) (header []byte, reads int) {
	success, others := false, 0
	for f := range fields(message) {
		switch {
		case f.is(1, protowire.BytesType) && header == nil: // two headers would have to be merged
			header = f.bytes
		case f.is(2, protowire.VarintType):
			success = f.number != 0
		case f.is(3, protowire.BytesType):
			switch kind, _ := operation(f.bytes); kind {
			case 0:
				return nil, 0
			case rangeOf:
				reads++
			default:
				others++
			}
		default:
			return nil, 0
		}
	}
	switch {
	case !success:
		return nil, 0
	case others > 0:
		return header, 0
	}
	return header, reads
}

// rangeOf is the tag of a ResponseOp's RangeResponse.
const rangeOf = 1

// operation returns the one field of a ResponseOp, and its tag; 0 if it has none, or several.
func operation(message []byte) (kind protowire.Number, answer []byte) {
	for f := range fields(message) {
		if kind != 0 || f.kind != protowire.BytesType {
			return 0, nil
		}
		kind, answer = f.tag, f.bytes
	}
	return kind, answer
}

// lists reads the n operations of a TxnResponse, which are all reads.
func (c codec) lists(message []byte, n int, resp *pb.TxnResponse) bool {
	all := make([]struct {
		of    pb.ResponseOp
		which pb.ResponseOp_ResponseRange
		list  pb.RangeResponse
	}, n)
	resp.Responses = make([]*pb.ResponseOp, 0, n)
	for f := range fields(message) {
		if !f.is(3, protowire.BytesType) {
			continue
		}
		op := &all[len(resp.Responses)]
		if _, answer := operation(f.bytes); !c.list(answer, &op.list) {
			return false
		}
		op.which.ResponseRange = &op.list
		op.of.Response = &op.which
		resp.Responses = append(resp.Responses, &op.of)
	}
	return true
}

// list reads a RangeResponse that has only the known fields. Its keys and values are parts of message.
func (c codec) list(message []byte, resp *pb.RangeResponse) bool {
	n := count(message, 2)
	kvs := make([]mvccpb.KeyValue, n)
	resp.Kvs = make([]*mvccpb.KeyValue, 0, n)
	for f := range fields(message) {
		switch {
		case f.is(1, protowire.BytesType) && resp.Header == nil: // two headers would have to be merged
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

// news reads a WatchResponse that has events and nothing else. Their keys and values are parts of message.
func (c codec) news(message []byte, resp *pb.WatchResponse) bool {
	n := count(message, 11)
	if n == 0 {
		return false
	}
	events, kvs := make([]mvccpb.Event, n), make([]mvccpb.KeyValue, n)
	resp.Events = make([]*mvccpb.Event, 0, n)
	for f := range fields(message) {
		switch {
		case f.is(1, protowire.BytesType) && resp.Header == nil: // two headers would have to be merged
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
		case f.is(2, protowire.BytesType) && ev.Kv == nil: // two key-values would have to be merged
			if ev.Kv = kv; !keyValue(f.bytes, kv) {
				return false
			}
		case f.is(3, protowire.BytesType) && ev.PrevKv == nil:
			if ev.PrevKv = new(mvccpb.KeyValue); !keyValue(f.bytes, ev.PrevKv) {
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

// field is one field of a message, of one of the two wire types that etcd's answers have.
type field struct {
	tag    protowire.Number // 0: the rest is not understood
	kind   protowire.Type
	bytes  []byte
	number uint64
}

func (f field) is(tag protowire.Number, kind protowire.Type) bool {
	return f.tag == tag && f.kind == kind
}

// fields iterates over a message's fields. If it does not understand one, it yields a field without a tag, and ends.
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
