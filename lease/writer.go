package lease

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm/internal/txn"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Op is one write of one key, on a condition unless it is to be done in any case.
type Op struct {
	// Key to write. Ops of one key are carried out in the order of their Submit, each after the one before was
	// answered.
	Key string
	// Group keeps ops together: those of a group that wait at the same time go in as few transactions as they fit into,
	// so that a watcher of the group (a shard) gets few and large batches of events.
	Group int
	// Expect is the create revision that the key must have. 0: it must not exist.
	Expect int64
	// Vacant says, where Expect is 0, that as far as the caller knows no key of the group is there. Such ops of a group
	// are compared as one, the range from the first to the last of their keys: half of what a transaction otherwise is.
	// Where that does not hold, each is compared by itself. The keys of a group must be next to each other in etcd.
	Vacant bool
	// Any says that there is no condition: the write is done whatever is there, and Expect means nothing.
	Any bool
	// Delete the key; else put Value.
	Delete bool
	Value  []byte
	// Lease to put the key under. An update must name it again: a put without one detaches the key, which then never
	// expires. Not used by a Delete.
	Lease clientv3.LeaseID
	// Tag is the caller's own.
	Tag any
}

// Found is what was in the place of the key that an Op expected.
type Found struct {
	CreateRevision int64 // 0: there is no such key
	Lease          clientv3.LeaseID
	Value          []byte
}

// Result is what came of an Op.
type Result struct {
	Op Op
	// Applied says that the write was done.
	Applied bool
	// Revision is etcd's, as of the answer; 0 if there was none. For a key that was created it is the create revision.
	Revision int64
	// Found is what is there instead, where the condition did not hold: neither Applied nor Err.
	Found Found
	// Err says why it was neither done nor found in conflict: ErrGuard, ErrUnknown, ErrLeaseGone, ErrTooLarge,
	// ErrRefused or ErrClosed. Only after ErrUnknown may the write have been done, or be done still.
	Err error
}

// Guard is a key that must be there, as it was created at that revision, for anything to be put. Each transaction that
// puts anything compares it; to let go of something never harms. Without a Key there is none.
type Guard struct {
	Key            string
	CreateRevision int64
}

// maxOps follows from etcd's limit of 128 operations and of 128 comparisons in a transaction, with one taken by the
// guard. Nested transactions count against what the outer one leaves of it.
const maxOps = 127

// WriterOptions of a Writer. Zero values take the defaults; a value out of its range makes NewWriter panic.
type WriterOptions struct {
	// MaxInFlight is how many transactions are under way at once: fewer while etcd says that it is overloaded. Raised,
	// many ops are done sooner and etcd is hit harder. Default 4.
	MaxInFlight int
	// MaxOps is how many ops go in a transaction. Default and most: 127, which etcd takes unless it was told another
	// limit. A lower one (--max-txn-ops, of 2 at least) is learnt when etcd refuses a transaction, which then goes in
	// parts.
	MaxOps int
	// MaxBytes is how large a transaction gets, roughly, unless a single op is larger. Default 1 MiB; etcd's own limit
	// is 1.5 MiB. A lower one (--max-request-bytes) is learnt likewise.
	MaxBytes int
	// Limits is what was learnt of etcd's limits, for several Writers on one etcd to share. Default: the Writer's own.
	Limits Limits
	// Distinct says that no op of a key is ever submitted before the result of the last one of that key: there is no
	// order of theirs to be kept then, and no book about it. etcd refuses a transaction in which a key is twice.
	Distinct bool
	// Slow is how long an answer takes at least to count as a slow one; it takes several times the fastest, too. While
	// answers are slow, down to a quarter of MaxInFlight are under way. Lowered, etcd has less to do at once when many
	// write, and answers others sooner. Default 0: answers do not count by how long they take.
	Slow time.Duration
	// Timeout for the answer of a transaction; after it the outcome is unknown. Default 5 s.
	Timeout time.Duration
}

