package txn

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto" // registers the codec too
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// terse is gRPC's own codec, but that it leaves out what etcd answers to each write of a transaction that succeeded: there
// is nothing in it that the header does not say, and to read it takes four objects a write.
type terse struct{ encoding.CodecV2 }

var codec = terse{encoding.GetCodecV2(proto.Name)}

// The fields of a TxnResponse.
const (
	headerField    = protowire.Number(1)
	succeededField = protowire.Number(2)
)

// Unmarshal implements encoding.CodecV2.
func (c terse) Unmarshal(data mem.BufferSlice, v any) error {
	resp, ok := v.(*pb.TxnResponse)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	header, succeeded := split(buffer.ReadOnlyData())
	if !succeeded {
		return c.CodecV2.Unmarshal(data, v)
	}
	resp.Succeeded, resp.Header = true, new(pb.ResponseHeader)
	return c.CodecV2.Unmarshal(mem.BufferSlice{mem.SliceBuffer(header)}, resp.Header)
}

// split finds the header of an answer that surely says that the transaction succeeded.
func split(message []byte) (header []byte, succeeded bool) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, false
		}
		message = message[n:]
		switch {
		case number == headerField && kind == protowire.BytesType && header == nil: // two would have to be merged
			header, n = protowire.ConsumeBytes(message)
		case number == succeededField && kind == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(message)
			succeeded = v != 0
		case number == headerField:
			return nil, false
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return nil, false
		}
		message = message[n:]
	}
	return header, succeeded && header != nil
}
