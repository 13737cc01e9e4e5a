package core

import (
	"math/rand/v2"
	"time"
)

// Config holds what does not change in a Core's life. All fields are required unless said otherwise.
type Config struct {
	HandleConcurrency    int           // most Handle and Update calls at once
	TerminateConcurrency int           // most Terminate calls at once
	ReleaseBacklog       int           // a Terminate starts only while fewer resources than this, at most, are on their way to the next owner, so that a gap is not spent in a queue
	ReleaseLeast         int           // as many at least, while it takes long until they are there
	ReleaseSlow          time.Duration // it takes long if it takes more than this, and several times the shortest time; 0: it never does
	Handover             time.Duration // how long a released resource counts as on its way, unless its next owner is seen to claim it; 0: not at all
	HandleAttempts       int           // failures in a row after which a resource is left alone; 0: never
	Backoff              time.Duration // after the first failure of a call
	BackoffMax           time.Duration // bounds the doubling of Backoff
	RetryMin             time.Duration // the pause before a write to etcd that failed is tried again; doubles up to RetryMax
	RetryMax             time.Duration
	UncertainFor         time.Duration // how long a claim whose answer was lost may still be applied
	HoldUntilTerminated  bool          // keep a claim whose Terminate failed, and try again
	CanUpdate            bool          // the handler takes changed data in place
	FinishCalls          bool          // a Handle or Update in progress is not cancelled before its claim ends: its outcome is waited for
	KeysPerLease         int           // most claims on one lease
	LeaseIdle            time.Duration // a lease that has been empty for so long is revoked, where another one has room; 0: never
	WriteBacklog         int           // most claims, and most states, on their way to etcd at once; the others wait as resources, which take a tenth of the memory
	StateDelay           time.Duration // how long a state waits for claims and releases to go first, at most
	SummaryLeast         int           // as many states of a shard at least go in one summary, where it can stand for them
	Rand                 *rand.Rand    // jitter of the pauses
}

// ActionKind says what is to be done.
type ActionKind uint8

// The kinds of actions, with the fields that they use besides Kind.
const (
	Watch         ActionKind = iota + 1 // list and follow Shard
	Unwatch                             // stop following Shard
	NeedLease                           // grant another lease and answer with LeaseReady
	Revoke                              // Lease is fenced and nothing is on it any more, or it has been empty for long: revoke it
	Claim                               // create the claim of ID in Shard under Lease; answer with ClaimDone
	Release                             // delete the claim whose create revision is Token (0: only look what is there, with the same compare); answer with ReleaseDone
	WriteState                          // write State, Err to the claim (Token, Lease); answer with StateDone
	WriteSummary                        // write that all claims of Shard on Lease that were written last at Token or before are active; answer with SummaryDone
	DeleteSummary                       // delete that; answer with SummaryDone
	Handle                              // call Handle (Token, Lease, Data); answer with CallDone or CallStuck
	Update                              // call Update; as Handle
	Terminate                           // call Terminate because of Cause; as Handle
	Cancel                              // end the context of the call in progress because of Cause; ClaimLost: of the handling, call or not
)

var kindNames = [...]string{
	"", "watch", "unwatch", "need-lease", "revoke", "claim", "release", "write-state", "write-summary", "delete-summary", "handle", "update", "terminate", "cancel",
}

func (k ActionKind) String() string { return kindNames[k] }

// Action is one thing to be done.
type Action struct {
	Kind  ActionKind
	Shard int
	ID    string
	Lease int64
	Token int64
	Data  []byte
	Cause Cause
	State State
	Since time.Duration // of Claim and WriteState: when the state was reached
	Err   string

	Within time.Duration // of WriteSummary: how long after they were claimed its claims became active, at most

	Vacant bool // of Claim: nobody has any claim in the shard, as far as is known
}

// Cause says why a call or a claim ends.
type Cause uint8

// The causes.
const (
	NoCause   Cause = iota
	Stopped         // the member is stopping
	Moved           // the shard is another member's
	Removed         // the resource left the catalogue or was suspended
	Changed         // its data changed, and the handler cannot update
	Fenced          // the claim's lease is too close to its deadline, or gone
	ClaimLost       // the claim's key was deleted by someone else
	Failure         // the call failed in a way that leaves the handler to be cleaned up
)

var causeNames = [...]string{"", "stopped", "moved", "removed", "changed", "fenced", "claim-lost", "failure"}

func (c Cause) String() string { return causeNames[c] }

// State is what a claim's key says of the handling.
type State uint8

// The states.
const (
	StateClaimed State = iota
	StateActive
	StateFailed
)

var stateNames = [...]string{"claimed", "active", "failed"}

func (s State) String() string { return stateNames[s] }

// Outcome says how a call ended.
type Outcome uint8

// The outcomes.
const (
	OK       Outcome = iota
	Error            // it returned an error
	Unclear          // it returned an error, and may have done what it was asked to all the same
	Panicked         // it panicked
	TimedOut         // it returned, but only after its time was up
	Refused          // it was not called: the lease's deadline was too near, or a Cancel came first
	Cut              // it returned an error because its context had ended, with the lease for instance: what it began may have been done, and a Terminate is to follow
)

var outcomeNames = [...]string{"ok", "error", "unclear", "panicked", "timed-out", "refused", "cut"}

func (o Outcome) String() string { return outcomeNames[o] }

// WriteResult is what became of a Claim, Release, WriteState, WriteSummary or DeleteSummary.
type WriteResult struct {
	Applied    bool
	Revision   int64 // of the transaction; 0 where etcd did not answer
	FoundToken int64 // not Applied: the create revision of the key that is there; 0: none
	FoundLease int64 // its lease
	Unknown    bool  // the answer was lost: it may have been applied, or may still be
	Failed     bool  // nothing was written; try again later
	LeaseGone  bool  // nothing was written, because etcd does not know the lease
}

// Entry is a catalogue entry as an event tells it.
type Entry struct {
	ID         string
	Suspended  bool
	Unreadable bool   // it is there, and nobody knows what it says: what was known before stays in force
	Data       []byte // kept; the caller must not change it afterwards
}

// ClaimKey is a claim's key as an event tells it.
type ClaimKey struct {
	ID          string
	Token       int64 // create revision
	ModRevision int64
	Lease       int64
}

// SummaryKey is a summary's key as an event tells it.
type SummaryKey struct {
	Lease       int64 // that it is about, and on
	Through     int64 // up to which revision claims are active that say nothing else
	ModRevision int64
}

// Handled is one resource that the handler has under a valid claim.
type Handled struct {
	ID    string
	Shard int
	Token int64
	Since time.Duration

	Ailing bool   // the handler reported that what it started fails
	Err    string // with this message
}

// Stats are figures of a Core.
type Stats struct {
	Shards  int // followed
	Known   int // resources and foreign claims in them
	Claims  int // held by this member
	Active  int // handled
	Failed  int // claimed; the last Handle failed, or what it started does
	Calls   int // in progress
	Stuck   int // calls given up that have not returned
	Waiting int // for a free place to be called in
}