func (o WriterOptions) withDefaults() WriterOptions {
	for _, f := range []struct {
		name             string
		value            *int
		deflt, low, high int
	}{
		{"MaxInFlight", &o.MaxInFlight, 4, 1, 1 << 16},
		{"MaxOps", &o.MaxOps, maxOps, 1, maxOps},
		{"MaxBytes", &o.MaxBytes, 1 << 20, 1, 1 << 30},
	} {
		if *f.value == 0 {
			*f.value = f.deflt
		}
		if *f.value < f.low || *f.value > f.high {
			panic(fmt.Sprintf("lease: WriterOptions.%s is %d, want %d to %d", f.name, *f.value, f.low, f.high))
		}
	}
	if o.Limits == nil {
		o.Limits = NewLimits()
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Slow < 0 {
		panic(fmt.Sprintf("lease: WriterOptions.Slow is %v, want a duration of 0 or more", o.Slow))
	}
	if o.Timeout < 0 {
		panic(fmt.Sprintf("lease: WriterOptions.Timeout is %v, want a positive duration", o.Timeout))
	}
	return o
}

// Writer carries out Ops in batches. An op that comes while less than MaxInFlight transactions are under way is sent at
// once; those that come meanwhile are gathered, and go together when one is answered. So nothing ever waits for
// company, and batches are as large as the load makes them. No write is ever repeated. Its methods are safe for
// concurrent use.
type Writer struct {
	etcd    Committer
	sender  *txn.Sender[Result]
	opts    WriterOptions
	deliver func([]Result)

	delivering sync.Mutex // held around deliver

	mu     sync.Mutex
	idle   sync.Cond                   // busy became 0
	busy   int                         // goroutines: transactions under way, and closing
	flight int                         // transactions under way
	window window                      // how many of them there may be
	queues map[clientv3.LeaseID]*queue // those that are not empty
	turns  []*queue                    // the same, in the order of their turns
	active map[string][]Op             // keys that are queued or under way, each with the ops that wait for it
	peak   int                         // the most keys that active has had room for
	count  int                         // ops submitted and not delivered
	closed bool
}

// NewWriter makes a Writer. It calls deliver with the results of ops as they come, those of a transaction together,
// one call at a time, from goroutines of its own. deliver may call Submit, and must not call Close; while it blocks,
// transactions stay under way.
func NewWriter(etcd Committer, guard Guard, opts WriterOptions, deliver func([]Result)) *Writer {
	w := &Writer{
		etcd:    etcd,
		opts:    opts.withDefaults(),
		deliver: deliver,
		queues:  make(map[clientv3.LeaseID]*queue),
		active:  make(map[string][]Op),
	}
	w.sender = newSender(w, guard)
	w.window = window{size: w.opts.MaxInFlight, most: w.opts.MaxInFlight, slow: w.opts.Slow}
	w.idle.L = &w.mu
	return w
}

// Submit has the ops carried out, and returns without waiting for anything. Each gets one Result; after Close that is
// ErrClosed. The ops' Values must not be changed any more.
func (w *Writer) Submit(ops ...Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count += len(ops)
	if w.closed {
		w.reject(append([]Op(nil), ops...))
		return
	}
	for _, op := range ops {
		if w.opts.Distinct {
			w.enqueue(op)
			continue
		}
		if waiting, active := w.active[op.Key]; active {
			w.active[op.Key] = append(waiting, op)
			continue
		}
		w.active[op.Key] = nil
		w.enqueue(op)
	}
	w.peak = max(w.peak, len(w.active))
	w.dispatch()
}

// Pending is the number of ops that were submitted and whose results have not been delivered.
func (w *Writer) Pending() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// Close waits for the transactions that are under way (which end by their timeout at the latest) and sends no more: ops
// that were not sent get ErrClosed. All that was submitted before has been delivered when it returns. Further calls
// only wait.
func (w *Writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		var unsent []Op
		for _, q := range w.turns {
			for !q.empty() {
				for _, op := range q.take(maxOps, w.opts.MaxBytes) {
					unsent = append(unsent, op)
					unsent = append(unsent, w.active[op.Key]...)
					delete(w.active, op.Key)
				}
			}
		}
		w.turns, w.queues = nil, nil
		w.reject(unsent)
	}
	for w.busy > 0 {
		w.idle.Wait()
	}
}

