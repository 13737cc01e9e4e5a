package lease

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm/internal/txn"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Op is one write of one key. It has a condition, unless Any is set.
type Op struct {
	// Key to write. Ops of one key are carried out in the order of their Submit, each after the previous one was
	// answered.
	Key string
	// Group keeps ops together: the ops of a group that wait at the same time go in as few transactions as they fit
	// into, so that a watcher of the group (a shard) gets few and large batches of events.
	Group int
	// Expect is the create revision that the key must have; 0 means that the key must not exist.
	Expect int64
	// Modified says that Expect is the mod revision that the key must have, and not its create revision: nobody has
	// written the key since. 0 means again that the key must not exist.
	Modified bool
	// Vacant, on an op whose Expect is 0, says that as far as the caller knows no key of the group exists. Such ops of
	// a group are compared together, as the range from the first to the last of their keys, which halves the
	// transaction. If a key exists in that range after all, each op is compared by itself. The keys of a group must be
	// next to each other in etcd.
	Vacant bool
	// Any says that there is no condition: the key is written whatever is there, and Expect is ignored.
	Any bool
	// Delete says to delete the key; otherwise Value is put.
	Delete bool
	Value  []byte
	// Lease that the key is put under. An update must name it again: a put without a lease detaches the key, which then
	// never expires. A Delete ignores it.
	Lease clientv3.LeaseID
	// Unleased says that the key is put without a lease all the same. Lease then only says with which ops the op shares
	// transactions, and so its fate: if etcd does not know the lease, the op is not done either.
	Unleased bool
	// Tag is the caller's own: the Writer only hands it back.
	Tag any
}

// Found is what an Op found in place of the key that it expected.
type Found struct {
	CreateRevision int64 // 0: the key does not exist
	ModRevision    int64
	Lease          clientv3.LeaseID
	Value          []byte
}

// Result is the outcome of an Op.
type Result struct {
	Op Op
	// Applied says that the key was written.
	Applied bool
	// Revision is etcd's revision as of the answer, 0 if there was no answer. For a key that was created it is the
	// create revision.
	Revision int64
	// Found is what was there instead, if the condition did not hold; then Applied is false and Err is nil.
	Found Found
	// Err says why the op was neither applied nor found in conflict: ErrGuard, ErrUnknown, ErrLeaseGone, ErrTooLarge,
	// ErrRefused or ErrClosed. Only with ErrUnknown may etcd have done the write, or still do it.
	Err error
}

// Guard is a key that must exist, created at that revision, for anything to be put. Each transaction that puts anything
// compares it; deletions do not, since it never harms to let something go. Without a Key there is no guard.
type Guard struct {
	Key            string
	CreateRevision int64
}

// maxOps follows from etcd's limit of 128 operations and of 128 comparisons in a transaction, of which the guard takes
// one. Nested transactions count against what the outer one leaves of the limit.
const maxOps = 127

// WriterOptions of a Writer. A zero value takes the default; a value out of its range makes NewWriter panic.
type WriterOptions struct {
	// MaxInFlight is how many transactions may be in progress at once, 1 to 65,536; there are fewer while etcd says
	// that it is overloaded. A higher number gets many ops done sooner, and loads etcd more. Default 4.
	MaxInFlight int
	// Gather is how many transactions are in progress when ops begin to wait for others that fill the next one, 1 to
	// MaxInFlight. With a lower number, ops that come one after the other within a round trip share transactions, which
	// costs etcd less, and the last of them wait for up to a round trip. Default MaxInFlight.
	Gather int
	// MaxOps is how many ops go in a transaction, 1 to 127. Default 127, which etcd takes unless it was started with
	// another limit. The Writer learns a lower limit (--max-txn-ops, at least 2) when etcd refuses a transaction, and
	// then sends that transaction in parts.
	MaxOps int
	// MaxBytes is roughly how large a transaction may get, in bytes, 1 to 1 GiB; only a single larger op goes beyond
	// it. Default 1 MiB; etcd's own limit is 1.5 MiB. The Writer learns a lower limit (--max-request-bytes) in the same
	// way.
	MaxBytes int
	// Limits holds what was learnt of etcd's limits. Several Writers on one etcd share it. Default: the Writer has its
	// own.
	Limits Limits
	// Distinct is the caller's promise that it never submits an op of a key before the result of the previous op of
	// that key. Then the Writer keeps no order among the ops of a key, and no record of them. If the promise is broken,
	// etcd refuses a transaction that has a key twice.
	Distinct bool
	// Slow is the shortest time after which an answer counts as slow; it must also take several times as long as the
	// fastest. While answers are slow, the Writer goes down to a quarter of MaxInFlight. A lower value gives etcd less
	// to do at once when many write, so that it answers others sooner. Default 0: no answer counts as slow.
	Slow time.Duration
	// Timeout for the answer of a transaction; after it the outcome of the transaction is unknown. Default 5 s.
	Timeout time.Duration
}

