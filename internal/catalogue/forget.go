package catalogue

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/shard"
)

// ErrSourceBack says that the source's record is not the one that was given: a coordinator has vouched for the source
// meanwhile, or somebody else has forgotten it.
var ErrSourceBack = errors.New("the source's record has changed")

// forgetPage is how many keys one answer may have while a source is forgotten.
const forgetPage = 500

// Forgotten counts what Forget did, even if it failed in between.
type Forgotten struct {
	Removed   int // resources that only the source wanted
	Kept      int // resources that an allocation also wants
	Suspended int // entries of resources that were deallocated
}

// Forget takes a source out of the catalogue. Resources that only the source wanted are removed, resources that an
// allocation also wants become that allocation's alone, and nothing that was deallocated stays suspended. The source's
// record is deleted last, so that Forget can be repeated after an interruption. record is that record's mod revision, 0
// if there is no record; each write compares it. The caller marks the record as gone before, otherwise Deallocate would
// suspend entries meanwhile.
//
// Errors: ErrSourceBack, ErrAppGone, etcd's.
func (s *Store) Forget(ctx context.Context, record int64) (Forgotten, error) {
	var done Forgotten
	for n := range s.Shards {
		if err := s.forgetShard(ctx, n, record, &done); err != nil {
			return done, fmt.Errorf("forget the source: %w", err)
		}
	}
	if err := s.forgetMarks(ctx, record, &done); err != nil {
		return done, fmt.Errorf("forget what was deallocated: %w", err)
	}
	var last []*pb.RequestOp
	if record != 0 {
		last = s.noted([]*pb.RequestOp{txn.Delete(s.Layout.Source())})
	}
	if _, err := s.underRecord(ctx, record, last); err != nil {
		return done, fmt.Errorf("delete the source's record: %w", err)
	}
	return done, nil
}

// Leaves counts what Forget would remove, and changes nothing.
func (s *Store) Leaves(ctx context.Context) (removed int, err error) {
	var all atomic.Int64
	err = s.eachShard(ctx, func(ctx context.Context, n int) error {
		return s.eachPage(ctx, n, func(kvs []*mvccpb.KeyValue) (again bool, err error) {
			for _, kv := range kvs {
				if e, err := Decode(kv.Value); err == nil && e.FromSource && !e.Allocated && !e.deallocated() {
					all.Add(1)
				}
			}
			return false, nil
		})
	})
	removed = int(all.Load())
	if err != nil {
		return removed, fmt.Errorf("count what only the source wants: %w", err)
	}
	return removed, nil
}

// forgetShard forgets what the source has in one shard.
func (s *Store) forgetShard(ctx context.Context, n int, record int64, done *Forgotten) error {
	return s.eachPage(ctx, n, func(kvs []*mvccpb.KeyValue) (again bool, err error) {
		return s.forgetEntries(ctx, kvs, record, done)
	})
}

// eachPage calls f with the entries of a shard, page by page. f may ask for the page to be read again.
func (s *Store) eachPage(ctx context.Context, n int, f func([]*mvccpb.KeyValue) (again bool, err error)) error {
	prefix := s.Layout.Shard(n) + "resources/"
	for from, end := prefix, clientv3.GetPrefixRangeEnd(prefix); ; {
		kvs, more, err := s.page(ctx, from, end)
		if err != nil {
			return err
		}
		var entries []*mvccpb.KeyValue
		for _, kv := range kvs {
			if key := s.Layout.Parse(string(kv.Key)); key.Kind == keys.Resource && shard.Of(key.ID, s.Shards) == n {
				entries = append(entries, kv)
			}
		}
		switch again, err := f(entries); {
		case err != nil:
			return err
		case again:
			continue
		}
		if !more {
			return nil
		}
		from = string(kvs[len(kvs)-1].Key) + "\x00"
	}
}

