package txn

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// UsualOps is etcd's default limit on the comparisons, and on the operations, of a transaction (--max-txn-ops).
const UsualOps = 128

// Limits is what etcd takes in one transaction, as far as is known. It starts with etcd's defaults and learns from
// refusals. All writers to one etcd share it, so that each is spared the refusals that another one has met. It never
// forgets what it has learnt, and may stay as low as half of what etcd would take. The zero value is ready to use. It
// is safe for concurrent use.
type Limits struct{ ops, bytes atomic.Int64 } // 0: not known to be lower than the default

// Ops is how many comparisons, and also how many operations, a transaction may have at most. Those of nested
// transactions count too.
func (l *Limits) Ops() int {
	if n := l.ops.Load(); n > 0 {
		return int(n)
	}
	return UsualOps
}

// Bytes is how large a transaction may be at most, in bytes as the callers of TooLarge count them; unlimited at first.
func (l *Limits) Bytes() int {
	if n := l.bytes.Load(); n > 0 {
		return int(n)
	}
	return math.MaxInt
}

// TooMany takes etcd's error and the transaction that it refused. If the error says that the transaction has too many
// operations, TooMany learns from it and returns a *LimitError. It returns any other error unchanged.
func (l *Limits) TooMany(err error, refused *pb.TxnRequest) error {
	if !errors.Is(err, rpctypes.ErrTooManyOps) {
		return err
	}
	weight := Weight(refused)
	lower(&l.ops, weight, l.Ops())
	return &LimitError{Needs: weight, err: err}
}

// TooLarge learns that etcd refused a transaction of that many bytes.
func (l *Limits) TooLarge(bytes int) { lower(&l.bytes, bytes, l.Bytes()) }

// lower makes a limit half of what was refused. A refusal above the limit teaches nothing: the transaction was sent
// before the limit was known.
func lower(limit *atomic.Int64, refused, was int) {
	for half := int64((refused + 1) / 2); refused <= was; {
		now := limit.Load()
		if now != 0 && now < int64(refused) || limit.CompareAndSwap(now, half) {
			return
		}
	}
}

// Weight is the least --max-txn-ops with which etcd accepts a transaction: etcd adds what is nested to the level that
// it is in.
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

// NewLimitError makes a LimitError of etcd's error. needs is the least --max-txn-ops that would do.
func NewLimitError(needs int, err error) *LimitError { return &LimitError{needs, err} }

func (e *LimitError) Error() string {
	return fmt.Sprintf("etcd's --max-txn-ops is too low: this needs %d at least (%v)", e.Needs, e.err)
}

func (e *LimitError) Unwrap() error { return e.err }
