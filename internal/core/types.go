package core

import (
	"math/rand/v2"
	"time"
)

// Config holds the rules of a Core, which never change. All fields are required unless their comment says otherwise.
type Config struct {
	// HandleConcurrency is how many calls of Handle and Update run at once, at most.
	HandleConcurrency int
	// TerminateConcurrency is how many calls of Terminate run at once, at most.
	TerminateConcurrency int

	// HandleRate bounds how often Handle is called. The zero value: not at all.
	HandleRate Rate
	// KeyRate bounds how often Handle is called for resources of one key in the whole group. Core asks for the key of
	// each resource (FindKey), and heeds the share that SetShare tells. The zero value: there are no keys.
	KeyRate Rate
	// ShareGrace is how long after a change of the view this member goes on with the smaller share.
	ShareGrace time.Duration

	// MaxResources is how many claims this member has at once, at most. What does not fit is left to others: Decline
	// says which shards this member declines to own. 0: there is no limit.
	MaxResources int
	// RetakeAfter is how long there must have been room for shards that were declined until this member takes back any.
	RetakeAfter time.Duration

	// ReleaseBacklog is how many resources are on their way to their next owners at once, at most: a Terminate starts
	// only while there are fewer. This member handles the others meanwhile; in the next owner's queue nobody would.
	ReleaseBacklog int
	// ReleaseLeast is the least that this limit falls to while resources take long to reach their next owners.
	ReleaseLeast int
	// ReleaseSlow is the least time that a resource takes to reach its next owner if it counts as slow; it must also
	// take several times as long as etcd's fastest answer. 0: no resource counts as slow.
	ReleaseSlow time.Duration
	// Handover is how long a released resource counts as on its way, unless its next owner is seen to claim it before.
	// 0: a released resource does not count.
	Handover time.Duration

	// HandleAttempts is how many times in a row Handle may fail until it is not tried again before the data change.
	// 0: no limit.
	HandleAttempts int
	// MoveAfter is how many times in a row a resource may fail here (Handle, or what it began) until GiveAway. 0:
	// never.
	MoveAfter int
	// Backoff is the pause after the first failure of a call. It doubles with each further one, up to BackoffMax.
	Backoff    time.Duration
	BackoffMax time.Duration
	// RetryMin is the pause before a write to etcd that failed is tried again. It doubles up to RetryMax.
	RetryMin time.Duration
	RetryMax time.Duration
	// UncertainFor is how long a write whose answer was lost may still be applied.
	UncertainFor time.Duration

	HoldUntilTerminated bool // the policy: keep a claim whose Terminate failed, and call Terminate again
	CanUpdate           bool // the handler takes changed data in place
	FinishCalls         bool // wait for the outcome of a Handle or Update in progress, unless its claim ends

	// KeysPerLease is how many claims are on one lease, at most.
	KeysPerLease int
	// LeaseIdle is how long a lease must be empty before it is revoked, if another one has room. 0: it is kept.
	LeaseIdle time.Duration
	// WriteBacklog is how many claims, and how many states, are on their way to etcd at once, at most. The others wait
	// in the core, where each takes a tenth of the memory.
	WriteBacklog int
	// StateDelay is how long a state waits for claims and releases to go first, at most.
	StateDelay time.Duration
	// SummaryLeast is how many states of a shard one summary stands for, at least.
	SummaryLeast int

	// QuarantineAfter is how many deaths of members a resource must be accused of until it is quarantined. 0: the core
	// keeps no trails, and accuses nobody.
	QuarantineAfter int
	// Crowd is how many resources may be accused of the same number of deaths, or of more, so that each of them is
	// handled alone.
	Crowd int
	// QuarantineWindow is how long an accusation counts.
	QuarantineWindow time.Duration
	// Young is how long a resource is young after its Handle or Update has returned: it may be to blame if the member
	// dies then.
	Young time.Duration

	Rand *rand.Rand // makes the pauses differ
}