func (o WriterOptions) withDefaults() WriterOptions {
	o.MaxInFlight = cmp.Or(o.MaxInFlight, 4)
	for _, f := range []struct {
		name             string
		value            *int
		deflt, low, high int
	}{
		{"MaxInFlight", &o.MaxInFlight, 4, 1, 1 << 16},
		{"Gather", &o.Gather, o.MaxInFlight, 1, max(1, o.MaxInFlight)},
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

// Writer carries out Ops in batches. While fewer than WriterOptions.Gather transactions are in progress, an op is sent
// at once; ops that come meanwhile are gathered, and go together when they fill a transaction, or when one is answered.
// So no op waits for others to come, and batches are as large as the load makes them. The Writer never repeats a write.
// Its methods are safe for concurrent use.
type Writer struct {
	etcd    Committer
	sender  *txn.Sender[Result]
	opts    WriterOptions
	deliver func([]Result)

	delivering sync.Mutex // held around deliver

	mu     sync.Mutex
	idle   sync.Cond                   // signalled when busy becomes 0
	busy   int                         // goroutines at work: those of transactions, and those that reject ops
	flight int                         // transactions in progress
	window window                      // how many transactions may be in progress
	queues map[clientv3.LeaseID]*queue // the queues that are not empty
	turns  []*queue                    // the same queues, in the order of their turns
	active map[string][]Op             // the keys that are queued or in progress, each with the ops that wait for it
	peak   int                         // the most keys that active has held
	count  int                         // ops that were submitted and not delivered yet
	closed bool
}

// NewWriter makes a Writer. The Writer calls deliver with the results as they come, all results of a transaction
// together, one call at a time, from its own goroutines. deliver may call Submit, and must not call Close; while it
// blocks, transactions stay in progress. The caller ends the Writer with Close.
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

// Submit hands over ops to carry out, and returns at once. Each op gets one Result; after Close that is ErrClosed. The
// caller must no longer change the ops' Values.
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

// Pending is how many ops were submitted whose results have not been delivered yet.
func (w *Writer) Pending() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// Close waits for the transactions that are in progress, which end by their timeout at the latest, and sends no more:
// ops that were not sent get ErrClosed. When Close returns, the result of every op that was submitted before has been
// delivered. Further calls only wait.
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

// reject delivers ErrClosed for ops. The caller holds w.mu.
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

// finish ends the work of a goroutine that delivered n results. The caller holds w.mu.
func (w *Writer) finish(n int) {
	w.count -= n
	w.busy--
	if w.count == 0 && w.peak > 1024 { // a map never gives back the room of its largest size
		w.active, w.peak = make(map[string][]Op), 0
	}
	if w.busy == 0 {
		w.idle.Broadcast()
	}
}

// enqueue adds an op for whose key no other op is queued or in progress. The caller holds w.mu.
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

// dispatch sends queued ops as long as another transaction may begin. The caller holds w.mu.
func (w *Writer) dispatch() {
	for w.flight < w.window.size && len(w.turns) > 0 {
		next := 0
		if most := w.sender.Most(); w.flight >= w.opts.Gather {
			next = slices.IndexFunc(w.turns, func(q *queue) bool { return q.len() >= most })
		}
		if next < 0 {
			return
		}
		q := w.turns[next]
		w.turns = slices.Delete(w.turns, next, next+1)
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

// send carries out one batch, and makes way for the ops that wait for it.
func (w *Writer) send(batch []Op) {
	results := make([]Result, len(batch))
	for i, op := range batch {
		results[i].Op = op
	}
	sent := time.Now()
	w.sender.Send(results)
	answered := time.Now() // before hand, since delivering may take a while
	w.hand(results)

	w.mu.Lock()
	defer w.mu.Unlock()
	unsent := w.next(batch)
	w.reject(unsent)
	w.flight--
	// The ops of a batch have the same outcome, except one that is too large.
	w.window.answer(sent, answered, results[len(results)-1].Err)
	if !w.closed {
		w.dispatch()
	}
	w.finish(len(batch))
}

// next enqueues the ops that waited for the keys of a batch. After Close, when nothing is sent any more, it returns
// them instead. The caller holds w.mu.
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
