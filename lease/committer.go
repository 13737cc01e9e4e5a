package lease

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/txn"
)

// Committer carries out transactions, each at most once. An error of etcd is one of the package rpctypes, and the error
// of a context is the context's. NewCommitter makes one of a client.
type Committer interface {
	// Commit carries out one transaction. If all of its operations for success are puts and deletes that do not ask for
	// what was there before, the Responses may be left out of the answer that it succeeded.
	Commit(ctx context.Context, txn *pb.TxnRequest) (*pb.TxnResponse, error)
}

// NewCommitter makes a Committer that sends transactions over a client's connection, as they are.
func NewCommitter(client *clientv3.Client) Committer { return txn.New(client) }

// Limits remembers how much etcd takes in one transaction: its defaults, until it refuses something. Writers on one
// etcd share it, so that what one of them has learnt spares the others the same refusal. What was learnt is never
// forgotten, and may be as little as half of what etcd would take. NewLimits makes one. It is safe for concurrent use.
type Limits interface {
	// Ops is the most comparisons, and also the most operations, of a transaction. Nested ones count too.
	Ops() int
	// Bytes is the largest size of a transaction, as TooLarge measures it.
	Bytes() int
	// TooMany learns from etcd's error that a transaction has too many operations, and returns an error that says how
	// many etcd would have to take. It returns any other error as it is.
	TooMany(err error, refused *pb.TxnRequest) error
	// TooLarge learns that etcd refused a transaction of that size.
	TooLarge(bytes int)
}

// NewLimits makes a Limits that knows etcd's defaults: 128 operations, and no limit of the size.
func NewLimits() Limits { return new(txn.Limits) }