// ActionKind says what the owner of the Core must do.
type ActionKind uint8

// The kinds of actions, with the fields that they use besides Kind.
const (
	// Watch lists Shard, answers with Snapshot, and follows the shard from there.
	Watch ActionKind = iota + 1
	// Unwatch stops following Shard.
	Unwatch
	// NeedLease grants another lease; answer with LeaseReady.
	NeedLease
	// Revoke revokes Lease, which is fenced and has no claim of this member left, or has been empty for long.
	Revoke
	// Claim creates the claim of ID in Shard under Lease; answer with ClaimDone.
	Claim
	// Release deletes the claim of ID in Shard whose create revision is Token; answer with ReleaseDone. Token 0 deletes
	// nothing: the comparison finds out whether there is a claim.
	Release
	// WriteState writes State, Since and Err to the claim of ID (Token, Lease); answer with StateDone.
	WriteState
	// WriteSummary writes that those claims of Shard on Lease are active that say that they are claimed and were last
	// modified at revision Token or before; answer with SummaryDone.
	WriteSummary
	// DeleteSummary deletes the summary of Shard on Lease; answer with SummaryDone.
	DeleteSummary
	// Decline tells the other members which shards this one declines to own (Core.Declined).
	Decline
	// FindKey finds the key of ID, whose data are Data, for Config.KeyRate; answer with KeyFound and Token.
	FindKey
	// WriteTrail writes Trail as the trail of Shard and Lease, if the key's mod revision is Token; 0: if there is no
	// such key. Answer with TrailDone. A Trail without a Member is one of this member's. Another member's trail is
	// written, or deleted, only if the lease has ended.
	WriteTrail
	// DeleteTrail deletes the trail of Shard and Lease, if the key's mod revision is Token. Token 0 deletes nothing:
	// the comparison finds out whether there is a trail. Answer with TrailDone. Trail has the Member if it is another
	// one's.
	DeleteTrail
	// Exonerate deletes the trails of Lease in all shards, if the lease has ended. There is no answer.
	Exonerate
	// TakeAlone creates the key that only one member of the group can have, on Lease, for ID; answer with AloneDone.
	TakeAlone
	// FreeAlone deletes that key, if its create revision is Token. Token 0 deletes nothing: the comparison finds out
	// whether there is one. Answer with AloneDone.
	FreeAlone
	// WriteQuarantine writes the record Quarantine of ID, if there is none, and the leases of all deaths have ended;
	// answer with QuarantineDone.
	WriteQuarantine
	// DeleteQuarantine deletes the record of ID, if its create revision is Token; answer with QuarantineDone.
	DeleteQuarantine
	// DeleteRetry deletes the order to try ID again, if its mod revision is Token. There is no answer.
	DeleteRetry
	// Handle calls the handler's Handle for ID with Token, Lease and Data; answer with CallDone or CallStuck.
	Handle
	// Update calls the handler's Update; the rest is as for Handle.
	Update
	// Terminate calls the handler's Terminate because of Cause; the rest is as for Handle.
	Terminate
	// Cancel ends the context of the call in progress because of Cause. If that is ClaimLost, it ends the context of
	// the whole handling, whether a call is in progress or not. If it is Gone, no call is in progress, and the context
	// of the handling ends: Handle replaces the handling, or Terminate follows if the claim ends before.
	Cancel
	// GiveAway finds another member for ID, whose claim has Token, because of Err, and makes the resource that
	// member's. No answer is needed: SetOwned tells when the resource is not this member's any more.
	GiveAway
)

var kindNames = [...]string{
	"",
	"watch",
	"unwatch",
	"need-lease",
	"revoke",
	"claim",
	"release",
	"write-state",
	"write-summary",
	"delete-summary",
	"decline",
	"find-key",
	"write-trail",
	"delete-trail",
	"exonerate",
	"take-alone",
	"free-alone",
	"write-quarantine",
	"delete-quarantine",
	"delete-retry",
	"handle",
	"update",
	"terminate",
	"cancel",
	"give-away",
}

