package events

import "time"

// Event is one thing that has happened. Which fields are set depends on its Kind; docs/events.md lists them.
type Event struct {
	Revision int64 // etcd's revision at which it happened; of a list: that of the list
	Index    int   // its place among the events of that revision that the filter takes, from 0
	Cursor   int64 // the revision from which to go on so that nothing after this event is missed
	Kind     Kind

	Time time.Time // when it happened
	// Estimated says that nothing in etcd says when it happened. Time is then that of its arrival, if it was followed
	// live, and otherwise the last time before it that is known; zero if none is.
	Estimated bool

	Of    string // of KindListed: what is listed
	State string // of KindListed: the state of that

	Resource  string
	Resources []string // of an event about several resources: the first of their ids, in order
	Count     int      // how many resources it is about; of events about a number of something: that number
	Member    string   // who has it now; of what has ended: who had it
	From      string   // who had it before
	Shard     int      // -1: it is about no shard
	Token     int64
	Weight    int // -1: it is about no weight

	By    string    // who ordered or did it; of a change of the catalogue: what wants the resource
	Why   string    // the reason that was given
	Since time.Time // of an order: since when it stands
	Until time.Time // of an order: when it ends by itself
	// OrderedBy is who has made the change by a command, and OrderedWhy the reason that they gave; empty where a member
	// has made it, or where it is not known.
	OrderedBy, OrderedWhy string

	After  int64  // of KindGap: nothing is known of what happened after this revision
	Detail string // more, for people

	unsure bool  // of Released: the lease may have ended
	lease  int64 // of a claim
}

// Kind says what has happened.
type Kind string

// The kinds of events about who handles what.
const (
	Claimed     Kind = "claimed"     // a member has made a claim; Token is that of the claim
	Active      Kind = "active"      // Handle has succeeded; of many resources at once: Resources and Count
	Failed      Kind = "failed"      // Handle failed, or what it began
	Recovered   Kind = "recovered"   // active again under the same claim
	Handling    Kind = "handling"    // not active any more under the same claim: the handler is to be called again
	Slow        Kind = "slow"        // a call of the handler takes long; Detail says which
	Released    Kind = "released"    // the member has deleted its claim
	Lost        Kind = "lost"        // the claim's lease has ended
	Quarantined Kind = "quarantined" // a member has the claim, and does not handle the resource
	Freed       Kind = "freed"       // the record of quarantine is gone
)

// The kinds of events about members.
const (
	MemberJoined       Kind = "member-joined"       // its key is there
	MemberActive       Kind = "member-active"       // it takes its share
	MemberUnready      Kind = "member-unready"      // it says that it cannot work; Why says why
	MemberReady        Kind = "member-ready"        // it can work again
	MemberLeaving      Kind = "member-leaving"      // it stops
	MemberLeft         Kind = "member-left"         // its key is gone, after it was leaving
	MemberDied         Kind = "member-died"         // its key is gone, and it was not leaving: its lease has ended
	MemberChanged      Kind = "member-changed"      // it says something else of itself; Detail has what
	MemberFull         Kind = "member-full"         // it declines shards
	MemberRoom         Kind = "member-room"         // it declines none any more
	MemberFlapping     Kind = "member-flapping"     // it starts again and again; Count says how often
	MemberReserved     Kind = "member-reserved"     // it has stopped, and is expected back until Until
	ReservationEnded   Kind = "reservation-ended"   // it is back, or not expected any more
	CoordinatorElected Kind = "coordinator-elected" // Token is the key's create revision
	CoordinatorLost    Kind = "coordinator-lost"    // nobody is in office
	SchemaRaised       Kind = "schema-raised"       // Count is the group's schema now
)

// The kinds of events about the catalogue. By is source, allocation or both.
const (
	ResourceAdded     Kind = "resource-added"     // the catalogue has the resource
	ResourceChanged   Kind = "resource-changed"   // its data are others
	ResourceSuspended Kind = "resource-suspended" // it was deallocated, and the source has it or may have it
	ResourceWoken     Kind = "resource-woken"     // it is wanted again
	ResourceOrigin    Kind = "resource-origin"    // something else wants it than before: By
	ResourceRemoved   Kind = "resource-removed"   // the catalogue has it no more
)