// reject delivers ErrClosed for ops. w.mu is held.
func (w *Writer) reject(ops []Op) {
	if len(ops) == 0 {
		return
	}
	w.busy++
	go func() {
		w.hand(closedResults(ops))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.finish(len(ops))
	}()
}

func closedResults(ops []Op) []Result {
	results := make([]Result, len(ops))
	for i, op := range ops {
		results[i] = Result{Op: op, Err: ErrClosed}
	}
	return results
}

func (w *Writer) hand(results []Result) {
	w.delivering.Lock()
	defer w.delivering.Unlock()
	w.deliver(results)
}

// finish ends a goroutine's work that delivered n results. w.mu is held.
func (w *Writer) finish(n int) {
	w.count -= n
	w.busy--
	if w.count == 0 && w.peak > 1024 { // a map keeps the room that it had at its largest
		w.active, w.peak = make(map[string][]Op), 0
	}
	if w.busy == 0 {
		w.idle.Broadcast()
	}
}

// enqueue adds an op whose key no other op is queued or under way for. w.mu is held.
func (w *Writer) enqueue(op Op) {
	lease := op.Lease
	if op.Delete {
		lease = clientv3.NoLease
	}
	q := w.queues[lease]
	if q == nil {
		q = &queue{}
		w.queues[lease] = q
		q.lease = lease
		w.turns = append(w.turns, q)
	}
	q.add(op)
}

// dispatch sends what is queued, as far as transactions are free. w.mu is held.
func (w *Writer) dispatch() {
	for w.flight < w.window.size && len(w.turns) > 0 {
		q := w.turns[0]
		w.turns = w.turns[1:]
		batch := q.take(w.sender.Most(), min(w.opts.MaxBytes, w.opts.Limits.Bytes()))
		if q.empty() {
			delete(w.queues, q.lease)
		} else {
			w.turns = append(w.turns, q)
		}
		w.flight++
		w.busy++
		go w.send(batch)
	}
}

// send carries out one batch, and makes way for what waits for it.
func (w *Writer) send(batch []Op) {
	results := make([]Result, len(batch))
	for i, op := range batch {
		results[i].Op = op
	}
	sent := time.Now()
	w.sender.Send(results)
	answered := time.Now() // who is told of it may take a while
	w.hand(results)

	w.mu.Lock()
	defer w.mu.Unlock()
	unsent := w.next(batch)
	w.reject(unsent)
	w.flight--
	w.window.answer(
		sent,
		answered,
		results[len(results)-1].Err,
	) // those of a batch end alike, but for one that is too large
	if !w.closed {
		w.dispatch()
	}
	w.finish(len(batch))
}

// next enqueues what waited for the keys of a batch, or returns it, where nothing is sent any more. w.mu is held.
func (w *Writer) next(batch []Op) (unsent []Op) {
	if w.opts.Distinct {
		return nil
	}
	for _, op := range batch {
		waiting := w.active[op.Key]
		switch {
		case len(waiting) == 0:
			delete(w.active, op.Key)
		case w.closed:
			delete(w.active, op.Key)
			unsent = append(unsent, waiting...)
		default:
			w.active[op.Key] = waiting[1:]
			w.enqueue(waiting[0])
		}
	}
	return unsent
}

// commit sends one transaction and waits for its answer.
func (w *Writer) commit(req *pb.TxnRequest) (*pb.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), w.opts.Timeout)
	defer cancel()
	return w.etcd.Commit(ctx, req)
}
