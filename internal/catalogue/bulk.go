package catalogue

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/shard"
)

// Want is one of many allocations.
type Want struct {
	Item
	OwnData bool // the data is the allocation's own, as for Allocate
}

const (
	// bulkTries is how often many writes are sent, at most, where etcd does not answer. What was written by a try whose
	// answer was lost is found by the next one.
	bulkTries = 4
	// bulkConflicts is how often one transaction may find that others write the same entries, before it is divided.
	bulkConflicts = 3
)

// AllocateAll is Allocate for many resources: in as few transactions as etcd takes, several at once. Where an id is
// there twice, it counts in the order given. An entry that is as it should be already is not written again.
//
// done is called once for each want, by its index, with nil or one of Allocate's errors; it is called by several
// goroutines, one at a time. The error says why AllocateAll ended early: what has not been done then is not reported to
// done, and may or may not have been written.
func (s *Store) AllocateAll(ctx context.Context, wants []Want, done func(i int, err error)) error {
	room, err := s.roomFor(ctx, len(wants))
	if err != nil {
		return err
	}
	b := bulk{
		store: s, done: done, blind: s.Quota.Resources == 0, key: func(i int) string { return wants[i].ID },
		size: func(i int) int { return 2*(len(wants[i].ID)+80) + len(wants[i].Data) + 100 },
		next: func(_ context.Context, c *change) (*Entry, error) {
			w := &wants[c.at]
			if err := s.fits(w.Data); err != nil {
				return nil, err
			}
			if err := room.take(c, c.old == nil && !c.corrupt); err != nil {
				return nil, err
			}
			return wanted(w.Item, w.OwnData, c.old), nil
		},
	}
	return b.run(ctx, len(wants))
}

// DeallocateAll is Deallocate for many resources, as AllocateAll is Allocate. An ErrNotFound is an outcome like others.
func (s *Store) DeallocateAll(ctx context.Context, ids []string, done func(i int, err error)) error {
	b := bulk{
		store: s, done: done, key: func(i int) string { return ids[i] },
		size: func(i int) int { return 3 * (len(ids[i]) + 80) },
		next: func(ctx context.Context, c *change) (*Entry, error) {
			e, err := s.unwanted(ctx, ids[c.at], c.old, c.corrupt, c.source)
			if errors.Is(err, ErrNotFound) && c.unsure { // an earlier try has done it, and its answer was lost
				return c.old, nil
			}
			return e, err
		},
	}
	return b.run(ctx, len(ids))
}

// bulk is a run over many entries.
type bulk struct {
	store *Store
	done  func(i int, err error)
	blind bool // the first try does not read the entries, and expects none of them
	key   func(i int) string
	size  func(i int) int                                            // roughly, in bytes of a transaction
	next  func(ctx context.Context, c *change) (e *Entry, err error) // what change does; nil: there is to be no entry

	mu sync.Mutex // of done
}

// change is one entry that is to be changed, and what is known of it.
type change struct {
	at      int // its index
	id      string
	old     *Entry
	corrupt bool
	value   []byte
	modRev  int64
	source  *mvccpb.KeyValue // the source's record; nil: there is none, or it was not read
	unsure  bool             // a write of it was sent whose answer was lost
	counted bool             // it has taken of the quota's room
}

// run changes n entries. Those of one id are changed one after the other.
func (b *bulk) run(ctx context.Context, n int) error {
	all := make([]change, n)
	for i := range all {
		all[i] = change{at: i, id: b.key(i)}
	}
	for len(all) > 0 {
		round, rest := firsts(all)
		if err := b.round(ctx, round); err != nil {
			return err
		}
		all = rest
	}
	return nil
}

// firsts divides changes: the first one of each id, and the rest.
func firsts(all []change) (round, rest []change) {
	seen := make(map[string]struct{}, len(all))
	for _, c := range all {
		if _, twice := seen[c.id]; twice {
			rest = append(rest, c)
			continue
		}
		seen[c.id] = struct{}{}
		round = append(round, c)
	}
	return round, rest
}

// round changes entries with different ids, ordered by shard, so that a shard's watchers get few and large events.
func (b *bulk) round(ctx context.Context, all []change) error {
	shards := b.store.Shards
	slices.SortStableFunc(all, func(x, y change) int { return shard.Of(x.id, shards) - shard.Of(y.id, shards) })
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(inFlight)
	for rest := all; len(rest) > 0; {
		most := min(maxBytes, b.store.Limits.Bytes())
		// An entry may need a mark besides, and a transaction reads the source's record where it fails.
		n := txn.Fit(len(rest), max(1, b.store.mostWrites()/2), most, func(i int) int { return b.size(rest[i].at) })
		part := rest[:n]
		rest = rest[n:]
		group.Go(func() error { return b.part(gctx, part, b.blind) })
	}
	return group.Wait()
}

