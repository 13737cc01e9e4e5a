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
	StateUnassigned State = "unassigned" // nobody has a claim on it; Assignment.Error says why
	StateClaimed    State = "claimed"    // a member has the claim, and Handle has not succeeded yet
	StateActive     State = "active"     // a member has the claim, and Handle succeeded
	StateFailed     State = "failed"     // a member has the claim, and the last Handle failed, or what it began (Claim.Report); Assignment.Error says how
)

// Assignment tells who handles a resource.
type Assignment struct {
	Resource string
	Shard    int
	Expected string    // the member that should have it by the ring; empty where nobody is eligible
	Member   string    // the member that has the claim; empty where nobody has
	State    State     //
	Token    int64     // the claim's fencing token; 0 where there is no claim
	Since    time.Time // when State was reached (of many that were told of at once: at the latest), by that member's clock; zero where there is no claim
	Error    string    // why it failed or is unassigned; of a call of the handler that takes long, since when it runs and what came of the try before; else empty
}

func assignmentOf(a picture.Assignment) Assignment {
	return Assignment{
		Resource: a.Resource, Shard: a.Shard, Expected: a.Expected, Member: a.Member, State: State(a.State),
		Token: a.Token, Since: a.Since, Error: a.Error,
	}
}

// MemberInfo tells of one live member.
type MemberInfo struct {
	ID        string
	State     string // joining, active, draining (ordered, and not ignored) or leaving
	Drain     string // DrainOrdered, DrainIgnored, or empty: there is no order
	Weight    int
	Slots     []int
	Address   string
	Version   string
	Started   time.Time
	Shards    int // how many the view gives it
	Resources int // how many claims it has, by its own figures: up to 10 s old (soon after it has come to rest, else); 0 before the first
}

func memberOf(m picture.Member) MemberInfo { return MemberInfo(m) }

// What MemberInfo.Drain says.
const (
	DrainOrdered = "ordered" // the member is to hold nothing
	DrainIgnored = "ignored" // that is ordered, and ignored, since nobody would be left
)

// DrainInfo is an order that a member hold nothing.
type DrainInfo struct {
	Member  string
	Since   time.Time // by the clock of who gave it; zero where that is not known
	Live    bool      // the member is there
	Ignored bool      // nobody would be left, so that all such orders are ignored
}

func drainOf(d picture.Drain) DrainInfo { return DrainInfo(d) }

// CatalogueEntry is a resource that the catalogue knows, and who wants it handled.
type CatalogueEntry struct {
	Resource   Resource
	Shard      int
	FromSource bool // the last fetch had it
	Allocated  bool // an Allocate wants it
	Suspended  bool // the source has it, or may have it, and it was deallocated: it is not handled until it is allocated
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
	}{e.Resource.ID, e.Shard, origin, state, e.Resource.Object()})
}

func entryOf(r picture.Resource) CatalogueEntry {
	return CatalogueEntry{
		Resource: Resource{ID: r.ID, Data: r.Data}, Shard: r.Shard,
		FromSource: r.FromSource, Allocated: r.Allocated, Suspended: r.Suspended,
	}
}

// SourceStatus is the outcome of the last fetches.
type SourceStatus struct {
	LastSuccess time.Time // zero: none yet
	LastAttempt time.Time // zero: none yet
	Resources   int       // in the last answer that was accepted
	Error       string    // of the last attempt; empty where it worked
	Held        int       // removals that look like a mistake of the source, and wait for a confirmation
	TooLarge    int       // resources that etcd would not take, because they are over its limit for a request

	LastChange SourceChange // by the last answer that changed anything

	HeldIDs    []string  // the ids of the removals that are held, in order; of more than 100 the first 100
	HeldSince  time.Time // since when there have been such, without a break; zero: there are none
	HeldUntil  time.Time // an answer that is asked for after that confirms those there are; zero: only Client.AcceptRemovals does
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
	Resources   int // that should be handled: the catalogue less what is suspended
	Active      int
	Failed      int
	Unassigned  int
	Misplaced   int // held by another member than the expected one
	Coordinator string
	Drains      []DrainInfo // by member; of those too that are not there
	Source      SourceStatus
	Corrupt     int   // keys below the app's prefix that are not understood, and ignored; Client.Verify names them
	Revision    int64 // etcd's, at which this was read
}

func appStatusOf(app string, s picture.Status) Status {
	return Status{
		App: app, Members: s.Members, Resources: s.Resources, Active: s.Active, Failed: s.Failed,
		Unassigned: s.Unassigned, Misplaced: s.Misplaced, Coordinator: s.Coordinator, Drains: mapped(s.Drains, drainOf),
		Source: statusOf(s.Source), Corrupt: s.Corrupt, Revision: s.Revision,
	}
}

// AssignmentFilter narrows what Client.Assignments returns; its zero value takes all.
type AssignmentFilter struct {
	Member     string // only claims of this member
	Unassigned bool   // only resources without a claim
	Failed     bool   // only resources whose last Handle failed
}

// statusOf returns what a record of the source tells.
func statusOf(r record.Source) SourceStatus {
	s := SourceStatus{
		LastSuccess: r.LastSuccess,
		LastAttempt: r.LastAttempt,
		Resources:   r.Resources,
		Error:       r.Error,
		NotBefore:   r.NotBefore,
		Held:        r.Held,
		TooLarge:    r.TooLarge,
		LastChange:  SourceChange(r.LastChange),
		Bad:         r.Bad,
		HeldIDs:     r.HeldRemovals.IDs,
		HeldSince:   r.HeldRemovals.Since,
		HeldUntil:   r.HeldRemovals.Until,
		HeldDigest:  r.HeldRemovals.Digest,
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
