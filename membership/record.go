package membership

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// State is a stage in the life of a member.
type State string

// The states of a member. It joins, is active or unready by turns, and leaves. Only an active member owns shards, or an
// unready one where unreadiness is ignored.
const (
	Joining  State = "joining"  // registered, but not ready yet
	Active   State = "active"   // takes its share of the shards
	Unready  State = "unready"  // cannot work for now, so the others take its share (see View.UnreadyIgnored)
	Draining State = "draining" // active, but to be drained; no member writes this state (see View.StateOf)
	Leaving  State = "leaving"  // stopping: the member is ending what it handles
)

// MaxWeight is the greatest weight of a member.
const MaxWeight = 1000

// olderMaxWeight is the greatest weight that members of Schema 1 accept.
const olderMaxWeight = 32

// Schema is the version of what this package reads and writes below group/. Version 1 knows no exceptions with keys of
// their own, cordons, weights other than a member's own, reservations, and orders that let a member keep shards.
const Schema = 2

// Record is the value of a member's key. A Registrar sets Slots, Blocks and Held.
type Record struct {
	State   State             `json:"state"`
	Weight  int               `json:"weight"`            // the member's share relative to the others', 0 to MaxWeight
	Slots   []int             `json:"slots"`             // those reserved by themselves, ascending
	Blocks  []int             `json:"blocks,omitempty"`  // the first slots of its blocks, ascending
	Held    int               `json:"held,omitempty"`    // how many slots count, if it has Blocks
	Address string            `json:"address,omitempty"` // where the member can be reached; for people
	Labels  map[string]string `json:"labels,omitempty"`  // for people
	Version string            `json:"version,omitempty"` // the version of the member's program; for people
	Started time.Time         `json:"started"`           // when the member's process began
	Source  bool              `json:"source"`            // has a source of resources, so it stands for coordinator
	// Schema is the newest version of the keys below group/ that the member's program understands (see Schema). A
	// Registrar sets it; 0 stands for 1.
	Schema int `json:"schema,omitempty"`
	// Leaves says that the member is about to stop, so that the coordinator places its shards elsewhere.
	Leaves bool `json:"leaves,omitempty"`
	// Reason says why the member is Unready; for people. A Registrar writes it in that state only.
	Reason string `json:"reason,omitempty"`
	// MinReady is the share of the members that must be ready for this member's unreadiness to count, above 0 and up to
	// 1; 0 stands for DefaultMinReady. A Registrar writes it in the state Unready only.
	MinReady float64 `json:"min_ready,omitempty"`
}

// DefaultMinReady is the share of the members that must be ready where no unready member names a greater one.
const DefaultMinReady = 0.5

// tidy clears what says something of an unready member only.
func (r *Record) tidy() {
	if r.State != Unready {
		r.Reason, r.MinReady = "", 0
	}
}

// recordValue is the value of a member's key. Its weight is one that members of Schema 1 accept: the nearest one, if
// they would not accept the member's.
type recordValue struct {
	Record
	Exact *int `json:"exact_weight,omitempty"` // the member's weight, if it is another one
}

// olderWeight is the weight that members of Schema 1 reckon with.
func (r Record) olderWeight() int { return min(max(r.Weight, 1), olderMaxWeight) }

// Holds returns how many slots of the ring the member has.
func (r Record) Holds() int {
	if len(r.Blocks) == 0 {
		return len(r.Slots)
	}
	return r.Held
}

// Encode returns the value of the member's key.
func (r Record) Encode() string {
	r.tidy()
	v := recordValue{Record: r}
	if v.Weight = r.olderWeight(); v.Weight != r.Weight {
		v.Exact = &r.Weight
	}
	b, err := json.Marshal(v)
	if err != nil { // happens only for a time outside of the years 0 to 9999
		panic(fmt.Sprintf("membership: encode %+v: %v", r, err))
	}
	return string(b)
}

func decodeRecord(value []byte) (Record, error) {
	var v recordValue
	if err := json.Unmarshal(value, &v); err != nil {
		return Record{}, err
	}
	r := v.Record
	switch r.State {
	case Joining, Active, Unready, Leaving:
	default:
		return Record{}, fmt.Errorf("state %q, want %s, %s, %s or %s", r.State, Joining, Active, Unready, Leaving)
	}
	if r.MinReady < 0 || r.MinReady > 1 {
		return Record{}, fmt.Errorf("min_ready %v, want 0 to 1", r.MinReady)
	}
	if r.Weight < 1 || r.Weight > olderMaxWeight {
		return Record{}, fmt.Errorf("weight %d, want 1 to %d", r.Weight, olderMaxWeight)
	}
	if v.Exact != nil {
		if r.Weight = *v.Exact; r.Weight < 0 || r.Weight > MaxWeight {
			return Record{}, fmt.Errorf("exact weight %d, want 0 to %d", r.Weight, MaxWeight)
		}
	}
	for _, s := range r.Slots {
		if s < 0 || s > keys.MaxSlots {
			return Record{}, fmt.Errorf("slot %d, want 0 to %d", s, keys.MaxSlots)
		}
	}
	for _, from := range r.Blocks {
		if from < 0 || from > keys.MaxBlock {
			return Record{}, fmt.Errorf("block %d, want 0 to %d", from, keys.MaxBlock)
		}
	}
	if r.Held < 0 || r.Held > 0 && len(r.Blocks) == 0 {
		return Record{}, fmt.Errorf("held %d, and %d blocks", r.Held, len(r.Blocks))
	}
	r.tidy()
	return r, nil
}
