package catalogue

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/shard"
)

const (
	// maxBytes bounds the entries of one transaction, below etcd's default limit of 1.5 MiB for a request.
	maxBytes = 1 << 20
	// inFlight is how many transactions are out at once.
	inFlight = 4
)

// write is one entry that is to be written.
type write struct {
	id        string
	shard     int
	item      *Item  // what the source has; nil: it has it no more
	entry     *Entry // nil: delete it
	expect    int64  // mod revision; 0: it must not be there
	vacant    bool   // no entry of the shard is known
	canonical uint64 // of the entry's data, where it was computed
	effect    effect
}

// effect is what a write counts for.
type effect int

const (
	added effect = iota
	changed
	removed
)

// writes builds the comparisons of a batch, one for each span, and its writes.
func (y *Sync) writes(batch []write, keys []string, spans []txn.Span) (compares []*pb.Compare, ops []*pb.RequestOp) {
	size := txn.Size{Mods: len(spans), Creates: len(spans)}
	for i, w := range batch {
		size.KeyBytes += len(keys[i])
		if w.entry == nil {
			size.Deletes++
		} else {
			size.Puts++
		}
	}
	for _, s := range spans {
		if s.To-s.From > 1 {
			size.KeyBytes += txn.EndBytes(keys[s.To-1])
		}
	}
	b := txn.NewBatch(size)
	compares, ops = make([]*pb.Compare, len(spans)), make([]*pb.RequestOp, len(batch))
	for n, s := range spans {
		for i := s.From; i < s.To; i++ {
			key := b.Key(keys[i])
			switch {
			case s.To-s.From == 1:
				compares[n] = b.Modified(key, batch[i].expect)
			case i == s.From:
				compares[n] = b.Absent(key, keys[s.To-1])
			}
			if entry := batch[i].entry; entry == nil {
				ops[i] = b.Delete(key)
			} else {
				ops[i] = b.Put(key, entry.Encode(), 0)
			}
		}
	}
	return compares, ops
}

// keys are those of a batch.
func (y *Sync) keys(batch []write) []string {
	keys := make([]string, len(batch))
	for i, w := range batch {
		keys[i] = y.store.Layout.Resource(w.shard, w.id)
	}
	return keys
}

// written is a batch and what became of it.
type written struct {
	batch    []write
	applied  []bool // of each write, whether it was; it was not where the entry was another than remembered
	revision int64
	found    []*mvccpb.KeyValue // what is there instead of what was remembered; nil: nothing
	lost     bool               // no answer: it may be applied, or may still be
	rejected bool               // the batch is one entry, and etcd will not take it
}

// write sends writes in batches, remembers what became of them, and returns those whose entry was not what was remembered
// (it is now).
func (y *Sync) write(ctx context.Context, writes []write, out *Outcome) (conflicts []write, err error) {
	writes = y.byShard(writes) // so that a shard's watchers get few and large events
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(inFlight)
	results := make(chan written, inFlight)
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for r := range results {
			conflicts = append(conflicts, y.remember(r, out)...)
		}
	}()
	for rest := writes; len(rest) > 0; {
		n := y.fit(rest)
		batch := rest[:n]
		rest = rest[n:]
		group.Go(func() error { return y.send(gctx, batch, results) })
	}
	err = group.Wait()
	close(results)
	<-collected
	return conflicts, err
}

// byShard orders writes by their shards.
func (y *Sync) byShard(writes []write) []write {
	ends := make([]int, y.store.Shards)
	for i := range writes {
		writes[i].shard = shard.Of(writes[i].id, y.store.Shards)
		ends[writes[i].shard]++
	}
	for n := 1; n < len(ends); n++ {
		ends[n] += ends[n-1]
	}
	ordered := make([]write, len(writes))
	for _, w := range slices.Backward(writes) {
		ends[w.shard]--
		ordered[ends[w.shard]] = w
	}
	for n, from := range ends { // where each begins, by now
		to := len(ordered)
		if n+1 < len(ends) {
			to = ends[n+1]
		}
		if y.entries[n] == 0 {
			vacate(ordered[from:to])
		}
	}
	return ordered
}

// vacate lets the writes of a shard of which no entry is known be compared as ranges: half of what a transaction otherwise
// is. They are put in order, so that the batches they are cut into take ranges that are apart.
func vacate(writes []write) {
	for i := range writes {
		writes[i].vacant = true
	}
	byID := func(a, b write) int { return strings.Compare(a.id, b.id) }
	if !slices.IsSortedFunc(writes, byID) {
		slices.SortFunc(writes, byID)
	}
}

// fit is how many of the writes go in a transaction, as far as etcd's limits are known: one at least.
func (y *Sync) fit(writes []write) int {
	most, bytes := min(len(writes), y.store.mostWrites()), min(maxBytes, y.store.Limits.Bytes())
	for i := range most {
		if bytes -= writes[i].size(); bytes < 0 && i > 0 {
			return i
		}
	}
	return most
}

// size is roughly what a write adds to a transaction.
func (w *write) size() int {
	n := 2 * (len(w.id) + 80)
	if w.entry != nil {
		n += len(w.entry.Data) + 100
	}
	return n
}

