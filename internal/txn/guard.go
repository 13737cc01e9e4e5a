package txn

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Guard is a key that must exist, as it was created at a revision.
type Guard struct {
	Key     string
	Created int64
}

// Guards are all the keys that must exist for a transaction to write anything. None of them: it may.
type Guards []Guard

// GuardError says that a guard did not hold, so that nothing was written.
type GuardError struct {
	Key      string
	Revision int64 // etcd's, as of the answer
}

func (e *GuardError) Error() string { return fmt.Sprintf("%q is not there as it was created", e.Key) }

// Compare makes the guards' comparisons.
func (g Guards) Compare() []*pb.Compare {
	all := make([]*pb.Compare, len(g))
	for i, guard := range g {
		all[i] = Created(guard.Key, guard.Created)
	}
	return all
}

// Look makes what a transaction has to read where it did not succeed, for Check.
func (g Guards) Look() []*pb.RequestOp { return g.look(0) }

// look is Look, with room for so many operations more.
func (g Guards) look(room int) []*pb.RequestOp {
	all := make([]*pb.RequestOp, len(g), len(g)+room)
	for i, guard := range g {
		all[i] = Look([]byte(guard.Key))
	}
	return all
}

// Check returns a *GuardError of the guard that did not hold, by what a transaction read that did not succeed; nil
// where all did. What Look made were the first of the operations.
func (g Guards) Check(resp *pb.TxnResponse) error {
	for i, guard := range g {
		if kv := First(resp.Responses[i]); kv.GetCreateRevision() != guard.Created {
			return &GuardError{guard.Key, resp.Header.GetRevision()}
		}
	}
	return nil
}
