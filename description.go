package drm

import (
	"time"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/picture"
)

// ShardRange is consecutive shards.
type ShardRange struct{ First, Last int }

// Past is a value that a key of etcd has had.
type Past struct {
	Revision int64  // when it was written
	Text     string // what it says, for people

	// By is who has written it by a command (Client.As), and Why the reason that they gave; empty where that is not
	// known. Of a suspension, the text says both.
	By, Why string
}

// Trail names the resources of a shard that may be to blame if their member dies now, or that are accused of its death
// where it has died.
type Trail struct {
	Versions

	Shard    int
	Lease    int64 // that of the claims
	Member   string
	At       time.Time // when it was written, by the member's clock
	IDs      []string
	Returned int  // how many of IDs, from the first, had returned from Handle or Update
	Alone    bool // nothing else began beside them
}

// ResourceDetail is all that is known of one resource.
type ResourceDetail struct {
	Explanation

	Entries []Past // what the catalogue's entry has said, the latest first, as far back as etcd has it; 6 at most
	Claims  []Past // the same of the claim
}

// MemberDetail is all that is known of one member.
type MemberDetail struct {
	MemberInfo // State is absent where the member is not there
	Versions   // of its key; zero where the member is not there

	Revision  int64 // etcd's revision at which all of this was so
	Live      bool  // its key is there
	Lease     Lease // that of its key
	Labels    map[string]string
	Schema    int  // which version of the group's keys it knows; 0: it is not there
	HasSource bool // it has a Retriever
	Leads     bool // it is the coordinator
	Leaves    bool // it is about to stop

	Owned    []ShardRange // the shards that belong to it
	Kept     int          // how many of these it keeps although it is drained, until they are placed elsewhere
	Declined []ShardRange // the shards that it declines, since it is full
	PinnedTo []int        // the shards that are pinned to it
	PlacedAt int          // how many shards an exception places at it
	MovedTo  []string     // the resources that were moved to it, since they did not work elsewhere
	// MovedFrom are the resources that were moved away from it.
	MovedFrom []string

	Figures     *Figures     // nil: it has written none
	Load        *MemberLoad  // nil: it has written none
	Orders      []OrderInfo  // those about it
	Reservation *Reservation // nil: it is not expected back
	// Starts is how many lives of the member have followed one another closely, this one included; 0: it has not died
	// again and again. StartsSince is when the first of them began, by the member's clock.
	Starts      int
	StartsSince time.Time
	Exits       []Exit    // how its processes have ended, as far as `drmctl run` has seen it; the latest last
	Alone       string    // the resource that it handles alone, since that is suspected of deaths; empty: none
	Trails      []Trail   // what may be to blame if it dies, or is accused of its deaths; by shard
	Accused     []Accused // the resources that are quarantined because of its deaths, by id
	Past        []Past    // what its key has said, the latest first, as far back as etcd has it; 6 at most
}

// Figures are a member's own figures: it writes them soon after it has come to rest, and every 10 s while they change.
type Figures struct {
	Shards  int // shards that it follows
	Claims  int // claims that it has
	Active  int // resources that it handles
	Failed  int // resources whose last Handle failed, or whose handling failed later
	Calls   int // calls of the handler that run
	Stuck   int // calls that were given up and have not returned
	Waiting int // calls that wait for others to return, or for a rate
	// WaitingForBudget is how many of Waiting wait until HandleRate or KeyRate allows another Handle.
	WaitingForBudget int
}

// MemberLoad is what a member says that its shards weigh, in thousandths of a resource of the weight 1.
type MemberLoad struct {
	Total   int64
	Pending int64 // of this, the weight of what it has not handled yet
	Seen    int64 // the revision of the newest view that it has acted upon; 0: not known
}

// Reservation says that a member that has stopped is expected back (Config.Rejoin).
type Reservation struct {
	Versions

	Since, Until time.Time    // by the member's clock
	Keeps        []ShardRange // what waits for it
	Lease        Lease        // ends it
	InForce      bool
}

// Exit is the end of a process of a member.
type Exit struct {
	At   time.Time
	Exit string // such as: exit status 2; signal: killed
}

// Accused is a resource that is quarantined because of deaths.
type Accused struct {
	Resource string
	At       time.Time // when the member was alive last, by its clock
	Exit     string    // how its process ended; empty where that is not known
}

// ShardDetail is all that is known of one shard.
type ShardDetail struct {
	Revision int64 // etcd's revision at which all of this was so
	Route    Route
	Rulings  []Ruling
	Members  []Stand // what each member is to the shard, by id

	Wanted    int           // resources that should be handled
	Suspended int           // resources that were deallocated while the source has them
	Bytes     int64         // the data of all of these
	States    map[State]int // of what should be handled, by state; without those that are 0
	Misplaced int           // of what should be handled: another member than the expected one has the claim
	Orphans   int           // claims of what should not be handled
	BadKeys   int           // keys that are not understood, or do not belong into the shard
	Claims    []Bundle      // by member and lease
	Trails    []Trail
	// Quarantined are the resources of which there is a record of quarantine, by id.
	Quarantined []string
	Moved       []Moved     // the resources that belong to another member than the shard's owner, by id
	Changes     []KeyChange // the keys that were written last, the latest first; 10 at most
}

