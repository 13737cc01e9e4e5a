package drm

import (
	"encoding/json"
	"time"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
)

// ExplainOptions says of what Client.Explain tells. The zero value stands for the present.
type ExplainOptions struct {
	// Revision is a revision of etcd, for the state as it was then; 0: now. etcd has those since its last compaction.
	Revision int64
}

// Explanation tells where a resource is, where it should be, and why.
type Explanation struct {
	Resource string
	Shard    int
	Revision int64           // etcd's revision at which all of this was so
	Past     bool            // ExplainOptions named the revision; then no Lease has its times
	Entry    *ExplainedEntry // nil: the catalogue does not have the resource
	Route    Route           // how the owner of the shard is found
	Rulings  []Ruling        // pin, exception and move, in force or not
	Expected string          // the member that should have the claim; empty: no member is eligible
	Members  []Stand         // what each member is to the shard, by id
	Claim    *ExplainedClaim // nil: nobody has one
	// Quarantine says why nobody handles the resource; nil: there is no record of quarantine.
	Quarantine *Quarantine
	// Begun says that the resource may be to blame if its member dies now; nil: it may not.
	Begun *Begun
	State State
	// Fine says that the resource is active at the member that is expected; or that it should not be handled, and is
	// not.
	Fine    bool
	Reasons []Reason // why it is so, in the order of the way from the catalogue to the claim
}

// Versions says when a key of etcd was written last. It is zero where there is no such key.
type Versions struct {
	Created  int64 // the revision of its creation
	Modified int64 // the revision of its last change
	Writes   int64 // how often it was written since its creation
}

// ExplainedEntry is what the catalogue has of a resource.
type ExplainedEntry struct {
	Versions

	FromSource bool // the last fetch had it
	Allocated  bool // an Allocate wants it
	OwnData    bool // its data came with an allocation
	Suspended  bool // it was deallocated, and is not handled
	Understood bool // the entry can be read; otherwise the other fields are zero
	// Data is the whole object. It may have secrets; nil where the entry is not understood.
	Data json.RawMessage
}

// Route tells how the owner of a shard is found.
type Route struct {
	Shard int
	Owner string // empty: no member is eligible
	Home  string // to whom the shard would belong by the ring alone, without pins and exceptions
	Steps []Step // the candidates in the order in which they are asked, up to the owner
	// LastResort says that nobody takes the shard, so that it belongs to the first that may own it although it is full
	// or cordoned.
	LastResort bool
	Older      bool // the rules of an older version have decided, since a member of that version lives
}

// Step is one candidate for a shard.
type Step struct {
	Kind    StepKind
	Slot    int    // on the ring; of StepSlot and StepNearest
	Member  string // empty: the slot is free
	Verdict Verdict
	Taken   bool // the shard belongs to this candidate
}

// StepKind says what names a candidate for a shard.
type StepKind string

// The kinds of steps, in the order in which they are asked.
const (
	StepPin       = StepKind(membership.StepPin)       // an operator's pin
	StepException = StepKind(membership.StepException) // the coordinator's exception to the ring
	StepThen      = StepKind(membership.StepThen)      // the second member that the exception names
	StepTable     = StepKind(membership.StepTable)     // the table of exceptions of older versions
	StepSlot      = StepKind(membership.StepSlot)      // a slot that the ring tries
	StepNearest   = StepKind(membership.StepNearest)   // the slot that the ring takes where all tries were in vain
)

// Verdict says what a member, or a slot, is to a shard.
type Verdict string

