package lease

import (
	"maps"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// queue holds the ops of one lease that wait to be sent, at most one for each key, and cuts batches from them. It works
// in rounds: the ops that have come by the time a round begins are taken group by group, in the order of the groups;
// later ops wait for the next round. So groups that sort before another one cannot keep it waiting for ever.
type queue struct {
	lease clientv3.LeaseID
	count int

	arrivals map[int][]Op // the ops of the next round, by group
	round    map[int][]Op // the rest of this round, by group
	turns    []int        // the groups of that rest, in their order

	group []Op // the rest of the group whose turn it is
	bytes int  // the size of that rest
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

// size is roughly how many bytes an op adds to a transaction: its key twice (once to compare and once to write), its
// value, and some bytes around them.
func size(op *Op) int { return 2*len(op.Key) + len(op.Value) + 48 }

// take cuts a batch of at most maxOps ops and maxBytes bytes, but of at least one op. It keeps a group together: a
// group that does not fit into the rest of the batch begins the next batch, unless it would be cut into as many pieces
// there.
func (q *queue) take(maxOps, maxBytes int) []Op {
	batch := make([]Op, 0, min(maxOps, q.count))
	bytes := maxBytes // how many are left
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
			*op = Op{} // frees the memory of its value as soon as possible
			q.group = q.group[1:]
			q.count--
			q.bytes -= n
			bytes -= n
		}
	}
	return batch
}

// pieces is how many pieces of at most size it takes to hold n.
func pieces(n, size int) int { return (max(n, 0) + size - 1) / size }

// next goes on to the next group when the current one is used up, and reports whether there is a group. It sorts the
// group's ops by key, so that the batches that the group may be cut into have ranges that do not overlap (see
// Op.Vacant).
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
