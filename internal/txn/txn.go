// Package txn builds etcd's transactions as they go over the wire. clientv3's builder allocates ten objects for each
// conditional write and copies each comparison, which is noticeable with a hundred thousand writes; a Batch allocates a
// few objects for all of them.
//
// A Committer sends transactions: New makes one from a client.
package txn

import (
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/reach"
	"github.com/distributed-resource-manager/drm/internal/wire"
)

// Committer carries out transactions, each at most once. When etcd refuses, the error is one of package rpctypes; when
// the context ends, it is the context's.
type Committer interface {
	// Commit carries out one transaction. If the transaction succeeded, and its operations are only puts and deletes
	// that do not ask for the previous value, the answer may leave the Responses out. If they are only reads, all that
	// they have found shares memory: copy what is kept for longer than the others.
	Commit(ctx context.Context, txn *pb.TxnRequest) (*pb.TxnResponse, error)
}

// New makes a Committer that uses a client's connection.
func New(client *clientv3.Client) Committer {
	return committer{client, clientv3.RetryKVClient(client)}
}

type committer struct {
	client *clientv3.Client
	kv     pb.KVClient
}

// Commit implements Committer.
func (c committer) Commit(ctx context.Context, txn *pb.TxnRequest) (*pb.TxnResponse, error) {
	opts := wire.Options
	if onlyWrites(txn.Success) || onlyReads(txn.Success) {
		opts = wire.Lean
	}
	resp, err := c.kv.Txn(ctx, txn, opts...)
	return resp, reach.Explain(c.client, clientv3.ContextError(ctx, err), func() string { return asked(txn) })
}

// asked describes what a transaction does.
func asked(txn *pb.TxnRequest) string {
	var all []string
	for _, op := range slices.Concat(txn.Success, txn.Failure) {
		switch r := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			all = append(all, reach.Key("write", string(r.RequestPut.Key)))
		case *pb.RequestOp_RequestDeleteRange:
			all = append(all, reach.Key("delete", string(r.RequestDeleteRange.Key)))
		case *pb.RequestOp_RequestRange:
			all = append(all, reach.Key("read", string(r.RequestRange.Key)))
		}
	}
	for _, c := range txn.Compare {
		all = append(all, reach.Key("read", string(c.Key)))
	}
	return reach.Several(all)
}

// onlyReads says whether all operations are reads.
func onlyReads(ops []*pb.RequestOp) bool {
	return !slices.ContainsFunc(ops, func(op *pb.RequestOp) bool { return op.GetRequestRange() == nil })
}

