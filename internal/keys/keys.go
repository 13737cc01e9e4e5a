// Package keys builds and parses every key that DRM has in etcd; no other package does. docs/design.md has the layout.
package keys

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/distributed-resource-manager/drm/shard"
)

const (
	// MaxIDBytes is how many bytes the id of a resource or a member may have, before escaping.
	MaxIDBytes = 512
	// MaxShards is how many shards an app may have; the design says what each of them costs.
	MaxShards = 4096
	// MaxSlots is the highest number of a slot that is reserved by itself, so that a foreign key cannot make a ring of
	// any size.
	MaxSlots = 99999
	// MaxBlock is the highest number of the first slot of a block.
	MaxBlock = 9999999
)

// What is wrong with an id. Each error completes the sentence "want …".
var (
	errEmpty   = errors.New("an id that is not empty")
	errLong    = fmt.Errorf("an id of at most %d bytes", MaxIDBytes)
	errUTF8    = errors.New("an id that is valid UTF-8")
	errControl = errors.New("an id without control characters")
)

// CheckID returns an error if the text cannot be an id: an id is non-empty UTF-8 of at most MaxIDBytes bytes without
// control characters. The error completes the sentence "want …".
func CheckID(id string) error {
	switch {
	case id == "":
		return errEmpty
	case len(id) > MaxIDBytes:
		return errLong
	case !utf8.ValidString(id):
		return errUTF8
	case strings.ContainsFunc(id, unicode.IsControl):
		return errControl
	}
	return nil
}

// Layout builds and parses the keys of one app.
type Layout struct{ root string } // ends with a slash

// New makes the layout of an app below a prefix such as "/drm". A slash at the prefix's end makes no difference.
func New(prefix, app string) Layout {
	return Layout{Apps(prefix) + Escape(app) + "/"}
}

// At makes the layout of the app with that Root.
func At(root string) Layout { return Layout{root} }

// Apps is the prefix of all apps below a prefix such as "/drm".
func Apps(prefix string) string { return strings.TrimRight(prefix, "/") + "/" }

// Root is the prefix of every key of the app.
func (l Layout) Root() string { return l.root }

// Config is the key that makes the app exist.
func (l Layout) Config() string { return l.root + "config" }

// Schema is the key of the newest schema that all members of the app have known at once.
func (l Layout) Schema() string { return l.root + "group/schema" }

// Reshard is the key that is there while the number of shards is being changed, with how far that is.
func (l Layout) Reshard() string { return l.root + "reshard" }

// Source is the key of the record of the last fetches.
func (l Layout) Source() string { return l.root + "source" }

// Stats is the key of a member's own figures.
func (l Layout) Stats(member string) string { return l.root + "stats/" + Escape(member) }

// Deallocations is the prefix of the marks that tell the coordinator which entries were suspended or woken, so that it
// need not read the whole catalogue to find them.
func (l Layout) Deallocations() string { return l.root + "deallocated/" }

// Deallocation is the mark of one resource.
func (l Layout) Deallocation(id string) string { return l.Deallocations() + Escape(id) }

// Orders is the prefix of the orders that operators give to the coordinator.
func (l Layout) Orders() string { return l.root + "orders/" }

// AcceptOrder is the key of an operator's order to make the removals that are held.
func (l Layout) AcceptOrder() string { return l.Orders() + "accept" }

// FetchOrder is the key of an operator's order to ask the source.
func (l Layout) FetchOrder() string { return l.Orders() + "fetch" }

// RebalanceOrder is the key of an operator's order to even the load out now.
func (l Layout) RebalanceOrder() string { return l.Orders() + "rebalance" }

// Deed is the key of the record of who has made the last change that does not say so itself, and why. It lies among the
// orders, so that whoever may give orders may write it.
func (l Layout) Deed() string { return l.Orders() + "last" }

// Group is the prefix of all keys that a view is made of.
func (l Layout) Group() string { return l.root + "group/" }

// Members is the prefix of the members' keys.
func (l Layout) Members() string { return l.root + "group/members/" }

// Member is the lease-bound key of a live member.
func (l Layout) Member(id string) string { return l.Members() + Escape(id) }

// Slots is the prefix of the reservations of slots by themselves.
func (l Layout) Slots() string { return l.root + "group/slots/" }

