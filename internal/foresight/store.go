package foresight

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// store is a copy of an app's keys that takes the requests which Registrar, Publisher and Desk make. It implements
// pb.KVClient and pb.LeaseClient as far as these need it, and refuses the rest. Time does not end its leases.
type store struct {
	pb.KVClient
	kvs      map[string]*mvccpb.KeyValue
	sorted   []string // the keys in order
	revision int64
	lease    int64  // the last one that was granted
	watched  string // a prefix
	changed  int64  // the revision at which a key below it has changed last
}

func newStore(kvs []*mvccpb.KeyValue, revision int64, watched string) *store {
	s := &store{
		kvs: make(map[string]*mvccpb.KeyValue, len(kvs)), revision: revision, watched: watched, changed: revision,
	}
	for _, kv := range kvs {
		key := string(kv.Key)
		if _, twice := s.kvs[key]; !twice {
			s.sorted = append(s.sorted, key)
		}
		s.kvs[key] = kv
		s.lease = max(s.lease, kv.Lease)
	}
	slices.Sort(s.sorted)
	return s
}

// client returns a client of etcd's that talks to the store.
func (s *store) client() *clientv3.Client {
	c := clientv3.NewCtxClient(context.Background())
	c.KV = clientv3.NewKVFromKVClient(s, nil)
	c.Lease = clientv3.NewLeaseFromLeaseClient(lessor{s: s}, nil, time.Second)
	return c
}

// below returns the keys below a prefix. The slice is the caller's.
func (s *store) below(prefix string) []*mvccpb.KeyValue {
	return s.span([]byte(prefix), []byte(clientv3.GetPrefixRangeEnd(prefix)))
}

// span returns the keys from one to another, as etcd's requests name them.
func (s *store) span(key, end []byte) []*mvccpb.KeyValue {
	if len(end) == 0 {
		if kv := s.kvs[string(key)]; kv != nil {
			return []*mvccpb.KeyValue{kv}
		}
		return nil
	}
	from, _ := slices.BinarySearch(s.sorted, string(key))
	to, _ := slices.BinarySearch(s.sorted, string(end))
	all := make([]*mvccpb.KeyValue, 0, max(0, to-from))
	for ; from < to; from++ {
		all = append(all, s.kvs[s.sorted[from]])
	}
	return all
}

func (s *store) header() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: s.revision} }

// unsupported is the error of a request that none of the users of a store makes.
func unsupported(what any) error {
	return fmt.Errorf("foresight: a request is not supported: %v", what)
}

func (s *store) get(r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if r.Revision != 0 || r.Limit != 0 && len(r.RangeEnd) > 0 {
		return nil, unsupported(r)
	}
	kvs := s.span(r.Key, r.RangeEnd)
	return &pb.RangeResponse{Header: s.header(), Kvs: kvs, Count: int64(len(kvs))}, nil
}

// holds says whether a comparison holds: of each key in its range or, where there is none, of a key that is not there.
func (s *store) holds(c *pb.Compare) (bool, error) {
	found := s.span(c.Key, c.RangeEnd)
	if len(found) == 0 {
		found = []*mvccpb.KeyValue{{}}
	}
	for _, kv := range found {
		is := int64(0)
		switch c.Target {
		case pb.Compare_CREATE:
			is = kv.CreateRevision - c.GetCreateRevision()
		case pb.Compare_MOD:
			is = kv.ModRevision - c.GetModRevision()
		case pb.Compare_VALUE: // a key that is not there has no value, not even an empty one
			if kv.ModRevision == 0 || !bytes.Equal(kv.Value, c.GetValue()) {
				is = 1
			}
		default:
			return false, unsupported(c)
		}
		switch {
		case c.Result == pb.Compare_EQUAL && is == 0, c.Result == pb.Compare_LESS && is < 0:
		case c.Result == pb.Compare_EQUAL, c.Result == pb.Compare_LESS:
			return false, nil
		default:
			return false, unsupported(c)
		}
	}
	return true, nil
}