// onlyWrites says whether the answers to operations contain nothing to read.
func onlyWrites(ops []*pb.RequestOp) bool {
	for _, op := range ops {
		switch r := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			if r.RequestPut.PrevKv {
				return false
			}
		case *pb.RequestOp_RequestDeleteRange:
			if r.RequestDeleteRange.PrevKv {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// Batch holds the memory for the comparisons and writes of one transaction.
type Batch struct {
	keys     []byte
	compares []pb.Compare
	creates  []pb.Compare_CreateRevision
	mods     []pb.Compare_ModRevision
	ops      []pb.RequestOp
	puts     []pb.PutRequest
	putOps   []pb.RequestOp_RequestPut
	deletes  []pb.DeleteRangeRequest
	delOps   []pb.RequestOp_RequestDeleteRange
}

// Size is what a Batch will hold. A Batch that is given more panics: that is a mistake of the caller.
type Size struct {
	KeyBytes      int // of all keys together
	Creates, Mods int // comparisons of create and of mod revisions
	Puts, Deletes int
}

// NewBatch makes a Batch of that size.
func NewBatch(s Size) *Batch {
	return &Batch{
		keys:     make([]byte, s.KeyBytes),
		compares: make([]pb.Compare, s.Creates+s.Mods),
		creates:  make([]pb.Compare_CreateRevision, s.Creates), mods: make([]pb.Compare_ModRevision, s.Mods),
		ops:  make([]pb.RequestOp, s.Puts+s.Deletes),
		puts: make([]pb.PutRequest, s.Puts), putOps: make([]pb.RequestOp_RequestPut, s.Puts),
		deletes: make([]pb.DeleteRangeRequest, s.Deletes), delOps: make([]pb.RequestOp_RequestDeleteRange, s.Deletes),
	}
}

// take cuts off the next element of a slice.
func take[T any](from *[]T) *T {
	next := &(*from)[0]
	*from = (*from)[1:]
	return next
}

// Key copies a key, for all comparisons and writes that have it.
func (b *Batch) Key(key string) []byte {
	k := b.keys[:len(key):len(key)]
	b.keys = b.keys[copy(k, key):]
	return k
}

// Created compares a key's create revision; 0 means that there is no such key.
func (b *Batch) Created(key []byte, revision int64) *pb.Compare {
	union, c := take(&b.creates), take(&b.compares)
	union.CreateRevision = revision
	c.Target, c.Key, c.TargetUnion = pb.Compare_CREATE, key, union
	return c
}

// Absent compares a range of keys, from one key to another, which it includes: none of them may exist.
func (b *Batch) Absent(from []byte, to string) *pb.Compare {
	c := b.Created(from, 0)
	c.RangeEnd = b.Key(to + "\x00")
	return c
}

// EndBytes is how many of Size.KeyBytes the end of a range takes that goes up to a key.
func EndBytes(to string) int { return len(to) + 1 }

// Span is a run of a transaction's writes whose keys are compared as one range: from From up to To, which is not part
// of it.
type Span struct{ From, To int }

// Spans cuts n writes into spans as long as possible; joined says whether write i belongs to the span of the write
// before it.
func Spans(n int, joined func(i int) bool) []Span {
	all := make([]Span, 0, n)
	for i := range n {
		if i > 0 && joined(i) {
			all[len(all)-1].To++
		} else {
			all = append(all, Span{i, i + 1})
		}
	}
	return all
}

// Modified compares a key's mod revision; 0 means that there is no such key.
func (b *Batch) Modified(key []byte, revision int64) *pb.Compare {
	union, c := take(&b.mods), take(&b.compares)
	union.ModRevision = revision
	c.Target, c.Key, c.TargetUnion = pb.Compare_MOD, key, union
	return c
}

// Put writes a key under a lease; 0 means without a lease.
func (b *Batch) Put(key, value []byte, lease int64) *pb.RequestOp {
	put, union, op := take(&b.puts), take(&b.putOps), take(&b.ops)
	put.Key, put.Value, put.Lease = key, value, lease
	union.RequestPut = put
	op.Request = union
	return op
}

// Delete deletes a key.
func (b *Batch) Delete(key []byte) *pb.RequestOp {
	del, union, op := take(&b.deletes), take(&b.delOps), take(&b.ops)
	del.Key = key
	union.RequestDeleteRange = del
	op.Request = union
	return op
}

// Created compares a key's create revision; 0 means that there is no such key.
func Created(key string, revision int64) *pb.Compare {
	return &pb.Compare{
		Target:      pb.Compare_CREATE,
		Key:         []byte(key),
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: revision},
	}
}

// Modified compares a key's mod revision; 0 means that there is no such key.
func Modified(key string, revision int64) *pb.Compare {
	return &pb.Compare{
		Target:      pb.Compare_MOD,
		Key:         []byte(key),
		TargetUnion: &pb.Compare_ModRevision{ModRevision: revision},
	}
}

// Put writes a key without a lease.
func Put(key string, value []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: value}}}
}

// Delete deletes a key.
func Delete(key string) *pb.RequestOp {
	return &pb.RequestOp{
		Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)}},
	}
}

// Get reads a key with its value.
func Get(key []byte) *pb.RequestOp { return read(&pb.RangeRequest{Key: key}) }

// Look reads a key without its value.
func Look(key []byte) *pb.RequestOp { return read(&pb.RangeRequest{Key: key, KeysOnly: true}) }

// List reads up to limit keys, from one key up to another, without their values.
func List(from, end string, limit int64) *pb.RequestOp {
	return read(&pb.RangeRequest{Key: []byte(from), RangeEnd: []byte(end), KeysOnly: true, Limit: limit})
}

// Page reads up to limit keys, from one key up to another, with their values.
func Page(from, end string, limit int64) *pb.RequestOp {
	return read(&pb.RangeRequest{Key: []byte(from), RangeEnd: []byte(end), Limit: limit})
}

func read(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

// Nest makes a transaction an operation of another transaction.
func Nest(txn *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}}
}

// Found returns what a read found.
func Found(read *pb.ResponseOp) []*mvccpb.KeyValue { return read.GetResponseRange().GetKvs() }
