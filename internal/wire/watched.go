package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Watched is an answer of a watch whose events are read one by one. etcd's answers about its history may have more than
// a hundred thousand events: as a pb.WatchResponse, these would need three times as much memory as they came in.
type Watched struct {
	Head  *pb.WatchResponse // all but the events
	Count int               // of the events
	Bytes int               // of the answer
	rest  *mem.Reader
	whole []*mvccpb.Event // of an answer that only gRPC's codec understands
}

// RecvWatched receives the next answer on the stream of a watch of NewWatchClient.
func RecvWatched(stream grpc.ClientStream) (*Watched, error) {
	w := new(Watched)
	if err := stream.RecvMsg(w); err != nil {
		return nil, err
	}
	return w, nil
}

var errMalformed = errors.New("an answer of a watch is malformed")

// eventsOf is the tag of a WatchResponse's events.
const eventsOf = 11

// unmarshal takes over an answer.
func (w *Watched) unmarshal(c codec, data mem.BufferSlice) error {
	w.Head, w.Bytes = new(pb.WatchResponse), data.Len()
	if err := w.split(c, data); err == nil {
		w.rest = data.Reader()
		return nil
	}
	if err := c.CodecV2.Unmarshal(data, w.Head); err != nil {
		return err
	}
	w.whole, w.Head.Events = w.Head.Events, nil
	w.Count = len(w.whole)
	return nil
}

// split reads all but the events, and counts these.
func (w *Watched) split(c codec, data mem.BufferSlice) error {
	var head []byte
	for r := data.Reader(); r.Remaining() > 0; {
		tag, kind, err := readTag(r)
		if err != nil {
			return err
		}
		switch {
		case tag == eventsOf && kind == protowire.BytesType:
			n, err := readLength(r)
			if err != nil {
				return err
			}
			if _, err := r.Discard(n); err != nil {
				return errMalformed
			}
			w.Count++
		case kind == protowire.BytesType:
			n, err := readLength(r)
			if err != nil {
				return err
			}
			value := make([]byte, n)
			if _, err := io.ReadFull(r, value); err != nil {
				return errMalformed
			}
			head = protowire.AppendBytes(protowire.AppendTag(head, tag, kind), value)
		case kind == protowire.VarintType:
			value, err := binary.ReadUvarint(r)
			if err != nil {
				return errMalformed
			}
			head = protowire.AppendVarint(protowire.AppendTag(head, tag, kind), value)
		default:
			return errMalformed
		}
	}
	return c.CodecV2.Unmarshal(mem.BufferSlice{mem.SliceBuffer(head)}, w.Head)
}

// Events yields the events, once: what was read is not kept. An error ends them.
func (w *Watched) Events() iter.Seq2[*mvccpb.Event, error] {
	return func(yield func(*mvccpb.Event, error) bool) {
		defer w.Close()
		for _, e := range w.whole {
			if !yield(e, nil) {
				return
			}
		}
		for w.rest != nil && w.rest.Remaining() > 0 {
			e, err := w.next()
			if err != nil {
				yield(nil, err)
				return
			}
			if e != nil && !yield(e, nil) {
				return
			}
		}
	}
}

// next reads the next field, which unmarshal has found to be whole; nil: it is no event.
func (w *Watched) next() (*mvccpb.Event, error) {
	tag, kind, err := readTag(w.rest)
	if err != nil {
		return nil, err
	}
	if kind == protowire.VarintType {
		_, err := binary.ReadUvarint(w.rest)
		return nil, err
	}
	n, err := readLength(w.rest)
	if err != nil {
		return nil, err
	}
	if tag != eventsOf {
		_, err := w.rest.Discard(n)
		return nil, err
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(w.rest, message); err != nil {
		return nil, err
	}
	one := new(struct {
		event mvccpb.Event
		kv    mvccpb.KeyValue
	})
	if event(message, &one.event, &one.kv) {
		return &one.event, nil
	}
	e := new(mvccpb.Event)
	return e, lean.CodecV2.Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, e)
}

// Close forgets the events that were not read.
func (w *Watched) Close() {
	w.whole = nil
	if w.rest != nil {
		_ = w.rest.Close() // it only gives its memory back
		w.rest = nil
	}
}

func readTag(r *mem.Reader) (protowire.Number, protowire.Type, error) {
	v, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, 0, errMalformed
	}
	tag, kind := protowire.DecodeTag(v)
	if tag < protowire.MinValidNumber {
		return 0, 0, errMalformed
	}
	return tag, kind, nil
}

func readLength(r *mem.Reader) (int, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil || n > uint64(r.Remaining()) {
		return 0, errMalformed
	}
	return int(n), nil
}
