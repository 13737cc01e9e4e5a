package lease

import (
	"cmp"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// queue holds the ops of one lease that wait to be sent, no key twice, and cuts batches from them. It orders by group
// what has come by the time the ops before are used up; what comes later waits its turn, so no group can be passed over
// for ever by ones that sort before it.
type queue struct {
	lease    clientv3.LeaseID
	arrivals []Op // in the order they came

	run  []Op // in the order of their groups
	head int  // of run: the first that was not taken

	// What is left of the group at head.
	groupEnd   int // its end in run; at or before head: not measured yet
	groupBytes int
}

func (q *queue) add(op Op)   { q.arrivals = append(q.arrivals, op) }
func (q *queue) len() int    { return len(q.run) - q.head + len(q.arrivals) }
func (q *queue) empty() bool { return q.len() == 0 }

// size is roughly what an op adds to a transaction: its key twice (compared and written), and what is around it.
func size(op *Op) int { return 2*len(op.Key) + len(op.Value) + 48 }

// take cuts a batch of at most maxOps and maxBytes, but at least one op. It keeps a group together: one that would not
// fit into what is left of the batch begins the next one, unless that would not spare it a cut.
func (q *queue) take(maxOps, maxBytes int) []Op {
	batch := make([]Op, 0, min(maxOps, q.len()))
	bytes := maxBytes // left
	for len(batch) < maxOps && q.measure() {
		left := q.groupEnd - q.head
		if free := maxOps - len(batch); len(batch) > 0 && (left > free || q.groupBytes > bytes) {
			apart := max(pieces(left, maxOps), pieces(q.groupBytes, maxBytes))
			begun := 1 + max(pieces(left-free, maxOps), pieces(q.groupBytes-bytes, maxBytes))
			if begun > apart {
				break
			}
		}
		for q.head < q.groupEnd && len(batch) < maxOps {
			op := &q.run[q.head]
			n := size(op)
			if len(batch) > 0 && n > bytes {
				return batch
			}
			batch = append(batch, *op)
			*op = Op{} // its value is not held longer than need be
			q.head++
			q.groupBytes -= n
			bytes -= n
		}
	}
	return batch
}

// pieces is how many parts of at most size it takes for n.
func pieces(n, size int) int { return (max(n, 0) + size - 1) / size }

// measure finds the end and the size of the group at head, getting a new run if the last is used up. It reports whether
// there is one. Each op is looked at once, however many batches a group is cut into.
func (q *queue) measure() bool {
	if q.head == len(q.run) {
		if len(q.arrivals) == 0 {
			return false
		}
		q.run, q.arrivals = q.arrivals, q.run[:0]
		if cap(q.arrivals) > 4*len(q.run) { // do not keep what one burst needed
			q.arrivals = nil
		}
		byGroup := func(a, b Op) int { return cmp.Compare(a.Group, b.Group) }
		if !slices.IsSortedFunc(q.run, byGroup) {
			slices.SortStableFunc(q.run, byGroup)
		}
		q.head, q.groupEnd = 0, 0
	}
	if q.groupEnd > q.head {
		return true
	}
	q.groupEnd, q.groupBytes = q.head, 0
	for q.groupEnd < len(q.run) && q.run[q.groupEnd].Group == q.run[q.head].Group {
		q.groupBytes += size(&q.run[q.groupEnd])
		q.groupEnd++
	}
	return true
}
