// Package claims has what members write about their claims in etcd. A Record is the value of a claim's key: who has the
// claim, how far the handling is, and what went wrong. A Summary is the value of the key that says for many claims how
// far they are, and Figures is the value of the key with the counts of a member's claims.
package claims

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// The states that the key of a claim can have.
const (
	Claimed = "claimed"
	Active  = "active"
	Failed  = "failed"
	// Quarantined says that the resource is not handled, since it has killed members. The claim's error says which.
	Quarantined = "quarantined"
)

// MaxError is how many bytes of an error's text are kept.
const MaxError = 512

// Record is the value of a claim's key.
type Record struct {
	Member string    `json:"member"`
	State  string    `json:"state"`
	Since  time.Time `json:"since"` // by the member's clock
	// Error is the error of the last Handle, or of the handling later, if State is Failed, and the evidence if it is
	// Quarantined. It is also what is said about a call that takes long.
	Error string `json:"error"`
}

// Encoder encodes the claims of one member.
type Encoder struct{ head string }

// NewEncoder makes an encoder for a member's claims. It is safe for concurrent use.
func NewEncoder(member string) Encoder {
	return Encoder{head: `{"member":` + quote(member) + `,"state":"`}
}

// Encode returns the value of the key: JSON, written by hand because there may be a million of them. state is one of
// the states above, and message the error of the last Handle, which is clipped to MaxError.
func (e Encoder) Encode(state string, since time.Time, message string) []byte {
	b := make([]byte, 0, len(e.head)+80+len(message))
	b = append(b, e.head...)
	b = append(b, state...)
	b = append(b, `","since":"`...)
	b = since.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","error":`...)
	if message == "" {
		b = append(b, `""`...)
	} else {
		b = append(b, quote(clip(message))...)
	}
	return append(b, '}')
}

// Decode reads a claim's value. The error says what is wrong with the value.
func Decode(value []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(value, &r); err != nil {
		return Record{}, err
	}
	switch r.State {
	case Claimed, Active, Failed, Quarantined:
	default:
		return Record{}, fmt.Errorf("state %q, want %s, %s, %s or %s", r.State, Claimed, Active, Failed, Quarantined)
	}
	if err := keys.CheckID(r.Member); err != nil {
		return Record{}, fmt.Errorf("member %q, want %w", r.Member, err)
	}
	return r, nil
}

// clip shortens a message to at most MaxError bytes of UTF-8, cut between two runes.
func clip(message string) string {
	// Invalid bytes are replaced first, since that makes the message longer.
	return excerpt.Within(strings.ToValidUTF8(message, "\uFFFD"), MaxError)
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil { // a string can always be marshalled
		panic(err)
	}
	return string(b)
}