// forgetEntries writes what remains of some entries without the source, and says whether one of them has changed
// meanwhile.
func (s *Store) forgetEntries(
	ctx context.Context,
	kvs []*mvccpb.KeyValue,
	record int64,
	done *Forgotten,
) (again bool, err error) {
	type step struct {
		op    *pb.RequestOp
		count *int
	}
	var steps []step
	for _, kv := range kvs {
		e, err := Decode(kv.Value)
		if err != nil {
			continue // nobody handles a resource because of a corrupt entry, and nobody else deletes it
		}
		op, count := txn.Delete(string(kv.Key)), &done.Removed
		switch {
		case e.deallocated():
			count = &done.Suspended
		case e.FromSource && e.Allocated:
			e.FromSource = false
			op, count = txn.Put(string(kv.Key), e.Encode()), &done.Kept
		case !e.FromSource:
			continue
		}
		steps = append(steps, step{txn.Nest(&pb.TxnRequest{
			Compare: []*pb.Compare{txn.Modified(string(kv.Key), kv.ModRevision)}, Success: []*pb.RequestOp{op},
		}), count})
	}
	err = inParts(s, steps, func(part []step) error {
		ops := make([]*pb.RequestOp, len(part))
		for i := range part {
			ops[i] = part[i].op
		}
		resp, err := s.underRecord(ctx, record, s.noted(ops))
		if len(part) == 1 && errors.Is(err, ErrTooLarge) {
			return nil // an allocation keeps the entry; it does no harm that it still says that the source has it
		}
		if err != nil {
			return err
		}
		for i := range part {
			if resp.Responses[i].GetResponseTxn().Succeeded {
				*part[i].count++
			} else {
				again = true
			}
		}
		return nil
	})
	return again, err
}

// forgetMarks deletes the marks of deallocated resources, and the entries that were suspended after their shard was
// read.
func (s *Store) forgetMarks(ctx context.Context, record int64, done *Forgotten) error {
	prefix := s.Layout.Deallocations()
	for {
		kvs, more, err := s.page(ctx, prefix, clientv3.GetPrefixRangeEnd(prefix))
		if err != nil {
			return err
		}
		var ids []string
		var marks []*pb.RequestOp
		for _, kv := range kvs {
			key := s.Layout.Parse(string(kv.Key))
			if key.Kind != keys.Deallocation {
				continue
			}
			ids = append(ids, key.ID)
			marks = append(marks, txn.Nest(&pb.TxnRequest{
				Compare: []*pb.Compare{
					txn.Modified(string(kv.Key), kv.ModRevision),
				},
				Success: []*pb.RequestOp{txn.Delete(string(kv.Key))},
			}))
		}
		if len(marks) == 0 {
			return nil
		}
		var entries []*mvccpb.KeyValue
		if err := s.read(ctx, ids, func(_ string, kv *mvccpb.KeyValue) {
			if kv != nil {
				entries = append(entries, kv)
			}
		}); err != nil {
			return err
		}
		again, err := s.forgetEntries(ctx, entries, record, done)
		if err != nil {
			return err
		}
		if again {
			continue
		}
		if err := inParts(s, marks, func(part []*pb.RequestOp) error {
			_, err := s.underRecord(ctx, record, part)
			return err
		}); err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
}

// page lists the next keys of a range, in order.
func (s *Store) page(ctx context.Context, from, end string) (kvs []*mvccpb.KeyValue, more bool, err error) {
	resp, err := s.commit(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{txn.Page(from, end, forgetPage)}})
	if err != nil {
		return nil, false, err
	}
	page := resp.Responses[0].GetResponseRange()
	return page.Kvs, page.More && len(page.Kvs) > 0, nil
}

// underRecord sends operations that are done only if the source's record is the given one.
func (s *Store) underRecord(ctx context.Context, record int64, ops []*pb.RequestOp) (*pb.TxnResponse, error) {
	guards := s.guards()
	resp, err := s.commit(ctx, &pb.TxnRequest{
		Compare: append(guards.Compare(), txn.Modified(s.Layout.Source(), record)),
		Success: ops, Failure: guards.Look(),
	})
	switch {
	case err != nil:
		return nil, err
	case resp.Succeeded:
		return resp, nil
	case guards.Check(resp) != nil:
		return nil, ErrAppGone
	default:
		return nil, ErrSourceBack
	}
}
