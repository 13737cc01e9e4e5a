package drm

import (
	"encoding/json"
	"time"

	"github.com/distributed-resource-manager/drm/internal/jsontext"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/record"
)

// State is how far the handling of a resource is.
type State string

// The states of a resource.
const (
	// StateUnassigned: nobody has a claim on the resource. Assignment.Error says why.
	StateUnassigned State = "unassigned"
	// StateClaimed: a member has the claim, and Handle has not succeeded yet.
	StateClaimed State = "claimed"
	// StateActive: a member has the claim, and Handle succeeded.
	StateActive State = "active"
	// StateFailed: a member has the claim, and the last Handle failed, or the handler has reported that what Handle
	// began fails (Claim.Report). Assignment.Error says how.
	StateFailed State = "failed"
	// StateQuarantined: a member has the claim, and does not handle the resource, since members have died while they
	// began with it (Config.QuarantineAfter). Assignment.Error says which. Client.Retry frees it.
	StateQuarantined State = "quarantined"
)

// Assignment tells who handles a resource.
type Assignment struct {
	Resource string
	Shard    int
	Expected string // the member that should have the claim by the ring; empty where no member is eligible
	Member   string // the member that has the claim; empty where nobody has
	State    State
	Token    int64 // the claim's fencing token; 0 where there is no claim
	// Since is when State was reached, by the clock of the member that has the claim; zero where there is no claim. A
	// member writes the states of many resources at once: then it is the time of the last of them.
	Since time.Time
	// Error says why the resource is unassigned, has failed or is quarantined. While a call of the handler takes long,
	// it says since when the call runs, and what came of the call before. Else it is empty.
	Error string
	// Suspension says who has suspended the resource, so that nobody handles it; nil: no operator has.
	Suspension *Suspension
}

func assignmentOf(a picture.Assignment) Assignment {
	return Assignment{
		Resource: a.Resource, Shard: a.Shard, Expected: a.Expected, Member: a.Member, State: State(a.State),
		Token: a.Token, Since: a.Since, Error: a.Error, Suspension: suspensionOf(a.Suspension),
	}
}

// MemberInfo tells of one live member, or of one that has stopped and is expected back (Config.Rejoin).
type MemberInfo struct {
	ID string
	// State is joining, active, unready (and not ignored), draining (ordered, and not ignored) or leaving; or absent:
	// it has stopped, and its resources wait for its return.
	State  string
	Drain  string // DrainOrdered, DrainIgnored, or empty: no drain is ordered
	Cordon string // the same of a cordon
	Reason string // why it says that it is not ready, also where that is ignored; until when it is expected back
	Weight int    // the member's own
	// Ordered is the weight that an operator has ordered, which counts instead of the member's own; nil: there is no
	// such order.
	Ordered *int
	Slots   []int       // its slots on the ring that are reserved by themselves
	Blocks  []SlotRange // its slots that are reserved together, as those of a large weight are
	Address string
	Version string
	Started time.Time
	Shards  int // how many shards belong to the member
	// Resources is how many claims the member has, by its own figures. It writes them soon after its claims have come
	// to rest, and every 10 s while they change. 0 before it has written any.
	Resources int
}

// SlotRange is consecutive slots on the ring.
type SlotRange struct{ First, Last int }

func memberOf(m picture.Member) MemberInfo {
	info := MemberInfo{
		ID: m.ID, State: m.State, Drain: m.Drain, Cordon: m.Cordon, Reason: m.Reason, Weight: m.Weight,
		Ordered: m.Ordered, Slots: m.Slots, Address: m.Address, Version: m.Version, Started: m.Started,
		Shards: m.Shards, Resources: m.Resources,
	}
	for _, b := range m.Blocks {
		info.Blocks = append(info.Blocks, SlotRange(b))
	}
	return info
}

// What MemberInfo.Drain says.
const (
	DrainOrdered = "ordered" // the member is to hold nothing
	DrainIgnored = "ignored" // the member is to hold nothing, which is ignored: nobody would be left
)

// OrderKind says what an operator's order is.
type OrderKind string

// The kinds of orders that stand until they are taken back, or expire.
const (
	OrderDrain  = OrderKind(picture.OrderDrain)  // the member is to hold nothing
	OrderCordon = OrderKind(picture.OrderCordon) // the member is to take nothing new
	OrderWeight = OrderKind(picture.OrderWeight) // the member has another weight than its config says
	OrderPin    = OrderKind(picture.OrderPin)    // the shard belongs to the member whenever it can own shards
	OrderMove   = OrderKind(picture.OrderMove)   // the shard was moved to the member
)

