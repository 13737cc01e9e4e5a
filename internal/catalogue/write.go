package catalogue

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/mutant"
)

const (
	// maxWrites is the most entries of one transaction: etcd's default limit of 128 compares, less the two guards.
	maxWrites = 126
	// maxBytes bounds the entries of one transaction, below etcd's default limit of 1.5 MiB for a request.
	maxBytes = 1 << 20
	// inFlight is how many transactions are out at once.
	inFlight = 4
)

// write is one entry that is to be written.
type write struct {
	id        string
	key       string
	item      *Item  // what the source has; nil: it has it no more
	entry     *Entry // nil: delete it
	expect    int64  // mod revision; 0: it must not be there
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

func (w write) op() clientv3.Op {
	if w.entry == nil {
		return clientv3.OpDelete(w.key)
	}
	return clientv3.OpPut(w.key, w.entry.Encode())
}

func (w write) compare() clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(w.key), "=", w.expect)
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
	for i := range writes {
		writes[i].key = y.store.key(writes[i].id)
	}
	// In the order of keys, so that a shard's watchers get few and large events.
	slices.SortFunc(writes, func(a, b write) int { return strings.Compare(a.key, b.key) })

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
	for _, batch := range batches(writes) {
		group.Go(func() error { return y.send(gctx, batch, results) })
	}
	err = group.Wait()
	close(results)
	<-collected
	return conflicts, err
}

// batches cuts writes where a transaction is full.
func batches(writes []write) [][]write {
	var all [][]write
	start, size := 0, 0
	for i, w := range writes {
		n := len(w.key)
		if w.entry != nil {
			n += len(w.entry.Data) + 100
		}
		if i > start && (i-start == maxWrites || size+n > maxBytes) {
			all = append(all, writes[start:i])
			start, size = i, 0
		}
		size += n
	}
	if start < len(writes) {
		all = append(all, writes[start:])
	}
	return all
}

// send writes one batch: all at once, and where an entry is not what was remembered, each on its own condition. A batch
// that is too large is halved.
func (y *Sync) send(ctx context.Context, batch []write, results chan<- written) error {
	r, ok, err := y.sendAll(ctx, batch)
	if err == nil && !ok {
		r, err = y.sendEach(ctx, batch)
	}
	switch {
	case err == nil:
		results <- r
		return nil
	case !errors.Is(err, ErrTooLarge):
		results <- written{batch: batch, lost: true}
		return err
	case len(batch) == 1:
		results <- written{batch: batch, rejected: true}
		return nil
	}
	half := len(batch) / 2
	if err := y.send(ctx, batch[:half], results); err != nil {
		results <- written{batch: batch[half:], lost: true}
		return err
	}
	return y.send(ctx, batch[half:], results)
}

// sendAll writes all of a batch, or reports that a condition did not hold.
func (y *Sync) sendAll(ctx context.Context, batch []write) (r written, ok bool, err error) {
	cmps, ops, applied := y.guards(), make([]clientv3.Op, len(batch)), make([]bool, len(batch))
	for i, w := range batch {
		cmps = append(cmps, w.compare())
		ops[i], applied[i] = w.op(), true
	}
	txn, err := y.store.commit(ctx, cmps, ops, nil)
	if err != nil || !txn.Succeeded {
		return r, false, err
	}
	return written{batch: batch, applied: applied, revision: txn.Header.Revision}, true, nil
}

// sendEach writes what of a batch is as remembered, and finds out about the rest.
func (y *Sync) sendEach(ctx context.Context, batch []write) (r written, err error) {
	ops := make([]clientv3.Op, len(batch))
	for i, w := range batch {
		ops[i] = clientv3.OpTxn([]clientv3.Cmp{w.compare()}, []clientv3.Op{w.op()}, []clientv3.Op{clientv3.OpGet(w.key)})
	}
	txn, err := y.guarded(ctx, ops)
	if err != nil {
		return r, err
	}
	r = written{
		batch: batch, revision: txn.Header.Revision,
		applied: make([]bool, len(batch)), found: make([]*mvccpb.KeyValue, len(batch)),
	}
	for i, resp := range txn.Responses {
		inner := resp.GetResponseTxn()
		if r.applied[i] = inner.Succeeded; !inner.Succeeded {
			r.found[i] = first(inner.Responses[0])
		}
	}
	return r, nil
}

// guarded sends operations that happen only if the guards hold.
func (y *Sync) guarded(ctx context.Context, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	config := []clientv3.Op{clientv3.OpGet(y.store.Layout.Config(), clientv3.WithKeysOnly())}
	txn, err := y.store.commit(ctx, y.guards(), ops, config)
	switch {
	case err != nil:
		return nil, err
	case txn.Succeeded:
		return txn, nil
	case y.store.gone(txn.Responses[0]):
		return nil, ErrAppGone
	default:
		return nil, ErrDeposed
	}
}

// guards are the store's, and the coordinator's office: one that was deposed writes nothing.
func (y *Sync) guards() []clientv3.Cmp {
	if mutant.Is(mutant.WriteDeposed) {
		return y.store.guards()
	}
	return append(y.store.guards(), clientv3.Compare(clientv3.CreateRevision(y.guardKey), "=", y.guardRev))
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
			out.count(w.effect)
		}
	}
	return conflicts
}

func (o *Outcome) count(e effect) {
	switch e {
	case added:
		o.Added++
	case changed:
		o.Changed++
	case removed:
		o.Removed++
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