// Slot is the key of a slot's reservation.
func (l Layout) Slot(n int) string { return fmt.Sprintf("%s%05d", l.Slots(), n) }

// Blocks is the prefix of the reservations of blocks of slots.
func (l Layout) Blocks() string { return l.root + "group/blocks/" }

// Block is the key of the reservation of consecutive slots, of which n is the first.
func (l Layout) Block(n int) string { return fmt.Sprintf("%s%07d", l.Blocks(), n) }

// Drains is the prefix of the orders that members must own no shards.
func (l Layout) Drains() string { return l.root + "group/drains/" }

// Drain is the key of an operator's order that a member must own no shards.
func (l Layout) Drain(member string) string { return l.Drains() + Escape(member) }

// Decline is the lease-bound key with the shards that a member declines to own, since it is full.
func (l Layout) Decline(member string) string { return l.root + "group/declines/" + Escape(member) }

// Pins is the prefix of the pins.
func (l Layout) Pins() string { return l.root + "group/pins/" }

// Pin is the key of an operator's order that a shard belongs to a certain member.
func (l Layout) Pin(shard int) string { return l.Pins() + shardName(shard) }

// Moves is the prefix of the moves.
func (l Layout) Moves() string { return l.root + "group/moves/" }

// Move is the key which says that a resource belongs to another member than its shard does.
func (l Layout) Move(resource string) string { return l.Moves() + Escape(resource) }

// Placement is the key of a table of exceptions to the ring. Members obey it, and none of them writes it: an exception
// has a key of its own, see Exception.
func (l Layout) Placement() string { return l.root + "group/placement" }

// Exceptions is the prefix of the exceptions to the ring.
func (l Layout) Exceptions() string { return l.root + "group/placement/" }

// Exception is the key of the coordinator's exception to the ring for one shard.
func (l Layout) Exception(shard int) string { return l.Exceptions() + shardName(shard) }

// Cordons is the prefix of the orders that members must take no further shards.
func (l Layout) Cordons() string { return l.root + "group/cordons/" }

// Cordon is the key of an operator's order that a member must take no further shards.
func (l Layout) Cordon(member string) string { return l.Cordons() + Escape(member) }

// Weight is the key of an operator's order that a member has another weight than it says itself.
func (l Layout) Weight(member string) string { return l.Weights() + Escape(member) }

// Weights is the prefix of the orders that members have other weights than they say themselves.
func (l Layout) Weights() string { return l.root + "group/weights/" }

// Reservations is the prefix of the keys which say that members that have stopped will be back soon.
func (l Layout) Reservations() string { return l.root + "group/reservations/" }

// Reservation is the lease-bound key which says that a member that has stopped will be back soon.
func (l Layout) Reservation(member string) string { return l.Reservations() + Escape(member) }

// Prepared is the lease-bound key which says that the coordinator has prepared the placement for a joining member.
func (l Layout) Prepared(member string) string { return l.root + "group/prepared/" + Escape(member) }

// Loads is the prefix of what the members say of the load of their shards.
func (l Layout) Loads() string { return l.root + "loads/" }

// Load is the lease-bound key of what a member says of the load of its shards.
func (l Layout) Load(member string) string { return l.Loads() + Escape(member) }

// Coordinator is the lease-bound key of the elected member.
func (l Layout) Coordinator() string { return l.root + "group/coordinator" }

// Shards is the prefix of all resources and claims.
func (l Layout) Shards() string { return l.root + "shards/" }

// Shard is the prefix of one shard's resources and claims.
func (l Layout) Shard(shard int) string { return l.root + "shards/" + shardName(shard) + "/" }

// Resource is the key of a catalogue entry.
func (l Layout) Resource(shard int, id string) string {
	return l.inShard(shard, "/resources/", id)
}

// Resources is the prefix of a shard's catalogue entries.
func (l Layout) Resources(shard int) string { return l.Shard(shard) + "resources/" }

// Claim is the lease-bound key of a claim.
func (l Layout) Claim(shard int, id string) string {
	return l.inShard(shard, "/claims/", id)
}

// Claims is the prefix of a shard's claims.
func (l Layout) Claims(shard int) string { return l.Shard(shard) + "claims/" }

// Figures is the prefix of the members' own figures.
func (l Layout) Figures() string { return l.root + "stats/" }

