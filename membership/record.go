package membership

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// State is a stage in the life of a member.
type State string

// The states of a member, in the order in which a member passes them. Only an active member owns shards.
const (
	Joining  State = "joining"  // registered, but not ready yet
	Active   State = "active"   // takes its share of the shards
	Draining State = "draining" // active, but to be drained; no member writes this state (see View.StateOf)
	Leaving  State = "leaving"  // stopping: the member is ending what it handles
)

// MaxWeight is the most slots that one member may have, so that a registration fits in one transaction.
const MaxWeight = 32

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
}

func (r Record) encode() string {
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
	case Joining, Active, Leaving:
	default:
		return Record{}, fmt.Errorf("state %q, want %s, %s or %s", r.State, Joining, Active, Leaving)
	}
	if r.Weight < 1 || r.Weight > MaxWeight {
		return Record{}, fmt.Errorf("weight %d, want 1 to %d", r.Weight, MaxWeight)
	}
	for _, s := range r.Slots {
		if s < 0 || s > keys.MaxSlots {
			return Record{}, fmt.Errorf("slot %d, want 0 to %d", s, keys.MaxSlots)
		}
	}
	return r, nil
}