// part changes some entries by one transaction, or several where that is not possible.
func (b *bulk) part(ctx context.Context, part []change, blind bool) error {
	pauses := pace.Retry()
	for failures, conflicts := 0, 0; len(part) > 0; {
		applied, rest, err := b.try(ctx, part, blind)
		blind = false
		switch {
		case applied:
			return nil
		case err == nil:
			if conflicts++; conflicts > bulkConflicts && len(rest) > 1 {
				return b.halves(ctx, rest)
			}
		case txn.Divisible(err) && len(rest) > 1:
			return b.halves(ctx, rest)
		case txn.Divisible(err):
			b.tell(rest[0].at, err)
			return nil
		case errors.Is(err, ErrAppGone) || ctx.Err() != nil:
			return err
		default:
			if failures++; failures == bulkTries || !pauses.Wait(ctx) {
				return err
			}
		}
		part = rest
	}
	return nil
}

func (b *bulk) halves(ctx context.Context, part []change) error {
	half := (len(part) + 1) / 2
	if err := b.part(ctx, part[:half], false); err != nil {
		return err
	}
	return b.part(ctx, part[half:], false)
}

// try changes entries by one transaction: all of them or none. Without blind, it reads them first. It returns those
// that are still to be changed; the outcome of the others is told.
func (b *bulk) try(ctx context.Context, part []change, blind bool) (applied bool, rest []change, err error) {
	if !blind {
		if err := b.read(ctx, part); err != nil {
			return false, part, err
		}
	}
	req := &pb.TxnRequest{}
	guards := b.store.guards()
	req.Compare, req.Failure = guards.Compare(), guards.Look()
	ended := map[int]error{} // the outcomes that need no write
	for _, c := range part {
		e, err := b.next(ctx, &c)
		switch {
		case ctx.Err() != nil:
			return false, part, ctx.Err()
		case err != nil && !isOutcome(err):
			return false, part, err
		case err != nil || c.isDone(e):
			ended[c.at] = err
		default:
			rest = append(rest, c)
			req.Compare = append(req.Compare, txn.Modified(b.store.key(c.id), c.modRev))
			req.Success = append(req.Success, b.store.ops(c.id, c.old, e)...)
		}
	}
	for at, err := range ended {
		b.tell(at, err)
	}
	if len(rest) == 0 {
		return true, nil, nil
	}
	req.Success = b.store.noted(req.Success)
	resp, err := b.store.commit(ctx, req)
	switch {
	case err != nil:
		for i := range rest {
			rest[i].unsure = true
		}
		return false, rest, err
	case !resp.Succeeded && guards.Check(resp) != nil:
		return false, rest, ErrAppGone
	case !resp.Succeeded:
		return false, rest, nil
	}
	for _, c := range rest {
		b.tell(c.at, nil)
	}
	return true, nil, nil
}

// isOutcome says whether an error is about one entry alone.
func isOutcome(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrQuota) || errors.Is(err, ErrTooLarge)
}

// isDone says whether an entry is what it should be already, byte by byte.
func (c *change) isDone(e *Entry) bool {
	switch {
	case e == nil:
		return c.modRev == 0
	case c.old == nil:
		return false
	default:
		return bytes.Equal(c.value, e.Encode())
	}
}

// read reads entries as they are, and the source's record.
func (b *bulk) read(ctx context.Context, part []change) error {
	ops := make([]*pb.RequestOp, 0, len(part)+1)
	ops = append(ops, txn.Get([]byte(b.store.Layout.Source())))
	for i := range part {
		ops = append(ops, txn.Get([]byte(b.store.key(part[i].id))))
	}
	guards := b.store.guards()
	resp, err := b.store.commit(ctx, &pb.TxnRequest{Compare: guards.Compare(), Success: ops, Failure: guards.Look()})
	if err != nil {
		return err
	}
	if !resp.Succeeded {
		return ErrAppGone
	}
	for i := range part {
		c := &part[i]
		c.source, c.old, c.corrupt, c.value, c.modRev = txn.First(resp.Responses[0]), nil, false, nil, 0
		kv := txn.First(resp.Responses[i+1])
		if kv == nil {
			continue
		}
		c.value, c.modRev = kv.Value, kv.ModRevision
		if e, err := Decode(kv.Value); err == nil {
			c.old = &e
		} else {
			c.corrupt = true // it counts as none, and is overwritten
		}
	}
	return nil
}

func (b *bulk) tell(i int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done(i, err)
}

// room is how many more entries the quota lets a run make.
type room struct {
	mu    sync.Mutex
	quota int // 0: any number
	count int
}

// roomFor counts the entries where the quota may not let n more be made.
func (s *Store) roomFor(ctx context.Context, n int) (*room, error) {
	r := &room{quota: s.Quota.Resources}
	if r.quota == 0 {
		return r, nil
	}
	count, err := s.entries(ctx, max(1, r.quota-n))
	r.count = count
	return r, err
}

// take takes the room for an entry, if fresh says that there is none yet, and else gives back what it has taken.
func (r *room) take(c *change, fresh bool) error {
	if r.quota == 0 || fresh == c.counted {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !fresh:
		r.count--
	case r.count >= r.quota:
		return &QuotaError{Field: MaxAppResources, Limit: r.quota, Count: r.count}
	default:
		r.count++
	}
	c.counted = fresh
	return nil
}
