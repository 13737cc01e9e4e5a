package membership

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// State is how far a member is in its life.
type State string

// The states of a member, in their order. Only an active member owns shards.
const (
	Joining  State = "joining"  // registered, and not ready yet
	Active   State = "active"   // takes its share
	Draining State = "draining" // active, but an operator has ordered a drain; no member writes this (see View.StateOf)
	Leaving  State = "leaving"  // stopping: it is ending what it handles
)

// MaxWeight is the most slots that one member may have, so that a registration fits in one transaction.
const MaxWeight = 32

// Record is what a member's key says.
type Record struct {
	State   State             `json:"state"`
	Weight  int               `json:"weight"`            // the member's share relative to others', 1 to MaxWeight
	Slots   []int             `json:"slots"`             // ascending; a Registrar fills them in
	Address string            `json:"address,omitempty"` // for people: where the member can be reached
	Labels  map[string]string `json:"labels,omitempty"`  // for people
	Version string            `json:"version,omitempty"` // for people: of the member's program
	Started time.Time         `json:"started"`           // when the member's process began
	Source  bool              `json:"source"`            // has a source of resources, and so stands for coordinator
}

func (r Record) encode() string {
	b, err := json.Marshal(r)
	if err != nil { // only a time outside of the years 0 to 9999 causes that
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
		return Record{}, fmt.Errorf("state %q", r.State)
	}
	if r.Weight < 1 || r.Weight > MaxWeight {
		return Record{}, fmt.Errorf("weight %d", r.Weight)
	}
	for _, s := range r.Slots {
		if s < 0 || s > keys.MaxSlots {
			return Record{}, fmt.Errorf("slot %d", s)
		}
	}
	return r, nil
}