// OrderInfo is an operator's order that stands.
type OrderInfo struct {
	Kind   OrderKind
	Member string
	Shard  int    // of OrderPin and OrderMove
	Weight int    // of OrderWeight
	By     string // who gave it; empty where that is not known
	Why    string
	Since  time.Time // when it was given, by the clock of whoever gave it; zero where that is not known
	Until  time.Time // when it ends by itself, by the same clock; zero where it does not
	Live   bool      // the member is there
	// Ignored says that the order has no effect for now: of a drain or cordon, because nobody would be left who takes
	// anything; of a pin or move, because the shard does not belong to the member.
	Ignored bool
}

func orderOf(s picture.Standing) OrderInfo {
	return OrderInfo{
		Kind: OrderKind(s.Kind), Member: s.Member, Shard: s.Shard, Weight: s.Weight, By: s.By, Why: s.Why,
		Since: s.Since, Until: s.Until, Live: s.Live, Ignored: s.Ignored,
	}
}

// ShardInfo tells of one shard.
type ShardInfo struct {
	Shard     int
	Member    string // who owns it; empty where no member is eligible
	Pinned    string // the member that it is pinned to; empty where it is not
	Resources int    // how many resources belong to that owner because they are in the shard
}

// DrainInfo is an order that a member hold nothing.
type DrainInfo struct {
	Member  string
	Since   time.Time // when the order was given, by the clock of whoever gave it; zero where that is not known
	Live    bool      // the member is there
	Ignored bool      // nobody would be left, so that all such orders are ignored
}

func drainOf(d picture.Drain) DrainInfo { return DrainInfo(d) }

// UnreadyInfo is a member that says that it cannot work (Config.Ready, Config.FailedShare).
type UnreadyInfo struct {
	Member  string
	Reason  string
	Ignored bool // too few members are ready (Config.MinReady), so that it goes on as if it were
}

func unreadyOf(u picture.Unready) UnreadyInfo { return UnreadyInfo(u) }

// CatalogueEntry is a resource that the catalogue knows, and who wants it handled.
type CatalogueEntry struct {
	Resource   Resource
	Shard      int
	FromSource bool // the last fetch had it
	Allocated  bool // an Allocate wants it
	// Suspended: the resource is not handled. It was deallocated while the source had it, or may have had it, and is
	// not handled until it is allocated; or, where there is a Suspension, an operator has suspended it.
	Suspended  bool
	Suspension *Suspension
}

// MarshalJSON gives the object that `drmctl resources -o json` prints.
func (e CatalogueEntry) MarshalJSON() ([]byte, error) {
	origin, state := "allocated", "wanted"
	switch {
	case e.FromSource && e.Allocated:
		origin = "both"
	case e.FromSource:
		origin = "source"
	}
	if e.Suspended {
		state = "suspended"
	}
	return jsontext.Marshal(struct {
		ID     string          `json:"id"`
		Shard  int             `json:"shard"`
		Origin string          `json:"origin"`
		State  string          `json:"state"`
		Data   json.RawMessage `json:"data"`

		Suspension *Suspension `json:"suspension,omitempty"`
	}{e.Resource.ID, e.Shard, origin, state, e.Resource.Object(), e.Suspension})
}

func entryOf(r picture.Resource) CatalogueEntry {
	return CatalogueEntry{
		Resource: Resource{ID: r.ID, Data: r.Data}, Shard: r.Shard,
		FromSource: r.FromSource, Allocated: r.Allocated, Suspended: r.Suspended,
		Suspension: suspensionOf(r.Suspension),
	}
}

// SourceStatus is the outcome of the last fetches.
type SourceStatus struct {
	LastSuccess time.Time // zero: none yet
	LastAttempt time.Time // zero: none yet
	Resources   int       // how many resources the last answer that was accepted had
	Error       string    // why the last attempt failed; empty where it worked
	Held        int       // removals that look like a mistake of the source, and wait for a confirmation
	TooLarge    int       // resources that etcd did not take, because they are over its limit for a request

	LastChange SourceChange // by the last answer that changed anything

	HeldIDs    []string  // the ids of the removals that are held, in order; of more than 100 the first 100
	HeldSince  time.Time // since when removals have been held, without a break; zero: none are held
	HeldUntil  time.Time // an answer that is asked for after that confirms them; zero: only AcceptRemovals does
	HeldDigest string    // stands for the set of their ids, for Client.AcceptRemovals

	// NotBefore is until when the source wants to be left alone, as its last error said (Retryable), by the clock of
	// the member that asked it; zero: it does not. No member asks it earlier, and a restart does not change that.
	NotBefore time.Time

	Bad      int             // items of the last answer that are no resources, or are too large for etcd
	BadItems []SourceBadItem // the first of them, MaxBadItems at most
}