// Summaries is the prefix of a shard's summaries. It sorts before the claims.
func (l Layout) Summaries(shard int) string { return l.Shard(shard) + "active/" }

// Summary is the key, bound to a lease, of the summary of a shard's claims on that lease.
func (l Layout) Summary(shard int, lease int64) string {
	return fmt.Sprintf("%s%016x", l.Summaries(shard), uint64(lease))
}

// Trails is the prefix of a shard's trails.
func (l Layout) Trails(shard int) string { return l.Shard(shard) + "begun/" }

// Trail is the key of the trail of a shard's claims on a lease. It is on no lease itself.
func (l Layout) Trail(shard int, lease int64) string {
	return fmt.Sprintf("%s%016x", l.Trails(shard), uint64(lease))
}

// Quarantines is the prefix of a shard's records of quarantine.
func (l Layout) Quarantines(shard int) string { return l.Shard(shard) + "quarantine/" }

// Quarantine is the key of the record of a resource that is quarantined.
func (l Layout) Quarantine(shard int, id string) string {
	return l.inShard(shard, "/quarantine/", id)
}

// Retries is the prefix of a shard's orders to try resources again.
func (l Layout) Retries(shard int) string { return l.Shard(shard) + "retry/" }

// Retry is the lease-bound key of an operator's order to try a resource again at once.
func (l Layout) Retry(shard int, id string) string {
	return l.inShard(shard, "/retry/", id)
}

// Alone is the lease-bound key of the member that handles a suspect alone.
func (l Layout) Alone() string { return l.root + "alone" }

// Deaths is the key of what is known of a member's deaths.
func (l Layout) Deaths(member string) string { return l.root + "deaths/" + Escape(member) }

// AllDeaths is the prefix of what is known of the members' deaths.
func (l Layout) AllDeaths() string { return l.root + "deaths/" }

// AllLives is the prefix of how many short lives the members have had in a row.
func (l Layout) AllLives() string { return l.root + "lives/" }

// Lives is the lease-bound key of how many short lives a member has had in a row.
func (l Layout) Lives(member string) string { return l.root + "lives/" + Escape(member) }

// inShard builds a key in one piece of memory, since there are millions of them.
func (l Layout) inShard(shard int, kind, id string) string {
	name, ok := hex(shard)
	if !ok {
		return l.root + "shards/" + shardName(shard) + kind + Escape(id)
	}
	return l.root + "shards/" + string(name[:]) + kind + Escape(id)
}

func shardName(shard int) string {
	if name, ok := hex(shard); ok {
		return string(name[:])
	}
	return fmt.Sprintf("%04x", shard)
}

// hex formats a number as %04x does, but without fmt; ok is false if that takes more digits.
func hex(shard int) (name [4]byte, ok bool) {
	const digits = "0123456789abcdef"
	for i := range name {
		name[i] = digits[shard>>(12-4*i)&15]
	}
	return name, shard >= 0 && shard <= 0xffff
}

// Kind says what a key is.
type Kind int

// The kinds of keys; Foreign is a key that DRM would not have written.
const (
	Foreign Kind = iota
	Config
	Source
	Stats
	Member
	Slot
	Drain
	Decline
	Pin
	Placement
	Coordinator
	Resource
	Claim
	Summary
	Deallocation
	AcceptOrder
	FetchOrder
	Move
	Trail
	Quarantine
	Alone
	Deaths
	Exception
	Cordon
	Weight
	Reservation
	Prepared
	Load
	RebalanceOrder
	Schema
	Reshard
	Lives
	Block
	Retry
	Deed
)

// Key is a parsed key.
type Key struct {
	Kind   Kind
	ID     string // of a key that is about a member: the member; of the others that have one: the resource
	Number int    // of Slot: the slot; of Block: its first slot; of the others that are about a shard: the shard
	Lease  int64  // of Summary and Trail
}

// Home is the number of the shard that a key below a shard belongs to. The id of a resource decides that, so a key may
// lie below another shard, where it is ignored. A Summary or Trail has no id, and belongs where it lies.
func (k Key) Home(shards int) int {
	if k.Kind == Summary || k.Kind == Trail {
		return k.Number
	}
	return shard.Of(k.ID, shards)
}

