package lease

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/txn"
)

// Committer carries out transactions, each at most once. When etcd refuses, the error is one of package rpctypes; when
// the context ends, it is the context's. A Writer calls it from several goroutines at once. NewCommitter makes a
// Committer from a client.
type Committer interface {
	// Commit carries out one transaction. If the transaction succeeded, and its operations are only puts and deletes
	// that do not ask for the previous value, the answer may leave the Responses out.
	Commit(ctx context.Context, txn *pb.TxnRequest) (*pb.TxnResponse, error)
}

// NewCommitter makes a Committer that sends transactions unchanged over a client's connection. The caller closes the
// client after the last Commit.
func NewCommitter(client *clientv3.Client) Committer { return txn.New(client) }

// Limits remembers how much etcd takes in one transaction. It starts with etcd's defaults and learns from refusals.
// Writers on one etcd share a Limits, so that each of them is spared the refusals that another one has met. It never
// forgets what it has learnt, and may stay as low as half of what etcd would take. NewLimits makes one. It is safe for
// concurrent use.
type Limits interface {
	// Ops is how many comparisons, and also how many operations, a transaction may have at most. Those of nested
	// transactions count too.
	Ops() int
	// Bytes is how large a transaction may be at most, in bytes as TooLarge counts them.
	Bytes() int
	// TooMany takes the error and the transaction that etcd refused. If the error says that the transaction has too
	// many operations, TooMany learns from it and returns an error that says how many etcd would have to take. It
	// returns any other error unchanged.
	TooMany(err error, refused *pb.TxnRequest) error
	// TooLarge learns that etcd refused a transaction of that many bytes.
	TooLarge(bytes int)
}

// NewLimits makes a Limits that starts with etcd's defaults: 128 operations, and no limit on the size.
func NewLimits() Limits { return new(txn.Limits) }
