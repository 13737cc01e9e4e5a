package groupsim

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// store is etcd: keys with revisions, transactions, and leases.
type store struct {
	w        *world
	kvs      map[string]*mvccpb.KeyValue
	sorted   []string // the keys in order
	revision int64
	leases   map[int64]*lease
	last     int64 // the last lease
}

// lease is a lease, and the keys on it.
type lease struct {
	ttl  time.Duration
	keys map[string]bool
}

func newStore(w *world) *store {
	return &store{w: w, kvs: map[string]*mvccpb.KeyValue{}, revision: 1, leases: map[int64]*lease{}, last: 1000}
}

// span returns the keys from one to another, as etcd's requests name them.
func (s *store) span(key, end []byte) []string {
	if len(end) == 0 {
		if _, ok := s.kvs[string(key)]; ok {
			return []string{string(key)}
		}
		return nil
	}
	from := sort.SearchStrings(s.sorted, string(key))
	to := sort.SearchStrings(s.sorted, string(end))
	return slices.Clone(s.sorted[from:to])
}

func (s *store) get(r *pb.RangeRequest) *pb.RangeResponse {
	resp := &pb.RangeResponse{Header: s.header()}
	for _, key := range s.span(r.Key, r.RangeEnd) {
		resp.Kvs = append(resp.Kvs, s.kvs[key])
	}
	resp.Count = int64(len(resp.Kvs))
	return resp
}

func (s *store) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{Revision: s.revision, ClusterId: 1}
}

func (s *store) holds(c *pb.Compare) bool {
	found := s.span(c.Key, c.RangeEnd)
	if len(found) == 0 {
		return compare(c, &mvccpb.KeyValue{})
	}
	for _, key := range found {
		if !compare(c, s.kvs[key]) {
			return false
		}
	}
	return true
}

func compare(c *pb.Compare, kv *mvccpb.KeyValue) bool {
	var is, want int64
	switch c.Target {
	case pb.Compare_CREATE:
		is, want = kv.CreateRevision, c.GetCreateRevision()
	case pb.Compare_MOD:
		is, want = kv.ModRevision, c.GetModRevision()
	case pb.Compare_VALUE: // a key that is not there has no value, not even an empty one
		return kv.ModRevision > 0 && c.Result == pb.Compare_EQUAL && string(kv.Value) == string(c.GetValue())
	default:
		panic(fmt.Sprintf("groupsim: comparison of %v", c.Target))
	}
	switch c.Result {
	case pb.Compare_EQUAL:
		return is == want
	case pb.Compare_LESS:
		return is < want
	default:
		panic(fmt.Sprintf("groupsim: comparison by %v", c.Result))
	}
}

// txn carries a transaction out. by is who sends it; nil: an operator, or etcd.
func (s *store) txn(by *member, t *pb.TxnRequest) (*pb.TxnResponse, error) {
	resp := &pb.TxnResponse{Succeeded: true}
	for _, c := range t.Compare {
		resp.Succeeded = resp.Succeeded && s.holds(c)
	}
	ops := t.Failure
	if resp.Succeeded {
		ops = t.Success
	}
	for _, op := range ops {
		if put := op.GetRequestPut(); put != nil && put.Lease != 0 && s.leases[put.Lease] == nil {
			return nil, rpctypes.ErrGRPCLeaseNotFound
		}
	}
	c := change{by: by}
	revision := s.revision + 1
	for _, op := range ops {
		switch {
		case op.GetRequestRange() != nil:
			r := s.get(op.GetRequestRange())
			resp.Responses = append(resp.Responses, &pb.ResponseOp{
				Response: &pb.ResponseOp_ResponseRange{ResponseRange: r},
			})
			continue
		case op.GetRequestPut() != nil:
			c.keys = append(c.keys, s.put(op.GetRequestPut(), revision))
		case op.GetRequestDeleteRange() != nil:
			d := op.GetRequestDeleteRange()
			for _, key := range s.span(d.Key, d.RangeEnd) {
				c.keys = append(c.keys, s.drop(key))
			}
		}
		resp.Responses = append(resp.Responses, &pb.ResponseOp{})
	}
	if len(c.keys) > 0 {
		s.revision = revision
	}
	resp.Header = s.header()
	if len(c.keys) > 0 {
		s.w.changed(c)
	}
	return resp, nil
}

// put puts a key, and returns it as it was before.
func (s *store) put(p *pb.PutRequest, revision int64) was {
	key := string(p.Key)
	before := s.kvs[key]
	kv := &mvccpb.KeyValue{
		Key: p.Key, Value: p.Value, CreateRevision: revision, ModRevision: revision, Lease: p.Lease,
	}
	if before != nil {
		kv.CreateRevision = before.CreateRevision
		if p.IgnoreLease {
			kv.Lease = before.Lease
		}
		if l := s.leases[before.Lease]; l != nil {
			delete(l.keys, key)
		}
	} else {
		at := sort.SearchStrings(s.sorted, key)
		s.sorted = slices.Insert(s.sorted, at, key)
	}
	if l := s.leases[kv.Lease]; l != nil {
		l.keys[key] = true
	}
	s.kvs[key] = kv
	return was{key, before}
}

