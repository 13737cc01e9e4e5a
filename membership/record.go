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

// MaxWeight is the most slots that one member may have, so that a registration fits in one transaction.
const MaxWeight = 32

// Schema is the version of what this package reads and writes below group/. Version 1 knows no exceptions with keys of
// their own, cordons, weights other than a member's own, reservations, and orders that let a member keep shards.
const Schema = 2

// Record is the value of a member's key.
type Record struct {
	State   State             `json:"state"`
	Weight  int               `json:"weight"`            // the member's share relative to the others', 1 to MaxWeight
	Slots   []int             `json:"slots"`             // ascending; a Registrar sets them
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

func (r Record) encode() string {
	r.tidy()
	b, err := json.Marshal(r)
	if err != nil { // happens only for a time outside of the years 0 to 9999
		panic(fmt.Sprintf("membership: encode %+v: %v", r, err))
	}
	return string(b)
}

func decodeRecord(value []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(value, &r); err != nil {
		return Record{}, err
	}
	switch r.State {
	case Joining, Active, Unready, Leaving:
	default:
		return Record{}, fmt.Errorf("state %q, want %s, %s, %s or %s", r.State, Joining, Active, Unready, Leaving)
	}
	if r.MinReady < 0 || r.MinReady > 1 {
		return Record{}, fmt.Errorf("min_ready %v, want 0 to 1", r.MinReady)
	}
	if r.Weight < 1 || r.Weight > MaxWeight {
		return Record{}, fmt.Errorf("weight %d, want 1 to %d", r.Weight, MaxWeight)
	}
	for _, s := range r.Slots {
		if s < 0 || s > keys.MaxSlots {
			return Record{}, fmt.Errorf("slot %d, want 0 to %d", s, keys.MaxSlots)
		}
	}
	r.tidy()
	return r, nil
}