// The verdicts.
const (
	VerdictOwner    = Verdict(membership.VerdictOwner)    // the shard belongs to it
	VerdictTakes    = Verdict(membership.VerdictTakes)    // it could take the shard
	VerdictNoSlots  = Verdict(membership.VerdictNoSlots)  // it could take the shard, and has no slot on the ring yet
	VerdictStray    = Verdict(membership.VerdictStray)    // of a slot: its member does not say that it has the slot
	VerdictAwaited  = Verdict(membership.VerdictAwaited)  // it is expected back, and did not have the shard
	VerdictGone     = Verdict(membership.VerdictGone)     // there is no such member
	VerdictFree     = Verdict(membership.VerdictFree)     // of a slot: it is nobody's
	VerdictJoining  = Verdict(membership.VerdictJoining)  // it takes nothing yet
	VerdictLeaving  = Verdict(membership.VerdictLeaving)  // it is stopping
	VerdictUnready  = Verdict(membership.VerdictUnready)  // it says that it cannot work
	VerdictDraining = Verdict(membership.VerdictDraining) // it is drained, and does not keep the shard
	VerdictNoWeight = Verdict(membership.VerdictNoWeight) // it has the weight 0, and does not keep the shard
	VerdictFull     = Verdict(membership.VerdictFull)     // it has as many claims as it may have (MaxResources)
	VerdictCordoned = Verdict(membership.VerdictCordoned) // it takes nothing new
	VerdictOlder    = Verdict(membership.VerdictOlder)    // it does not count for members of an older version
)

// Text says what a verdict means, in words that follow the name of the member or slot.
func (v Verdict) Text() string { return picture.VerdictText(membership.Verdict(v)) }

// Ruling is an order or an exception that names the member to which a shard, or a resource, belongs.
type Ruling struct {
	Versions

	Kind     RulingKind
	Member   string
	Then     string // to whom it belongs where not to Member; of RulingException
	Why      string // of RulingException: bound, drain, leave, join, move, version or ring (docs/design.md)
	By       string // who gave the order or placed the shard; of RulingMove: the member that gave the resource away
	Reason   string // for people
	Since    time.Time
	InForce  bool
	Obstacle Verdict // why it is not in force: what Member is to the shard
}

// RulingKind says what a Ruling is.
type RulingKind string

// The kinds of rulings.
const (
	RulingMove      = RulingKind(picture.RulingMove)      // a resource that did not work at the owner of its shard
	RulingPin       = RulingKind(picture.RulingPin)       // an operator's pin
	RulingException = RulingKind(picture.RulingException) // the coordinator's exception, or an operator's move
	RulingTable     = RulingKind(picture.RulingTable)     // the table of exceptions of older versions
)

// Stand is what a member is to a shard.
type Stand struct {
	Member  string
	State   string // as that of MemberInfo; empty: the member is not there, and not expected back
	Verdict Verdict
	Detail  string // for people: who has drained it and why, why it is not ready, and so on
	Schema  int    // which version of the group's keys it knows; 0: it is not there
	Shards  int    // how many shards it owns
}

// Lease is a lease of etcd.
type Lease struct {
	ID    int64         // 0: there is none
	Known bool          // TTL and Left are known: etcd was asked for now, and allowed it
	TTL   time.Duration // the life that it was granted; 0: it has ended
	Left  time.Duration // what is left of that unless it is renewed, in whole seconds
}

// ExplainedClaim is a claim of a resource.
type ExplainedClaim struct {
	Versions

	Member      string
	State       State
	Since       time.Time // as that of Assignment
	Error       string    // as that of Assignment
	Token       int64
	Lease       Lease
	MemberLease Lease // that of the member's own key; zero where that is not there
	Understood  bool  // otherwise only Token, Lease and Versions are known
}

// Quarantine is the record which says that nobody handles a resource, since members have died while they began with it.
type Quarantine struct {
	Versions

	At     time.Time // when it was written, by the clock of the member that wrote it
	Deaths []Death
}

// Death is the death of a member that a resource is accused of.
type Death struct {
	Member string
	At     time.Time // when the member was alive last, by its clock
	Exit   string    // how its process ended; empty where that is not known
}

