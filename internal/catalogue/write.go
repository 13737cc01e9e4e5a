package catalogue

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/shard"
)

const (
	// maxBytes bounds the entries of one transaction. It is below etcd's default limit of 1.5 MiB for a request.
	maxBytes = 1 << 20
	// inFlight is how many transactions may be in progress at once.
	inFlight = 4
)

// write is an entry that is to be written.
type write struct {
	id        string
	shard     int
	item      *Item  // what the source has; nil: the source no longer has it
	entry     *Entry // nil: delete it
	expect    int64  // mod revision; 0: the key must not exist
	vacant    bool   // no entry of the shard is known
	canonical uint64 // of the entry's data, if it was computed
	effect    effect
}

// effect is what a write counts as in the Outcome.
type effect int

const (
	added effect = iota
	changed
	removed
)

// sending is a write in progress, and its outcome.
type sending struct {
	*write
	key  string
	fate fate
	got  txn.Outcome // the outcome if etcd has decided
}

// fate says how a write ended.
type fate uint8

const (
	unsent   fate = iota
	decided       // etcd has answered: the write was done, or the entry was not as remembered
	lost          // no answer came: the write may have been done, or may still be done
	rejected      // etcd does not take it even alone in a request
)

// write sends writes in batches and remembers their outcomes. It returns the writes whose entry was not as remembered;
// by then the entry is remembered as it is.
func (y *Sync) write(ctx context.Context, writes []write, out *Outcome) (conflicts []write, err error) {
	writes = y.byShard(writes) // so that a shard's watchers get few and large events
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(inFlight)
	results := make(chan []sending, inFlight)
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for sent := range results {
			conflicts = append(conflicts, y.remember(sent, out)...)
		}
	}()
	for rest := writes; len(rest) > 0; {
		bytes := min(maxBytes, y.store.Limits.Bytes())
		n := txn.Fit(len(rest), y.store.mostWrites(), bytes, func(i int) int { return rest[i].size() })
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
	for n, from := range ends { // ends[n] is by now where shard n begins
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

// vacate marks the writes of a shard of which no entry is known, so that they are compared as ranges, which halves the
// transaction. It sorts them, so that the batches they are cut into have ranges that do not overlap.
func vacate(writes []write) {
	for i := range writes {
		writes[i].vacant = true
	}
	byID := func(a, b write) int { return strings.Compare(a.id, b.id) }
	if !slices.IsSortedFunc(writes, byID) {
		slices.SortFunc(writes, byID)
	}
}

// size is roughly how many bytes a write adds to a transaction.
func (w *write) size() int {
	n := 2 * (len(w.id) + 80)
	if w.entry != nil {
		n += len(w.entry.Data) + 100
	}
	return n
}

// send writes one batch, and reports the outcomes. It ends with the first error that is not about a single write.
func (y *Sync) send(ctx context.Context, batch []write, results chan<- []sending) (err error) {
	all := make([]sending, len(batch))
	for i := range batch {
		w := &batch[i]
		all[i] = sending{write: w, key: y.store.Layout.Resource(w.shard, w.id)}
	}
	sender := txn.Sender[sending]{
		Commit: func(req *pb.TxnRequest) (*pb.TxnResponse, error) { return y.store.ask(ctx, req) },
		Limits: y.store.Limits, Guards: y.guards(), By: pb.Compare_MOD,
		MaxOps: y.store.mostWrites(), MaxBytes: maxBytes,
		Write: (*sending).describe,
		Value: func(s *sending) []byte { return s.entry.Encode() },
		Size:  func(s *sending) int { return s.size() },
		Done:  func(s *sending, got txn.Outcome) { s.fate, s.got = decided, got },
		Failed: func(part []sending, failure error) (goOn bool) {
			fate := lost
			if errors.Is(failure, ErrTooLarge) {
				fate = rejected
			} else {
				err = y.whyNot(failure)
			}
			for i := range part {
				part[i].fate = fate
			}
			return err == nil
		},
	}
	sender.Send(all)
	results <- all
	return err
}

// describe says what a write does.
func (s *sending) describe() txn.Write {
	return txn.Write{Key: s.key, Delete: s.entry == nil, Expect: s.expect, Vacant: s.vacant, Group: s.shard}
}

// guarded sends operations that are done only if the guards hold.
func (y *Sync) guarded(ctx context.Context, ops []*pb.RequestOp) error {
	guards := y.guards()
	resp, err := y.store.commit(ctx, &pb.TxnRequest{Compare: guards.Compare(), Success: ops, Failure: guards.Look()})
	if err == nil && !resp.Succeeded {
		err = y.whyNot(guards.Check(resp))
	}
	return err
}

// guards are the store's guards and the coordinator's key: a member that was deposed writes nothing.
func (y *Sync) guards() txn.Guards {
	return append(y.store.guards(), txn.Guard{Key: y.guardKey, Created: y.guardRev})
}

// whyNot says what it means that a guard did not hold. It returns other errors unchanged.
func (y *Sync) whyNot(err error) error {
	var guard *txn.GuardError
	switch {
	case !errors.As(err, &guard):
		return err
	case guard.Key == y.guardKey:
		return ErrDeposed
	default:
		return ErrAppGone
	}
}

// remember learns the outcomes of writes, and returns the writes whose condition did not hold.
func (y *Sync) remember(sent []sending, out *Outcome) (conflicts []write) {
	for i := range sent {
		switch s := &sent[i]; {
		case s.fate == unsent:
		case s.fate == lost:
			y.doubt[s.id] = time.Now()
		case s.fate == rejected:
			out.Rejected = append(out.Rejected, s.id)
		case !s.got.Applied:
			y.learn(s.id, s.got.Found)
			conflicts = append(conflicts, *s.write)
		default:
			y.wrote(*s.write, s.got.Revision)
			out.count(*s.write)
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
		suspension: e.Suspension,
	}
	if w.item != nil {
		k.seen = y.gen
	}
	if k.touched() {
		k.data = e.Data
	}
	y.put(w.id, &k)
}