// Txn implements pb.KVClient.
func (s *store) Txn(_ context.Context, t *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	resp := &pb.TxnResponse{Succeeded: true}
	for _, c := range t.Compare {
		yes, err := s.holds(c)
		if err != nil {
			return nil, err
		}
		resp.Succeeded = resp.Succeeded && yes
	}
	ops := t.Failure
	if resp.Succeeded {
		ops = t.Success
	}
	next, wrote := s.revision+1, false
	for _, op := range ops {
		done := &pb.ResponseOp{}
		switch {
		case op.GetRequestRange() != nil:
			found, err := s.get(op.GetRequestRange())
			if err != nil {
				return nil, err
			}
			done.Response = &pb.ResponseOp_ResponseRange{ResponseRange: found}
		case op.GetRequestPut() != nil:
			s.put(op.GetRequestPut(), next)
			wrote = true
		case op.GetRequestDeleteRange() != nil:
			d := op.GetRequestDeleteRange()
			for _, kv := range s.span(d.Key, d.RangeEnd) {
				s.drop(string(kv.Key))
				wrote = true
			}
		default:
			return nil, unsupported(op)
		}
		resp.Responses = append(resp.Responses, done)
	}
	if wrote {
		s.revision = next
	}
	resp.Header = s.header()
	return resp, nil
}

func (s *store) put(p *pb.PutRequest, revision int64) {
	key := string(p.Key)
	kv := &mvccpb.KeyValue{
		Key: p.Key, Value: p.Value, CreateRevision: revision, ModRevision: revision, Lease: p.Lease,
	}
	if before := s.kvs[key]; before != nil {
		kv.CreateRevision = before.CreateRevision
		if p.IgnoreLease {
			kv.Lease = before.Lease
		}
	} else {
		at, _ := slices.BinarySearch(s.sorted, key)
		s.sorted = slices.Insert(s.sorted, at, key)
	}
	s.kvs[key] = kv
	s.note(key)
}

// note notes that a key changes with the next revision.
func (s *store) note(key string) {
	if strings.HasPrefix(key, s.watched) {
		s.changed = s.revision + 1
	}
}

func (s *store) drop(key string) {
	s.note(key)
	delete(s.kvs, key)
	if at, found := slices.BinarySearch(s.sorted, key); found {
		s.sorted = slices.Delete(s.sorted, at, at+1)
	}
}

// end ends some leases, and deletes their keys, all in one revision.
func (s *store) end(leases ...int64) {
	var gone []string
	for key, kv := range s.kvs {
		if kv.Lease != 0 && slices.Contains(leases, kv.Lease) {
			gone = append(gone, key)
		}
	}
	for _, key := range gone {
		s.drop(key)
	}
	if len(gone) > 0 {
		s.revision++
	}
}

// grant makes a lease.
func (s *store) grant() int64 {
	s.lease++
	return s.lease
}

// Range implements pb.KVClient.
func (s *store) Range(_ context.Context, r *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	return s.get(r)
}

// Put implements pb.KVClient.
func (s *store) Put(_ context.Context, p *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	s.put(p, s.revision+1)
	s.revision++
	return &pb.PutResponse{Header: s.header()}, nil
}

// lessor implements pb.LeaseClient as far as it is needed.
type lessor struct {
	pb.LeaseClient
	s *store
}

// LeaseGrant implements pb.LeaseClient.
func (l lessor) LeaseGrant(
	_ context.Context, r *pb.LeaseGrantRequest, _ ...grpc.CallOption,
) (*pb.LeaseGrantResponse, error) {
	return &pb.LeaseGrantResponse{Header: l.s.header(), ID: l.s.grant(), TTL: r.TTL}, nil
}

// LeaseRevoke implements pb.LeaseClient.
func (l lessor) LeaseRevoke(
	_ context.Context, r *pb.LeaseRevokeRequest, _ ...grpc.CallOption,
) (*pb.LeaseRevokeResponse, error) {
	l.s.end(r.ID)
	return &pb.LeaseRevokeResponse{Header: l.s.header()}, nil
}

// LeaseTimeToLive implements pb.LeaseClient.
func (l lessor) LeaseTimeToLive(
	_ context.Context, r *pb.LeaseTimeToLiveRequest, _ ...grpc.CallOption,
) (*pb.LeaseTimeToLiveResponse, error) {
	resp := &pb.LeaseTimeToLiveResponse{Header: l.s.header(), ID: r.ID, TTL: 1}
	for key, kv := range l.s.kvs {
		if kv.Lease == r.ID {
			resp.Keys = append(resp.Keys, []byte(key))
		}
	}
	return resp, nil
}