// Begun says that a resource is on the trail of its member: its Handle or Update runs, is about to run, or has returned
// a short time ago.
type Begun struct {
	At       time.Time // when that was written, by the member's clock
	Returned bool      // the call had returned by then
	Alone    bool      // nothing else begins beside it, since a death has accused it
}

// Reason is one thing that explains where a resource is.
type Reason struct {
	Code string // such as lease-runs; docs/cli.md lists them. Later versions may have further ones
	Text string // for people, in one line
	// Hinders says that because of this the resource is not handled, or not where it should be. Otherwise it tells why
	// the resource belongs where it does.
	Hinders bool
	Wait    *Wait  // what is waited for, where it is known how long; nil: it is not
	Remedy  string // for people: the command or the setting that changes it; empty: there is none
}

// Wait is a time after which something happens by itself.
type Wait struct {
	Until string        // what happens then
	Left  time.Duration // in whole seconds
	Of    time.Duration // the whole time
}

// Text says how much of the time is left, such as: 59 s of 60 s until the lease of m2's claim ends.
func (w Wait) Text() string { return picture.Wait(w).Text() }

func explanationOf(e picture.Explanation) Explanation {
	made := Explanation{
		Resource: e.Resource, Shard: e.Shard, Revision: e.Revision, Past: e.Past, Route: routeOf(e.Trace),
		Rulings: mapped(e.Rulings, rulingOf), Expected: e.Expected, Members: mapped(e.Members, standOf),
		State: State(e.State), Fine: e.Fine, Reasons: mapped(e.Reasons, reasonOf),
	}
	if n := e.Entry; n != nil {
		made.Entry = &ExplainedEntry{
			Versions: Versions(n.Versions), FromSource: n.FromSource, Allocated: n.Allocated, OwnData: n.OwnData,
			Suspended: n.Suspended, Understood: n.Understood, Data: n.Data,
		}
	}
	if c := e.Claim; c != nil {
		made.Claim = &ExplainedClaim{
			Versions: Versions(c.Versions), Member: c.Member, State: State(c.State), Since: c.Since, Error: c.Error,
			Token: c.Token, Lease: Lease(c.Lease), MemberLease: Lease(c.MemberLease), Understood: c.Understood,
		}
	}
	if q := e.Quarantine; q != nil {
		made.Quarantine = &Quarantine{Versions: Versions(q.Versions), At: q.At, Deaths: mapped(q.Deaths, deathOf)}
	}
	if e.Begun != nil {
		begun := Begun(*e.Begun)
		made.Begun = &begun
	}
	return made
}

func deathOf(d claims.Death) Death { return Death{Member: d.Member, At: d.At, Exit: d.Exit} }

func routeOf(t membership.Trace) Route {
	return Route{
		Shard: t.Shard, Owner: t.Owner, Home: t.Home, LastResort: t.LastResort, Older: t.Older,
		Steps: mapped(t.Steps, func(s membership.Step) Step {
			return Step{StepKind(s.Kind), s.Slot, s.Member, Verdict(s.Verdict), s.Taken}
		}),
	}
}

func rulingOf(r picture.Ruling) Ruling {
	return Ruling{
		Versions: Versions(r.Versions), Kind: RulingKind(r.Kind), Member: r.Member, Then: r.Then, Why: r.Why, By: r.By,
		Reason: r.Reason, Since: r.Since, InForce: r.InForce, Obstacle: Verdict(r.Obstacle),
	}
}

func standOf(s picture.Stand) Stand {
	return Stand{
		Member: s.Member, State: s.State, Verdict: Verdict(s.Verdict), Detail: s.Detail, Schema: s.Schema,
		Shards: s.Shards,
	}
}

func reasonOf(r picture.Reason) Reason {
	made := Reason{Code: r.Code, Text: r.Text, Hinders: r.Hinders, Remedy: r.Remedy}
	if r.Wait != nil {
		wait := Wait(*r.Wait)
		made.Wait = &wait
	}
	return made
}