func (k ActionKind) String() string { return kindNames[k] }

// Action is one thing that the owner of the Core must do. Which fields are used depends on Kind.
type Action struct {
	Kind  ActionKind
	Shard int
	ID    string
	Lease int64
	Token int64
	Data  []byte
	Cause Cause
	State State
	Since time.Duration // for Claim and WriteState: when the state was reached
	Err   string        // the last failure; for WriteState also: which call takes long; empty: neither

	Within time.Duration // for WriteSummary: the longest time from one of its claims until that became active

	Vacant bool // for Claim: no claim in the shard is known, of any member

	Trail      *Trail      // for WriteTrail and DeleteTrail
	Quarantine *Quarantine // for WriteQuarantine
}

// Cause says why a call or a claim ends.
type Cause uint8

// The causes.
const (
	NoCause   Cause = iota
	Stopped         // the member is stopping
	Moved           // another member owns the shard
	Removed         // the resource left the catalogue or was suspended
	Changed         // its data changed, and the handler cannot update
	Fenced          // the claim's lease is too near its deadline, or gone
	ClaimLost       // the claim's key is gone, whoever deleted it, and the handler still has the resource
	Failure         // the call failed, or what it began broke, and may have left something behind
	Gone            // what the handler began is gone with the process that had it
)

var causeNames = [...]string{"", "stopped", "moved", "removed", "changed", "fenced", "claim-lost", "failure", "gone"}

func (c Cause) String() string { return causeNames[c] }

// State is what a claim's key says of the handling.
type State uint8

// The states.
const (
	StateClaimed State = iota
	StateActive
	StateFailed
	StateQuarantined
)

var stateNames = [...]string{"claimed", "active", "failed", "quarantined"}

func (s State) String() string { return stateNames[s] }

// Outcome says how a call ended.
type Outcome uint8

// The outcomes.
const (
	OK       Outcome = iota
	Error            // it returned an error
	Unclear          // it returned an error, and may have done what it was asked to do all the same
	Panicked         // it panicked
	TimedOut         // it returned, but only after its time was up
	Refused          // the handler was not called: the lease's deadline was too near, or a Cancel came first
	Cut              // it returned an error because its context had ended, and may have begun: Terminate must follow
)

var outcomeNames = [...]string{"ok", "error", "unclear", "panicked", "timed-out", "refused", "cut"}

func (o Outcome) String() string { return outcomeNames[o] }

// WriteResult is what became of a write: a Claim, Release, WriteState, WriteSummary, WriteTrail and so on.
type WriteResult struct {
	Applied    bool
	Revision   int64 // of the transaction; 0 if etcd did not answer
	FoundToken int64 // if it was not applied: the create revision of the claim that is there; 0: there is none
	FoundLease int64 // the lease of the claim that is there
	FoundMod   int64 // the mod revision of what is there
	Unknown    bool  // the answer was lost: the write may have been applied, or may still be
	Failed     bool  // nothing was written; the write may be tried again later
	LeaseGone  bool  // nothing was written, because etcd does not know the lease
}

// errored says that nothing is known but that the write has not succeeded so far: etcd has not told what is there.
func (r WriteResult) errored() bool { return r.Unknown || r.Failed || r.LeaseGone }

// Entry is a catalogue entry as an event tells it.
type Entry struct {
	ID         string
	Suspended  bool
	Unreadable bool   // there is an entry, but it cannot be decoded: what was known before stays in force
	Weight     int64  // its part in the load of its member, in thousandths; 0 stands for OneWeight
	Data       []byte // the Core keeps it, so the caller must not change it afterwards
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
	Lease       int64 // the lease of the summary, and of the claims that it tells of
	Through     int64 // claims that say claimed are active if they were last modified at this revision or before
	ModRevision int64
}
