package claims

import (
	"encoding/json"
	"errors"
	"time"
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

	// StuckSince and BudgetSince are since when some calls have been stuck, or have waited for a budget, without a
	// break, by the member's clock. They are zero if none are.
	StuckSince  time.Time `json:"stuck_since,omitzero"`
	BudgetSince time.Time `json:"budget_since,omitzero"`
	// View is the revision of the newest view of the group that the member has acted upon, and ViewAt is when it did,
	// by its clock. A new view alone makes the member write them a minute late at most. 0: unknown, as of programs
	// before this field.
	View   int64     `json:"view,omitempty"`
	ViewAt time.Time `json:"view_at,omitzero"`
	// NoBalance says that the member, while it coordinates, moves nothing for the sake of balance.
	NoBalance bool `json:"no_balance,omitempty"`
}

// WithoutView returns the figures that are worth a write of their own.
func (f Figures) WithoutView() Figures {
	f.View, f.ViewAt = 0, time.Time{}
	return f
}

// Encode returns the value of the key.
func (f Figures) Encode() []byte {
	b, err := json.Marshal(f)
	if err != nil { // a wrong clock: only the times of this century's clocks can be marshalled
		f.StuckSince, f.BudgetSince, f.ViewAt = time.Time{}, time.Time{}, time.Time{}
		if b, err = json.Marshal(f); err != nil { // numbers can always be marshalled
			panic(err)
		}
	}
	return b
}

// DecodeFigures reads a member's figures. The error says what is wrong with the value.
func DecodeFigures(value []byte) (Figures, error) {
	var f Figures
	if err := json.Unmarshal(value, &f); err != nil {
		return Figures{}, err
	}
	if min(f.Shards, f.Claims, f.Active, f.Failed, f.Calls, f.Stuck, f.Waiting, f.WaitingForBudget) < 0 || f.View < 0 {
		return Figures{}, errors.New("a negative number")
	}
	return f, nil
}
