package claims

import (
	"encoding/json"
	"errors"
)

// Figures is the value of a member's key of figures: how many shards it owns, and the states of its claims.
type Figures struct {
	Shards  int `json:"shards"`  // shards that it follows
	Claims  int `json:"claims"`  // claims that it has
	Active  int `json:"active"`  // resources that it handles
	Failed  int `json:"failed"`  // resources whose last Handle failed, or whose handling failed later
	Calls   int `json:"calls"`   // calls of the handler that are running
	Stuck   int `json:"stuck"`   // calls that were given up and have not returned
	Waiting int `json:"waiting"` // calls that wait for others to return, since only so many may run at once

	// WaitingForBudget is how many of Waiting wait until a rate allows another Handle.
	WaitingForBudget int `json:"waiting_for_budget,omitempty"`
}

// Encode returns the value of the key.
func (f Figures) Encode() []byte {
	b, err := json.Marshal(f)
	if err != nil { // numbers can always be marshalled
		panic(err)
	}
	return b
}

// DecodeFigures reads a member's figures. The error says what is wrong with the value.
func DecodeFigures(value []byte) (Figures, error) {
	var f Figures
	if err := json.Unmarshal(value, &f); err != nil {
		return Figures{}, err
	}
	if min(f.Shards, f.Claims, f.Active, f.Failed, f.Calls, f.Stuck, f.Waiting, f.WaitingForBudget) < 0 {
		return Figures{}, errors.New("a negative count")
	}
	return f, nil
}
