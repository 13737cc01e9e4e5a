package picture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/membership"
)

// Errors of Explain at a revision of the past.
var (
	// ErrFuture says that etcd has not reached that revision yet.
	ErrFuture = errors.New("etcd has not reached that revision yet")
	// ErrOtherApp says that the app did not exist at that revision, or had another number of shards.
	ErrOtherApp = errors.New("at that revision the app did not exist, or had another number of shards")
)

// Explanation tells where a resource is, where it should be, and why.
type Explanation struct {
	Resource string
	Shard    int
	Revision int64 // etcd's revision at which all of this was so
	Past     bool  // it is an earlier revision, so that nothing is known of the time that leases have left

	Entry    *Entry // nil: the catalogue does not have the resource
	Trace    membership.Trace
	Rulings  []Ruling // what keeps the ring from deciding, in the order in which it is asked
	Expected string   // the member that should have the claim; empty: there is none
	Members  []Stand  // by id
	Claim    *Claim   // nil: nobody has one

	Quarantine *Quarantine // nil: there is no record of quarantine
	Begun      *Begun      // nil: no trail names it under this claim

	State   string // StateUnassigned, or the state of the claim
	Fine    bool   // it is handled where it should be; or it should not be handled, and is not
	Reasons []Reason
}

// Versions says when a key was written last.
type Versions struct {
	Created  int64 // the revision of its creation
	Modified int64 // the revision of its last change
	Writes   int64 // how often it was written since its creation
}

func versionsOf(kv *mvccpb.KeyValue) Versions {
	return Versions{kv.CreateRevision, kv.ModRevision, kv.Version}
}

// Entry is what the catalogue has of a resource.
type Entry struct {
	Versions

	FromSource, Allocated, OwnData, Suspended bool

	Suspension *catalogue.Suspension // nil: no operator has suspended it
	Data       []byte                // the object; nil if the entry is not understood
	Understood bool
}

// Ruling is something that names the member to which a shard or a resource belongs, before the ring is asked.
type Ruling struct {
	Versions

	Kind    string // RulingPin, RulingException, RulingTable or RulingMove
	Member  string
	Then    string // to whom it belongs if not to Member; of an exception
	Why     string // a membership.Why; of an exception
	By      string // who gave the order, or placed the shard; of a move: the member that gave the resource away
	Reason  string // for people
	Since   time.Time
	InForce bool
	// Obstacle says why it is not in force. A move that is not in force although its member takes the shard was made
	// before the member was cordoned.
	Obstacle membership.Verdict
}

// The kinds of rulings.
const (
	RulingPin       = "pin"
	RulingException = "exception"
	RulingTable     = "table"
	RulingMove      = "move"
)

// Stand is what a member is to a shard.
type Stand struct {
	Member  string
	State   string // a membership.State, StateAbsent, or empty: it is not there, and not expected back
	Verdict membership.Verdict
	Detail  string // for people: who drained it, why it is not ready
	Schema  int    // the newest version of the group's keys that it knows; 0: it is not there
	Shards  int    // how many shards it owns
}

// Lease is a lease of etcd.
type Lease struct {
	ID    int64         // 0: there is none
	Known bool          // the two times are known
	TTL   time.Duration // its life when it was granted; 0: it has ended
	Left  time.Duration // what is left of it unless it is renewed, in whole seconds
}

// stale says whether nobody has renewed the lease for half of its life.
func (l Lease) stale() bool { return l.Known && leaseAge{l.TTL, l.Left + time.Second}.stale() }

// Claim is a claim of a resource.
type Claim struct {
	Versions

	Member      string
	State       string
	Since       time.Time
	Error       string
	Token       int64
	Lease       Lease
	MemberLease Lease // that of the member's own key; zero if the member is not there
	Understood  bool  // otherwise nothing is known but Token, Lease and Versions
}

// Quarantine is the record which says that nobody handles a resource.
type Quarantine struct {
	Versions
	claims.Quarantine
}

// Begun is what a trail says of a resource: it may be to blame if its member dies now.
type Begun struct {
	At       time.Time // when the trail was written, by the member's clock
	Returned bool      // its Handle or Update had returned by then
	Alone    bool      // nothing else began beside it, since a death has accused it
}

// Explain tells where a resource is, where it should be, and why. It reads the members and what concerns the resource.
// Revision 0 means now. created is the create revision of the app's config key. A resource that the catalogue does not
// have is explained all the same.
func (r *Reader) Explain(ctx context.Context, id string, created, revision int64) (Explanation, error) {
	read := func() (*facts, error) { return r.gather(ctx, id, created, revision) }
	var f *facts
	var err error
	if revision > 0 { // what is compacted stays so
		f, err = read()
	} else {
		f, err = retry(read)
	}
	switch {
	case errors.Is(err, rpctypes.ErrCompacted) && revision > 0:
		err = r.notThen(ctx, revision, ErrCompacted)
	case errors.Is(err, rpctypes.ErrFutureRev):
		err = r.notThen(ctx, revision, ErrFuture)
	}
	if err != nil {
		return Explanation{}, fmt.Errorf("explain resource %q: %w", id, err)
	}
	f.explain()
	return f.Explanation, nil
}

// notThen makes the error about a revision that etcd does not have, and says which one it is at.
func (r *Reader) notThen(ctx context.Context, revision int64, why error) error {
	now, err := r.page(ctx, r.Layout.Config(), "", 0, 0)
	if err != nil {
		return fmt.Errorf("revision %d: %w", revision, why)
	}
	return fmt.Errorf("revision %d: %w; it is at revision %d now", revision, why, now.Header.Revision)
}