// The kinds of events about where shards and resources are placed.
const (
	ExceptionPlaced   Kind = "exception-placed"    // the coordinator has placed a shard; Why says why
	ExceptionDropped  Kind = "exception-dropped"   // the ring decides again
	ResourceMoved     Kind = "resource-moved"      // the resource belongs to Member, since it failed at From
	ResourceMoveEnded Kind = "resource-move-ended" // it belongs to the owner of its shard again
)

// The kinds of events about the source.
const (
	Fetched          Kind = "fetched"           // a fetch succeeded, and changed nothing; Count: the resources it had
	SourceChanged    Kind = "source-changed"    // a fetch succeeded, and changed something; Detail says how many
	FetchFailed      Kind = "fetch-failed"      // a fetch failed; Detail says how
	RemovalsHeld     Kind = "removals-held"     // Count removals wait for a confirmation
	RemovalsEnded    Kind = "removals-ended"    // none waits any more
	RemovalsAccepted Kind = "removals-accepted" // an order to accept was carried out; Count were removed
	BadItems         Kind = "bad-items"         // Count items of the answer are no resources
	SourceForgotten  Kind = "source-forgotten"  // the source's record is gone
)

// The kinds of events about failures that end members.
const (
	Death          Kind = "death"           // a member's process has ended; Detail says how
	Accused        Kind = "accused"         // a record of quarantine says of which deaths
	Isolated       Kind = "isolated"        // the member handles the resource alone, since deaths accuse it
	IsolationEnded Kind = "isolation-ended" // it does not do so any more
)

// The kinds of events about operators' orders. By says who gave it, Why has the reason.
const (
	Drained          Kind = "drained"           // the member is to hold nothing
	Undrained        Kind = "undrained"         // taken back, or expired: Detail says which
	Cordoned         Kind = "cordoned"          // the member is to take nothing new
	Uncordoned       Kind = "uncordoned"        // taken back, or expired: Detail says which
	Weighed          Kind = "weighed"           // the member has the weight Weight
	Unweighed        Kind = "unweighed"         // the member has its own weight again
	Pinned           Kind = "pinned"            // the shard belongs to the member
	Unpinned         Kind = "unpinned"          // it does so no more
	MoveOrdered      Kind = "move-ordered"      // the shard was moved to the member
	MoveEnded        Kind = "move-ended"        // it is not there by that order any more
	RebalanceOrdered Kind = "rebalance-ordered" // the load is to be evened out
	RebalanceEnded   Kind = "rebalance-ended"   // that has begun, or the order has expired
	FetchOrdered     Kind = "fetch-ordered"     // the source is to be asked
	FetchEnded       Kind = "fetch-ended"       // it has answered, or the order has expired
	AcceptOrdered    Kind = "accept-ordered"    // the removals that are held are to be made
	AcceptEnded      Kind = "accept-ended"      // that was done or refused, or the order has expired
	RetryOrdered     Kind = "retry-ordered"     // what has failed is to be tried again at once
	RetryEnded       Kind = "retry-ended"       // its member has begun, or the order has expired
	Suspended        Kind = "suspended"         // the resource is not to be handled, whoever wants it
	Resumed          Kind = "resumed"           // taken back, or ended by whoever wants the resource
)

// The kinds of events about the app.
const (
	AppCreated    Kind = "app-created"    // Count is its number of shards
	AppDeleted    Kind = "app-deleted"    // its config is gone
	ReshardBegun  Kind = "reshard-begun"  // its number of shards is being changed
	ReshardEnded  Kind = "reshard-ended"  // that is done, or was given up
	NotUnderstood Kind = "not-understood" // a key or value that DRM would not have written; Detail names it
)

// The kinds of events about the events themselves. No filter leaves them out.
const (
	// Gap says that etcd has compacted what happened after the revision After, up to Revision.
	Gap Kind = "gap"
	// Listed follows a gap: what there was at Revision. Of says what it is, State how it is.
	Listed Kind = "listed"
	// ListEnd says that all was listed that there was at Revision. What follows has happened later.
	ListEnd Kind = "list-end"
)