// SourceBadItem is an item of the source's last answer that could not be taken.
type SourceBadItem struct {
	Index int    // its place in the answer, from 0; -1: not known
	ID    string // empty where it has none that could be a resource's
	Error string // what is wrong with it
}

// SourceChange is what an answer of the source changed in the catalogue.
type SourceChange struct {
	At      time.Time // zero: none yet
	Added   int
	Changed int
	Removed int
}

// Status is the state of an app at one moment.
type Status struct {
	App         string
	Members     int
	Resources   int // resources that should be handled: the catalogue less those that are suspended
	Active      int
	Failed      int
	Unassigned  int
	NoRoom      int // of Unassigned: no member has room for it (Config.MaxResources)
	Awaited     int // of Unassigned: its member has stopped, and is expected back (Config.Rejoin)
	Misplaced   int // resources on which another member than the expected one has the claim
	Quarantined int // resources that nobody handles, since members have died of them; Client.Retry frees them
	Suspended   int // resources that operators have suspended; Resources does not count them
	// Suspensions has these by id; of more than 100 the first 100.
	Suspensions []SuspendedInfo
	Coordinator string
	Drains      []DrainInfo   // by member, also of members that are not there
	Orders      []OrderInfo   // all that stand, by kind, member and shard, also of members that are not there
	Unready     []UnreadyInfo // by member
	Source      SourceStatus
	// WaitingForBudget is how many resources wait until Config.HandleRate or KeyRate allows their Handle, by their
	// members' own figures, which may be up to 10 s old.
	WaitingForBudget int
	// Schemas says which versions of what is in etcd are too far apart: those of two live members, or that of the app
	// and that of this program, so that what it shows may be wrong. It is empty where none are, as it should be.
	Schemas  string
	Corrupt  int   // keys below the app's prefix that are not understood, and ignored; Client.Verify names them
	Revision int64 // etcd's revision at which all of this was read
}

func appStatusOf(app string, s picture.Status) Status {
	return Status{
		App: app, Members: s.Members, Resources: s.Resources, Active: s.Active, Failed: s.Failed,
		Unassigned: s.Unassigned, Misplaced: s.Misplaced, Coordinator: s.Coordinator, Drains: mapped(s.Drains, drainOf),
		Unready: mapped(s.Unready, unreadyOf), Source: statusOf(s.Source), Corrupt: s.Corrupt, Revision: s.Revision,
		Orders: mapped(s.Orders, orderOf), WaitingForBudget: s.WaitingForBudget, NoRoom: s.NoRoom, Awaited: s.Awaited,
		Quarantined: s.Quarantined, Schemas: s.Schemas,
		Suspended: s.Suspended, Suspensions: mapped(s.Suspensions, suspendedOf),
	}
}

// statusOf returns what a record of the source tells.
func statusOf(r record.Source) SourceStatus {
	s := SourceStatus{
		LastSuccess: r.LastSuccess, LastAttempt: r.LastAttempt, Resources: r.Resources, Error: r.Error,
		NotBefore: r.NotBefore, Held: r.Held, TooLarge: r.TooLarge, Bad: r.Bad,
		LastChange: SourceChange(r.LastChange),
		HeldIDs:    r.HeldRemovals.IDs, HeldSince: r.HeldRemovals.Since, HeldUntil: r.HeldRemovals.Until,
		HeldDigest: r.HeldRemovals.Digest,
	}
	for _, b := range r.BadItems {
		s.BadItems = append(s.BadItems, SourceBadItem{b.Index, b.ID, b.Error})
	}
	return s
}

// mapped makes a list of words of this package of a list of values. It never returns nil.
func mapped[A, B any](found []A, word func(A) B) []B {
	all := make([]B, 0, len(found))
	for _, one := range found {
		all = append(all, word(one))
	}
	return all
}
