package membership

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// Order says who gave an order, why and since when, by the clock of whoever gave it. It is for people.
type Order struct {
	By    string    `json:"by,omitempty"`
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since,omitzero"` // zero: unknown
}

// Restriction is an operator's order that keeps shards away from a member: a drain or a cordon. The member may be gone.
type Restriction struct {
	Order
	// Until is when the order ends by itself, by the clock of whoever gave it. The key's lease ends it.
	// Where a new leader of etcd has let the lease begin anew, the coordinator ends the order some minutes after that
	// time. Zero: the order stands until it is taken back.
	Until time.Time
	// Force says of a drain that it is obeyed even if nobody is left who can take what the members have.
	Force bool
	// Keeps says by shard which ones the member keeps nevertheless, if it owns them without the order. A cordoned
	// member keeps what it had. A drained member keeps what the coordinator has not yet placed elsewhere, for as long
	// as there is a coordinator, or soon will be. nil: none.
	Keeps []bool

	// ModRevision is that of the order's key. It is not part of the value.
	ModRevision int64
}

// restrictionValue is the value of the key of a drain or a cordon.
type restrictionValue struct {
	Order
	Until time.Time `json:"until,omitzero"`
	Force bool      `json:"force,omitempty"`
	Keeps string    `json:"keeps,omitempty"` // such as "0-5,9"
}

// Encode returns the value of the order's key.
func (r Restriction) Encode() string {
	return encode(restrictionValue{r.Order, r.Until, r.Force, rangesOf(r.Keeps)})
}

// decodeRestriction reads the value of the key of a drain or a cordon. The key alone is the order: a value that cannot
// be read, such as that of an older version, only means that nothing is known of the order.
func decodeRestriction(value []byte, shards int, modRevision int64) Restriction {
	r := Restriction{ModRevision: modRevision}
	var v restrictionValue
	if json.Unmarshal(value, &v) != nil {
		r.Since = drainedSince(value)
		return r
	}
	r.Order, r.Until, r.Force = v.Order, v.Until, v.Force
	r.Keeps = keptOf(v.Keeps, shards)
	return r
}

// Pin is an operator's order that a shard belongs to a certain member whenever that member can own shards.
type Pin struct {
	Order
	Member string `json:"member"`

	// ModRevision is that of the pin's key. It is not part of the value.
	ModRevision int64 `json:"-"`

	plain bool // the value is an id, as members of Schema 1 have it
}

// Encode returns the value of the pin's key.
func (p Pin) Encode() string { return encode(p) }

// decodePin reads the value of a pin's key: what Encode returns or, as older versions have it, the id of the member.
func decodePin(value []byte, modRevision int64) (Pin, bool) {
	p := Pin{ModRevision: modRevision}
	if len(value) == 0 { // an older version's pin to nobody
		return p, true
	}
	if value[0] != '{' {
		p.Member, p.plain = string(value), true
	} else if json.Unmarshal(value, &p) != nil {
		return Pin{}, false
	}
	return p, keys.CheckID(p.Member) == nil
}

// WeightOrder is an operator's order that a member has another weight than its own key says.
type WeightOrder struct {
	Order
	Weight int // 0 to MaxWeight
	// Keeps says by shard, if Weight is 0, which ones the member keeps nevertheless, as a drained member does: what the
	// coordinator has not yet placed elsewhere, for as long as there is a coordinator. nil: none.
	Keeps []bool

	// ModRevision is that of the order's key. It is not part of the value.
	ModRevision int64
}

// weightValue is the value of the key of an order about a weight.
type weightValue struct {
	Order
	Weight int    `json:"weight"`
	Keeps  string `json:"keeps,omitempty"` // such as "0-5,9"
}

// Encode returns the value of the order's key.
func (w WeightOrder) Encode() string {
	if w.Weight > 0 {
		w.Keeps = nil
	}
	return encode(weightValue{w.Order, w.Weight, rangesOf(w.Keeps)})
}

func decodeWeightOrder(value []byte, shards int, modRevision int64) (WeightOrder, bool) {
	v := weightValue{Weight: -1}
	if json.Unmarshal(value, &v) != nil || v.Weight < 0 || v.Weight > MaxWeight {
		return WeightOrder{}, false
	}
	w := WeightOrder{Order: v.Order, Weight: v.Weight, ModRevision: modRevision}
	if w.Weight == 0 {
		w.Keeps = keptOf(v.Keeps, shards)
	}
	return w, true
}

