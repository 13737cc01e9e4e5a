package claims

import (
	"encoding/json"
	"errors"
)

// Figures is the value of a member's key of figures: how many shards it owns, and how far its claims are.
type Figures struct {
	Shards  int `json:"shards"`  // that it follows
	Claims  int `json:"claims"`  // that it has
	Active  int `json:"active"`  // resources that it handles
	Failed  int `json:"failed"`  // resources whose last Handle failed, or what that had begun
	Calls   int `json:"calls"`   // of the handler that are running
	Stuck   int `json:"stuck"`   // calls that were given up and have not returned
	Waiting int `json:"waiting"` // calls that wait for others to return, as only so many may run at once
}

// Encode gives the value of the key.
func (f Figures) Encode() []byte {
	b, err := json.Marshal(f)
	if err != nil { // numbers always marshal
		panic(err)
	}
	return b
}

// DecodeFigures reads a member's figures. The error says what of the value is not understood.
func DecodeFigures(value []byte) (Figures, error) {
	var f Figures
	if err := json.Unmarshal(value, &f); err != nil {
		return Figures{}, err
	}
	if min(f.Shards, f.Claims, f.Active, f.Failed, f.Calls, f.Stuck, f.Waiting) < 0 {
		return Figures{}, errors.New("a count that is less than none")
	}
	return f, nil
}