// Bundle is a member's claims of a shard on one lease.
type Bundle struct {
	Member string
	Lease  int64
	States map[State]int
	// Through is up to which revision those claims are active whose keys say claimed, by the bundle's summary; 0: there
	// is none.
	Through int64
	Within  time.Duration // how long these took at most from claimed to active
}

// Moved is a resource that was moved, since it did not work at the owner of its shard.
type Moved struct {
	Resource, Member, From string

	InForce bool
}

// KeyChange is a key of a shard that was written.
type KeyChange struct {
	Versions

	Kind string // resource, claim, summary, trail or quarantine
	ID   string // of the resource; empty of a summary and a trail

	By, Why string // who has written it by a command, and why, where that is known
}

func trailOf(t picture.Trail) Trail {
	return Trail{
		Versions: Versions(t.Versions), Shard: t.Shard, Lease: t.Lease, Member: t.Member, At: t.At, IDs: t.IDs,
		Returned: t.Returned, Alone: t.Alone,
	}
}

func rangeOf(r picture.ShardRange) ShardRange { return ShardRange(r) }

func pastOf(p picture.Past) Past { return Past(p) }

func resourceDetailOf(d picture.ResourceDetail) ResourceDetail {
	return ResourceDetail{
		Explanation: explanationOf(d.Explanation), Entries: mapped(d.Entries, pastOf), Claims: mapped(d.Claims, pastOf),
	}
}

func memberDetailOf(d picture.MemberDetail) MemberDetail {
	made := MemberDetail{
		MemberInfo: memberOf(d.Member), Versions: Versions(d.Versions), Revision: d.Revision, Live: d.Live,
		Lease: Lease(d.Lease), Labels: d.Labels, Schema: d.Schema, HasSource: d.HasSource, Leads: d.Leads,
		Leaves: d.Leaves, Owned: mapped(d.Owned, rangeOf), Kept: d.Kept, Declined: mapped(d.Declined, rangeOf),
		PinnedTo: d.PinnedTo, PlacedAt: d.PlacedAt, MovedTo: d.MovedTo, MovedFrom: d.MovedFrom,
		Orders: mapped(d.Orders, orderOf), Alone: d.Alone, Trails: mapped(d.Trails, trailOf),
		Exits: mapped(d.Exits, func(e claims.Exit) Exit { return Exit{e.At, e.Exit} }),
		Accused: mapped(d.Accused, func(a picture.Accused) Accused {
			return Accused(a)
		}),
		Past: mapped(d.Past, pastOf),
	}
	if f := d.Figures; f != nil {
		made.Figures = &Figures{f.Shards, f.Claims, f.Active, f.Failed, f.Calls, f.Stuck, f.Waiting, f.WaitingForBudget}
	}
	if d.Load != nil {
		load := MemberLoad(*d.Load)
		made.Load = &load
	}
	if r := d.Reservation; r != nil {
		made.Reservation = &Reservation{
			Versions: Versions(r.Versions), Since: r.Since, Until: r.Until, Keeps: mapped(r.Keeps, rangeOf),
			Lease: Lease(r.Lease), InForce: r.InForce,
		}
	}
	if d.Lives != nil {
		made.Starts, made.StartsSince = d.Lives.Starts, d.Lives.Since
	}
	return made
}

func shardDetailOf(d picture.ShardDetail) ShardDetail {
	return ShardDetail{
		Revision: d.Revision, Route: routeOf(d.Trace), Rulings: mapped(d.Rulings, rulingOf),
		Members: mapped(d.Members, standOf), Wanted: d.Wanted, Suspended: d.Suspended, Bytes: d.Bytes,
		States: statesOf(d.States), Misplaced: d.Misplaced, Orphans: d.Orphans, BadKeys: d.BadKeys,
		Trails: mapped(d.Trails, trailOf), Quarantined: d.Quarantine,
		Claims: mapped(d.Claims, func(b picture.Bundle) Bundle {
			return Bundle{b.Member, b.Lease, statesOf(b.States), b.Through, b.Within}
		}),
		Moved: mapped(d.Moved, func(m picture.Moved) Moved {
			return Moved{Resource: m.Resource, Member: m.Member, From: m.From, InForce: m.InForce}
		}),
		Changes: mapped(d.Changes, func(k picture.KeyChange) KeyChange {
			return KeyChange{Versions(k.Versions), k.Kind, k.ID, k.By, k.Why}
		}),
	}
}

func statesOf(counts map[string]int) map[State]int {
	made := make(map[State]int, len(counts))
	for state, n := range counts {
		made[State(state)] = n
	}
	return made
}