// Reservation says that a member that has stopped will be back soon, and that its shards wait for it. Its key is on a
// lease that nobody renews.
type Reservation struct {
	Since time.Time // by the member's clock; for people
	Until time.Time // when the lease ends, by the member's clock; for people
	// Keeps says by shard which ones the member had. What others give up meanwhile does not go to it, unless nobody
	// else can own it. nil: it is not known what it had.
	Keeps []bool
}

// reservationValue is the value of a reservation's key.
type reservationValue struct {
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	Keeps string    `json:"keeps,omitempty"` // such as "0-5,9"
}

// Encode returns the value of the reservation's key.
func (r Reservation) Encode() string {
	return encode(reservationValue{r.Since, r.Until, rangesOf(r.Keeps)})
}

// decodeReservation reads the value of a reservation's key. The key alone reserves.
func decodeReservation(value []byte, shards int) Reservation {
	var v reservationValue
	if json.Unmarshal(value, &v) != nil {
		return Reservation{}
	}
	return Reservation{Since: v.Since, Until: v.Until, Keeps: keptOf(v.Keeps, shards)}
}

// keptOf reads which shards a member keeps; nil: none, or they cannot be read.
func keptOf(ranges string, shards int) []bool {
	if ranges == "" {
		return nil
	}
	kept, ok := shardsOf(ranges)
	if !ok {
		return nil
	}
	keeps := make([]bool, shards)
	for _, n := range kept {
		if n < shards {
			keeps[n] = true
		}
	}
	return keeps
}

// stance returns which shards a member may own while it is awaited.
func (r Reservation) stance() *stance {
	if r.Keeps == nil {
		return &stance{}
	}
	return &stance{cordoned: true, keeps: r.Keeps}
}

// Why says why an exception to the ring is there.
type Why string

// The reasons for an exception.
const (
	WhyBound   Why = "bound"   // it keeps the load of each member within the bound
	WhyDrain   Why = "drain"   // its shard's former owner is drained, or has the weight 0
	WhyLeave   Why = "leave"   // its shard's former owner has stopped
	WhyJoin    Why = "join"    // it gives a member its share that has just joined
	WhyMove    Why = "move"    // an operator has moved the shard
	WhyVersion Why = "version" // it keeps shards where they are while members of two versions live
	WhyRing    Why = "ring"    // it keeps the shard where it is, although the ring has changed
)

// Exception says that a shard belongs to another member than the ring says, or stays with the same one when the ring
// changes. The coordinator publishes it.
type Exception struct {
	Member string    `json:"member"`           // to whom the shard belongs while this member can own shards
	Then   string    `json:"then,omitempty"`   // to whom it belongs otherwise; empty: the ring decides
	Why    Why       `json:"why"`              // why it is there; for people, and for the coordinator
	By     string    `json:"by,omitempty"`     // the coordinator, or the operator, who placed the shard
	Since  time.Time `json:"since,omitzero"`   // when the shard was placed there, by the clock of By
	Reason string    `json:"reason,omitempty"` // the operator's reason; for people
	// Balanced is when the shard was last moved for balance, or by an operator, if the exception is there for another
	// reason by now. The coordinator moves no shard for balance again too soon. Zero: long ago, or never.
	Balanced time.Time `json:"balanced,omitzero"`

	// ModRevision is that of the exception's key. It is not part of the value.
	ModRevision int64 `json:"-"`
}

// Encode returns the value of the exception's key.
func (e Exception) Encode() string { return encode(e) }

func decodeException(value []byte, modRevision int64) (Exception, bool) {
	var e Exception
	if json.Unmarshal(value, &e) != nil || keys.CheckID(e.Member) != nil ||
		e.Then != "" && keys.CheckID(e.Then) != nil {
		return Exception{}, false
	}
	e.ModRevision = modRevision
	return e, true
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // happens only for a time outside of the years 0 to 9999
		panic(fmt.Sprintf("membership: encode %+v: %v", v, err))
	}
	return string(b)
}

// drainedSince reads the value of a drain of an older version: the time since which the drain is ordered.
func drainedSince(value []byte) time.Time {
	since, err := time.Parse(time.RFC3339, string(value))
	if err != nil || since.Year() < 1970 {
		return time.Time{}
	}
	return since.UTC()
}
