package claims

import (
	"encoding/json"
	"errors"
	"time"
)

// Lives is the value of the key which says how many lives of a member have followed one another closely: each but the
// last one ended without a stop in order, soon after it had begun.
type Lives struct {
	Starts int       `json:"starts"` // the last one included
	Since  time.Time `json:"since"`  // when the first of them began, by the member's clock; for people
}

// Encode returns the value of the key.
func (l Lives) Encode() string {
	b, err := json.Marshal(l)
	if err != nil { // happens only for a time outside of the years 0 to 9999
		l.Since = time.Time{}
		b, _ = json.Marshal(l)
	}
	return string(b)
}

// DecodeLives reads the value of the key.
func DecodeLives(value []byte) (Lives, error) {
	var l Lives
	if err := json.Unmarshal(value, &l); err != nil {
		return Lives{}, err
	}
	if l.Starts < 1 {
		return Lives{}, errors.New("the number of starts is not positive")
	}
	return l, nil
}