// send writes one batch, in parts where etcd does not take it as it is, or something smaller was refused meanwhile.
func (y *Sync) send(ctx context.Context, batch []write, results chan<- written) error {
	for len(batch) > 0 {
		n := y.fit(batch)
		r, err := y.sendPart(ctx, batch[:n])
		switch {
		case n > 1 && divisible(err):
			if errors.Is(err, ErrTooLarge) {
				bytes := 0
				for i := range batch[:n] {
					bytes += batch[i].size()
				}
				y.store.Limits.TooLarge(bytes)
			}
			continue // fewer fit now
		case errors.Is(err, ErrTooLarge):
			r = written{batch: batch[:n], rejected: true}
		case err != nil:
			results <- written{batch: batch, lost: true}
			return err
		}
		results <- r
		batch = batch[n:]
	}
	return nil
}

// sendPart writes what fits into a transaction: all at once, and where an entry is not what was remembered, each on its own
// condition.
func (y *Sync) sendPart(ctx context.Context, part []write) (written, error) {
	r, ok, err := y.sendAll(ctx, part)
	if err == nil && !ok {
		r, err = y.sendEach(ctx, part)
	}
	return r, err
}

// sendAll writes all of a batch, or reports that a condition did not hold.
func (y *Sync) sendAll(ctx context.Context, batch []write) (r written, ok bool, err error) {
	keys := y.keys(batch)
	compares, ops := y.writes(batch, keys, txn.Spans(len(batch), func(i int) bool {
		return batch[i].vacant && batch[i-1].vacant && batch[i].shard == batch[i-1].shard && keys[i-1] < keys[i]
	}))
	resp, err := y.store.commit(ctx, &pb.TxnRequest{Compare: append(y.guards(), compares...), Success: ops})
	if err != nil || !resp.Succeeded {
		return r, false, err
	}
	applied := make([]bool, len(batch))
	for i := range applied {
		applied[i] = true
	}
	return written{batch: batch, applied: applied, revision: resp.Header.Revision}, true, nil
}

// sendEach writes what of a batch is as remembered, and finds out about the rest.
func (y *Sync) sendEach(ctx context.Context, batch []write) (r written, err error) {
	compares, ops := y.writes(batch, y.keys(batch), txn.Spans(len(batch), func(int) bool { return false }))
	for i := range ops {
		ops[i] = txn.Nest(&pb.TxnRequest{
			Compare: compares[i : i+1], Success: []*pb.RequestOp{ops[i]}, Failure: []*pb.RequestOp{txn.Get(compares[i].Key)},
		})
	}
	resp, err := y.guarded(ctx, ops)
	if err != nil {
		return r, err
	}
	r = written{
		batch: batch, revision: resp.Header.Revision,
		applied: make([]bool, len(batch)), found: make([]*mvccpb.KeyValue, len(batch)),
	}
	for i := range resp.Responses {
		inner := resp.Responses[i].GetResponseTxn()
		if r.applied[i] = inner.Succeeded; !inner.Succeeded {
			r.found[i] = first(inner.Responses[0])
		}
	}
	return r, nil
}

// guarded sends operations that happen only if the guards hold.
func (y *Sync) guarded(ctx context.Context, ops []*pb.RequestOp) (*pb.TxnResponse, error) {
	resp, err := y.store.commit(ctx, &pb.TxnRequest{Compare: y.guards(), Success: ops, Failure: []*pb.RequestOp{y.store.lookAtConfig()}})
	switch {
	case err != nil:
		return nil, err
	case resp.Succeeded:
		return resp, nil
	case y.store.gone(resp.Responses[0]):
		return nil, ErrAppGone
	default:
		return nil, ErrDeposed
	}
}

// guards are the store's, and the coordinator's office: one that was deposed writes nothing.
func (y *Sync) guards() []*pb.Compare {
	return append(y.store.guards(), txn.Created(y.guardKey, y.guardRev))
}

// remember takes over what became of a batch, and returns the writes whose condition did not hold.
func (y *Sync) remember(r written, out *Outcome) (conflicts []write) {
	for i, w := range r.batch {
		switch {
		case r.lost:
			y.doubt[w.id] = time.Now()
		case r.rejected:
			out.Rejected = append(out.Rejected, w.id)
		case !r.applied[i]:
			y.learn(w.id, r.found[i])
			conflicts = append(conflicts, w)
		default:
			y.wrote(w, r.revision)
			out.count(w)
		}
	}
	return conflicts
}

func (o *Outcome) count(w write) {
	switch w.effect {
	case added:
		o.Added++
	case changed:
		o.Changed++
	case removed:
		o.Removed++
		o.Gone = append(o.Gone, w.id)
	}
}

// wrote remembers an entry as it was written.
func (y *Sync) wrote(w write, revision int64) {
	e := w.entry
	if e == nil {
		y.put(w.id, nil)
		return
	}
	k := known{
		modRev: revision, hash: xxhash.Sum64(e.Data), canonical: w.canonical, seen: y.known[w.id].seen, load: y.loads,
		fromSource: e.FromSource, allocated: e.Allocated, ownData: e.OwnData, suspended: e.Suspended,
	}
	if w.item != nil {
		k.seen = y.gen
	}
	if k.touched() {
		k.data = e.Data
	}
	y.put(w.id, &k)
}
