package catalogue

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

const (
	// doubtFor is how long after a lost answer a write may still happen: etcd gives up on a request after 5 s and twice
	// its election timeout.
	doubtFor = time.Minute
	// markPage is how many marks one answer may have.
	markPage = 2000
)

// mark says that an entry was suspended, or woken again, at the mark's mod revision.
type mark struct {
	id     string
	modRev int64
}

// refresh reads again the entries that may not be as remembered: those that were suspended or woken since, and those of
// writes whose answer was lost. It returns the marks.
func (y *Sync) refresh(ctx context.Context) ([]mark, error) {
	marks, err := y.store.marks(ctx)
	if err != nil {
		return nil, fmt.Errorf("read which resources were deallocated: %w", err)
	}
	again := map[string]struct{}{}
	for _, m := range marks {
		if y.known[m.id].modRev < m.modRev {
			again[m.id] = struct{}{}
		}
	}
	for id := range y.doubt {
		again[id] = struct{}{}
	}
	if err := y.store.read(ctx, sortedKeys(again), y.learn); err != nil {
		return nil, fmt.Errorf("read entries again: %w", err)
	}
	for id, since := range y.doubt {
		if time.Since(since) > doubtFor {
			delete(y.doubt, id)
		}
	}
	return marks, nil
}

// marks lists all marks.
func (s *Store) marks(ctx context.Context) ([]mark, error) {
	var all []mark
	key, end := s.Layout.Deallocations(), clientv3.GetPrefixRangeEnd(s.Layout.Deallocations())
	for {
		resp, err := s.commit(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{txn.List(key, end, markPage)}})
		if err != nil {
			return nil, err
		}
		page := resp.Responses[0].GetResponseRange()
		for _, kv := range page.Kvs {
			if k := s.Layout.Parse(string(kv.Key)); k.Kind == keys.Deallocation {
				all = append(all, mark{k.ID, kv.ModRevision})
			}
		}
		if !page.More || len(page.Kvs) == 0 {
			return all, nil
		}
		key = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

// clear deletes the marks of entries that are no longer suspended, unless a mark was made anew since.
func (y *Sync) clear(ctx context.Context, marks []mark) error {
	var ops []*pb.RequestOp
	for _, m := range marks {
		if y.known[m.id].suspended {
			continue
		}
		key := y.store.Layout.Deallocation(m.id)
		ops = append(ops, txn.Nest(&pb.TxnRequest{
			Compare: []*pb.Compare{txn.Modified(key, m.modRev)}, Success: []*pb.RequestOp{txn.Delete(key)},
		}))
	}
	err := inParts(y.store, ops, func(part []*pb.RequestOp) error {
		return y.guarded(ctx, part)
	})
	if err != nil {
		return fmt.Errorf("clear marks: %w", err)
	}
	return nil
}

// read calls f with the entry of each id, or with nil if there is none. The calls come one at a time.
func (s *Store) read(ctx context.Context, ids []string, f func(id string, kv *mvccpb.KeyValue)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inFlight)
	var mu sync.Mutex
	for chunk := range slices.Chunk(ids, s.mostWrites()) {
		group.Go(func() error {
			return inParts(s, chunk, func(ids []string) error {
				ops := make([]*pb.RequestOp, len(ids))
				for i, id := range ids {
					ops[i] = txn.Get([]byte(s.key(id)))
				}
				resp, err := s.commit(ctx, &pb.TxnRequest{Success: ops})
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				for i, id := range ids {
					f(id, txn.First(resp.Responses[i]))
				}
				return nil
			})
		})
	}
	return group.Wait()
}
