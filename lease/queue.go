package lease

import (
	"maps"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// queue holds the ops of one lease that wait to be sent, no key twice, and cuts batches from them. It goes in rounds: what
// has come by the time a round begins is taken group by group, in their order; what comes later waits for the next one, so
// no group can be passed over for ever by ones that sort before it.
type queue struct {
	lease clientv3.LeaseID
	count int

	arrivals map[int][]Op // of the next round, by group
	round    map[int][]Op // what is left of this one
	turns    []int        // its groups, in order

	group []Op // what is left of the group whose turn it is
	bytes int  // of that
}

func (q *queue) add(op Op) {
	if q.arrivals == nil {
		q.arrivals = make(map[int][]Op)
	}
	q.arrivals[op.Group] = append(q.arrivals[op.Group], op)
	q.count++
}

func (q *queue) len() int    { return q.count }
func (q *queue) empty() bool { return q.count == 0 }

// size is roughly what an op adds to a transaction: its key twice (compared and written), and what is around it.
func size(op *Op) int { return 2*len(op.Key) + len(op.Value) + 48 }

// take cuts a batch of at most maxOps and maxBytes, but at least one op. It keeps a group together: one that would not
// fit into what is left of the batch begins the next one, unless that would not spare it a cut.
func (q *queue) take(maxOps, maxBytes int) []Op {
	batch := make([]Op, 0, min(maxOps, q.count))
	bytes := maxBytes // left
	for len(batch) < maxOps && q.next() {
		left := len(q.group)
		if free := maxOps - len(batch); len(batch) > 0 && (left > free || q.bytes > bytes) {
			apart := max(pieces(left, maxOps), pieces(q.bytes, maxBytes))
			begun := 1 + max(pieces(left-free, maxOps), pieces(q.bytes-bytes, maxBytes))
			if begun > apart {
				break
			}
		}
		for len(q.group) > 0 && len(batch) < maxOps {
			op := &q.group[0]
			n := size(op)
			if len(batch) > 0 && n > bytes {
				return batch
			}
			batch = append(batch, *op)
			*op = Op{} // its value is not held longer than need be
			q.group = q.group[1:]
			q.count--
			q.bytes -= n
			bytes -= n
		}
	}
	return batch
}

// pieces is how many parts of at most size it takes for n.
func pieces(n, size int) int { return (max(n, 0) + size - 1) / size }

// next has the next group take its turn, where the one before is used up, and reports whether there is one. Its ops are put
// in the order of their keys, so that the batches it may be cut into take ranges that are apart (see Op.Vacant).
func (q *queue) next() bool {
	if len(q.group) > 0 {
		return true
	}
	if len(q.turns) == 0 {
		if len(q.arrivals) == 0 {
			return false
		}
		q.round, q.arrivals = q.arrivals, nil
		q.turns = slices.Sorted(maps.Keys(q.round))
	}
	q.group = q.round[q.turns[0]]
	delete(q.round, q.turns[0])
	q.turns = q.turns[1:]
	byKey := func(a, b Op) int { return strings.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(q.group, byKey) {
		slices.SortFunc(q.group, byKey)
	}
	q.bytes = 0
	for i := range q.group {
		q.bytes += size(&q.group[i])
	}
	return true
}