// Parse takes a key apart. It is the inverse of the Layout's methods for valid ids and numbers; every other key is
// Foreign.
func (l Layout) Parse(key string) Key {
	rest, ok := strings.CutPrefix(key, l.root)
	if !ok {
		return Key{}
	}
	switch rest {
	case "config":
		return Key{Kind: Config}
	case "source":
		return Key{Kind: Source}
	case "reshard":
		return Key{Kind: Reshard}
	case "orders/accept":
		return Key{Kind: AcceptOrder}
	case "orders/fetch":
		return Key{Kind: FetchOrder}
	case "orders/rebalance":
		return Key{Kind: RebalanceOrder}
	case "orders/last":
		return Key{Kind: Deed}
	case "alone":
		return Key{Kind: Alone}
	case "group/placement":
		return Key{Kind: Placement}
	case "group/schema":
		return Key{Kind: Schema}
	case "group/coordinator":
		return Key{Kind: Coordinator}
	}
	if s, ok := strings.CutPrefix(rest, "shards/"); ok {
		return parseShard(s)
	}
	for _, f := range []struct {
		prefix string
		kind   Kind
	}{
		{"group/members/", Member},
		{"group/drains/", Drain},
		{"group/declines/", Decline},
		{"group/moves/", Move},
		{"group/cordons/", Cordon},
		{"group/weights/", Weight},
		{"group/reservations/", Reservation},
		{"group/prepared/", Prepared},
		{"loads/", Load},
		{"stats/", Stats},
		{"deallocated/", Deallocation},
		{"deaths/", Deaths},
		{"lives/", Lives},
	} {
		if s, ok := strings.CutPrefix(rest, f.prefix); ok {
			return withID(f.kind, s, 0)
		}
	}
	if s, ok := strings.CutPrefix(rest, "group/slots/"); ok && len(s) == 5 {
		if n, err := strconv.ParseUint(s, 10, 32); err == nil {
			return Key{Kind: Slot, Number: int(n)}
		}
	}
	if s, ok := strings.CutPrefix(rest, "group/blocks/"); ok && len(s) == 7 {
		if n, err := strconv.ParseUint(s, 10, 32); err == nil {
			return Key{Kind: Block, Number: int(n)}
		}
	}
	if s, ok := strings.CutPrefix(rest, "group/pins/"); ok {
		if n, ok := parseShardName(s); ok {
			return Key{Kind: Pin, Number: n}
		}
	}
	if s, ok := strings.CutPrefix(rest, "group/placement/"); ok {
		if n, ok := parseShardName(s); ok {
			return Key{Kind: Exception, Number: n}
		}
	}
	return Key{}
}

func parseShard(s string) Key {
	name, rest, ok := strings.Cut(s, "/")
	if !ok {
		return Key{}
	}
	n, ok := parseShardName(name)
	if !ok {
		return Key{}
	}
	if id, ok := strings.CutPrefix(rest, "resources/"); ok {
		return withID(Resource, id, n)
	}
	if id, ok := strings.CutPrefix(rest, "claims/"); ok {
		return withID(Claim, id, n)
	}
	if id, ok := strings.CutPrefix(rest, "quarantine/"); ok {
		return withID(Quarantine, id, n)
	}
	if id, ok := strings.CutPrefix(rest, "retry/"); ok {
		return withID(Retry, id, n)
	}
	if lease, ok := strings.CutPrefix(rest, "active/"); ok {
		if l, ok := parseLease(lease); ok {
			return Key{Kind: Summary, Number: n, Lease: l}
		}
	}
	if lease, ok := strings.CutPrefix(rest, "begun/"); ok {
		if l, ok := parseLease(lease); ok {
			return Key{Kind: Trail, Number: n, Lease: l}
		}
	}
	return Key{}
}

func parseShardName(s string) (int, bool) {
	if len(s) != 4 || strings.ToLower(s) != s {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil || n >= MaxShards {
		return 0, false
	}
	return int(n), true
}

func parseLease(s string) (int64, bool) {
	if len(s) != 16 || strings.ToLower(s) != s {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 16, 64)
	return int64(n), err == nil && n != 0
}

func withID(kind Kind, escaped string, number int) Key {
	id, err := Unescape(escaped)
	if err != nil || CheckID(id) != nil {
		return Key{}
	}
	return Key{Kind: kind, ID: id, Number: number}
}