func (s *store) drop(key string) was {
	before := s.kvs[key]
	if l := s.leases[before.Lease]; l != nil {
		delete(l.keys, key)
	}
	delete(s.kvs, key)
	at := sort.SearchStrings(s.sorted, key)
	s.sorted = slices.Delete(s.sorted, at, at+1)
	return was{key, before}
}

// grant makes a lease. Somebody else ends it, or expireAfter does.
func (s *store) grant(ttl time.Duration) int64 {
	s.last++
	s.leases[s.last] = &lease{ttl: ttl, keys: map[string]bool{}}
	return s.last
}

// end ends a lease, and deletes its keys in one revision.
func (s *store) end(id int64) {
	l := s.leases[id]
	if l == nil {
		return
	}
	delete(s.leases, id)
	c := change{}
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		c.keys = append(c.keys, s.drop(key))
	}
	if len(c.keys) > 0 {
		s.revision++
		s.w.changed(c)
	}
}

// change is what one revision has changed.
type change struct {
	by   *member // nil: an operator, or the end of a lease
	keys []was
}

// was is a key that was changed, and what it was before; nil: it was not there.
type was struct {
	key string
	kv  *mvccpb.KeyValue
}

// line is the connection of a member, or of an operator, to the store. It implements pb.KVClient and pb.LeaseClient as
// far as they are needed.
type line struct {
	pb.KVClient
	s *store
	m *member // nil: an operator
}

// Range implements pb.KVClient.
func (l line) Range(_ context.Context, in *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	if l.m != nil && (l.m.cutOff() || l.s.w.procs != nil && !l.s.w.procs.Hears(l.m.index)) {
		return nil, errCut
	}
	resp := l.s.get(in)
	if l.m != nil && l.m.older {
		resp.Kvs = slices.DeleteFunc(resp.Kvs, func(kv *mvccpb.KeyValue) bool { return l.m.overlooks(kv.Key) })
	}
	return resp, nil
}

// Put implements pb.KVClient.
func (l line) Put(ctx context.Context, in *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	resp, err := l.Txn(ctx, &pb.TxnRequest{
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: in}}},
	})
	if err != nil {
		return nil, err
	}
	return &pb.PutResponse{Header: resp.Header}, nil
}

// DeleteRange implements pb.KVClient.
func (l line) DeleteRange(
	ctx context.Context, in *pb.DeleteRangeRequest, _ ...grpc.CallOption,
) (*pb.DeleteRangeResponse, error) {
	resp, err := l.Txn(ctx, &pb.TxnRequest{
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: in}}},
	})
	if err != nil {
		return nil, err
	}
	return &pb.DeleteRangeResponse{Header: resp.Header}, nil
}

// Txn implements pb.KVClient.
func (l line) Txn(_ context.Context, in *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	if l.m == nil {
		return l.s.txn(nil, in)
	}
	return l.m.send(in)
}

// lessor implements pb.LeaseClient as far as it is needed.
type lessor struct {
	pb.LeaseClient
	s *store
	m *member // nil: an operator
}

// LeaseGrant implements pb.LeaseClient. Nobody renews such a lease.
func (l lessor) LeaseGrant(
	_ context.Context, in *pb.LeaseGrantRequest, _ ...grpc.CallOption,
) (*pb.LeaseGrantResponse, error) {
	if l.m != nil && l.m.cutOff() {
		return nil, errCut
	}
	ttl := time.Duration(in.TTL) * time.Second
	id := l.s.grant(ttl)
	l.s.w.whenDue(ttl, 0, func() { l.s.end(id) })
	return &pb.LeaseGrantResponse{Header: l.s.header(), ID: id, TTL: in.TTL}, nil
}

// LeaseRevoke implements pb.LeaseClient.
func (l lessor) LeaseRevoke(
	_ context.Context, in *pb.LeaseRevokeRequest, _ ...grpc.CallOption,
) (*pb.LeaseRevokeResponse, error) {
	if l.m != nil && l.m.cutOff() {
		return nil, errCut
	}
	l.s.end(in.ID)
	return &pb.LeaseRevokeResponse{Header: l.s.header()}, nil
}

// LeaseTimeToLive implements pb.LeaseClient.
func (l lessor) LeaseTimeToLive(
	_ context.Context, in *pb.LeaseTimeToLiveRequest, _ ...grpc.CallOption,
) (*pb.LeaseTimeToLiveResponse, error) {
	resp := &pb.LeaseTimeToLiveResponse{Header: l.s.header(), ID: in.ID, TTL: -1}
	if held := l.s.leases[in.ID]; held != nil {
		resp.TTL = int64(held.ttl / time.Second)
		for _, key := range slices.Sorted(maps.Keys(held.keys)) {
			resp.Keys = append(resp.Keys, []byte(key))
		}
	}
	return resp, nil
}

// without returns a member's record as a program of Schema 1 writes it.
func withoutSchema(value []byte) []byte {
	return bytes.Replace(value, []byte(`,"schema":2`), nil, 1)
}