// What Event.Of says of something listed.
const (
	OfMember      = "member"
	OfCoordinator = "coordinator"
	OfDrain       = "drain"
	OfCordon      = "cordon"
	OfWeight      = "weight"
	OfPin         = "pin"
	OfMove        = "move" // an operator's
	OfException   = "exception"
	OfMoved       = "moved" // a resource that failed elsewhere
	OfReservation = "reservation"
	OfResource    = "resource"
	OfClaim       = "claim"
	OfQuarantine  = "quarantine"
	OfSource      = "source"
)

// family is where the keys are whose changes make an event.
type family int

const (
	inGroup family = 1 << iota
	inShards
	inOrders
	inSource
	inDeaths
	inAlone
	inLives
	inApp
	anywhere family = -1

	// byCommand is where commands make changes that are recorded at a key of its own.
	byCommand = inGroup | inShards | inSource | inApp
)

// kinds are all kinds in the order of the documentation, with where their keys are.
var kinds = []struct {
	kind Kind
	of   family
}{
	{Claimed, inShards},
	{Active, inShards},
	{Failed, inShards},
	{Recovered, inShards},
	{Handling, inShards},
	{Slow, inShards},
	{Released, inShards | inGroup},
	{Lost, inShards | inGroup},
	{Quarantined, inShards},
	{Freed, inShards},
	{MemberJoined, inGroup},
	{MemberActive, inGroup},
	{MemberUnready, inGroup},
	{MemberReady, inGroup},
	{MemberLeaving, inGroup},
	{MemberLeft, inGroup},
	{MemberDied, inGroup},
	{MemberChanged, inGroup},
	{MemberFull, inGroup},
	{MemberRoom, inGroup},
	{MemberFlapping, inLives},
	{MemberReserved, inGroup},
	{ReservationEnded, inGroup},
	{CoordinatorElected, inGroup},
	{CoordinatorLost, inGroup},
	{SchemaRaised, inGroup},
	{ResourceAdded, inShards},
	{ResourceChanged, inShards},
	{ResourceSuspended, inShards},
	{ResourceWoken, inShards},
	{ResourceOrigin, inShards},
	{ResourceRemoved, inShards},
	{ExceptionPlaced, inGroup},
	{ExceptionDropped, inGroup},
	{ResourceMoved, inGroup},
	{ResourceMoveEnded, inGroup},
	{Fetched, inSource},
	{SourceChanged, inSource},
	{FetchFailed, inSource},
	{RemovalsHeld, inSource},
	{RemovalsEnded, inSource},
	{RemovalsAccepted, inSource},
	{BadItems, inSource},
	{SourceForgotten, inSource},
	{Death, inDeaths},
	{Accused, inShards},
	{Isolated, inAlone},
	{IsolationEnded, inAlone},
	{Drained, inGroup},
	{Undrained, inGroup},
	{Cordoned, inGroup},
	{Uncordoned, inGroup},
	{Weighed, inGroup},
	{Unweighed, inGroup},
	{Pinned, inGroup},
	{Unpinned, inGroup},
	{MoveOrdered, inGroup},
	{MoveEnded, inGroup},
	{RebalanceOrdered, inOrders},
	{RebalanceEnded, inOrders},
	{FetchOrdered, inOrders},
	{FetchEnded, inOrders},
	{AcceptOrdered, inOrders},
	{AcceptEnded, inOrders},
	{RetryOrdered, inShards},
	{RetryEnded, inShards},
	{Suspended, inShards},
	{Resumed, inShards},
	{AppCreated, inApp},
	{AppDeleted, inApp},
	{ReshardBegun, inApp},
	{ReshardEnded, inApp},
	{NotUnderstood, anywhere},
	{Gap, 0},
	{Listed, 0},
	{ListEnd, 0},
}

// Kinds lists all kinds, in the order of the documentation.
func Kinds() []Kind {
	all := make([]Kind, 0, len(kinds))
	for _, k := range kinds {
		all = append(all, k.kind)
	}
	return all
}
