package txn

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Guard is a key that must exist, created at a given revision.
type Guard struct {
	Key     string
	Created int64
}

// Guards are all the keys that must exist for a transaction to write anything. If there are none, it may always write.
type Guards []Guard

// GuardError says that a guard did not hold, so that nothing was written.
type GuardError struct {
	Key      string
	Revision int64 // etcd's revision, as of the answer
}

func (e *GuardError) Error() string { return fmt.Sprintf("%q is not there as it was created", e.Key) }

// Compare returns the guards' comparisons.
func (g Guards) Compare() []*pb.Compare {
	all := make([]*pb.Compare, len(g))
	for i, guard := range g {
		all[i] = Created(guard.Key, guard.Created)
	}
	return all
}

// Look returns the reads that a transaction makes if it does not succeed, for Check.
func (g Guards) Look() []*pb.RequestOp { return g.look(0) }

// look is Look with capacity for room further operations.
func (g Guards) look(room int) []*pb.RequestOp {
	all := make([]*pb.RequestOp, len(g), len(g)+room)
	for i, guard := range g {
		all[i] = Look([]byte(guard.Key))
	}
	return all
}

// Check returns a *GuardError of the guard that did not hold, or nil if all did. resp is the answer of a transaction
// that did not succeed, whose first operations were those of Look.
func (g Guards) Check(resp *pb.TxnResponse) error {
	for i, guard := range g {
		if kv := First(resp.Responses[i]); kv.GetCreateRevision() != guard.Created {
			return &GuardError{guard.Key, resp.Header.GetRevision()}
		}
	}
	return nil
}
