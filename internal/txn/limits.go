package txn

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// UsualOps is etcd's default limit of the comparisons and of the operations of a transaction (--max-txn-ops).
const UsualOps = 128

// Limits is what etcd takes in one transaction, as far as is known: its defaults, until it refuses something. All who
// write to one etcd share it, so that what one of them has learnt spares the others the same refusal. What was learnt
// is never unlearnt, and may be as little as half of what etcd would take. The zero value is ready. It is safe for
// concurrent use.
type Limits struct{ ops, bytes atomic.Int64 } // 0: not known to be lower than the default

// Ops is the most comparisons, and the most operations, of a transaction. What is nested counts besides.
func (l *Limits) Ops() int {
	if n := l.ops.Load(); n > 0 {
		return int(n)
	}
	return UsualOps
}

// Bytes is the most that a transaction may have, by the reckoning of whoever told TooLarge; unlimited until then.
func (l *Limits) Bytes() int {
	if n := l.bytes.Load(); n > 0 {
		return int(n)
	}
	return math.MaxInt
}

// TooMany makes a *LimitError of etcd's error that a transaction has too many operations, and takes note of it. Other
// errors are returned as they are.
func (l *Limits) TooMany(err error, refused *pb.TxnRequest) error {
	if !errors.Is(err, rpctypes.ErrTooManyOps) {
		return err
	}
	weight := Weight(refused)
	lower(&l.ops, weight, l.Ops())
	return &LimitError{Needs: weight, err: err}
}

// TooLarge takes note that etcd refused a transaction of so many bytes.
func (l *Limits) TooLarge(bytes int) { lower(&l.bytes, bytes, l.Bytes()) }

// lower makes a limit half of what was refused. That more than the limit was refused is no news: it was sent before the
// limit was known.
func lower(limit *atomic.Int64, refused, was int) {
	for half := int64((refused + 1) / 2); refused <= was; {
		now := limit.Load()
		if now != 0 && now < int64(refused) || limit.CompareAndSwap(now, half) {
			return
		}
	}
}

// Weight is the least --max-txn-ops that lets a transaction pass: etcd adds what is nested to the level that it is in.
func Weight(txn *pb.TxnRequest) int {
	level, nested := max(len(txn.Compare), len(txn.Success), len(txn.Failure)), 0
	for _, ops := range [][]*pb.RequestOp{txn.Success, txn.Failure} {
		for _, op := range ops {
			if inner := op.GetRequestTxn(); inner != nil {
				nested = max(nested, Weight(inner))
			}
		}
	}
	return level + nested
}

// LimitError says that a transaction has more operations than etcd takes.
type LimitError struct {
	Needs int // the least --max-txn-ops with which etcd would take it
	err   error
}

// NewLimitError makes one of etcd's error.
func NewLimitError(needs int, err error) *LimitError { return &LimitError{needs, err} }

func (e *LimitError) Error() string {
	return fmt.Sprintf("etcd's --max-txn-ops is too low: this needs %d at least (%v)", e.Needs, e.err)
}

func (e *LimitError) Unwrap() error { return e.err }
