package claims

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// Trail is the value of a trail's key: the resources of one shard and one lease that may be to blame if their member
// dies now, since their Handle or Update runs, is about to run, or has returned a short time ago.
type Trail struct {
	Member string    `json:"member"`
	Life   string    `json:"life"` // tells the lives of members with one id apart
	At     time.Time `json:"at"`   // when it was written, by the member's clock
	IDs    []string  `json:"ids"`

	// Returned is how many of IDs, from the first, had returned from Handle or Update.
	Returned int `json:"returned,omitempty"`
	// Alone says that nothing else began beside them in the member, since another death had accused them.
	Alone bool `json:"alone,omitempty"`
}

// Encode returns the value of the key: JSON, written by hand because there may be thousands of long ones.
func (t Trail) Encode() []byte {
	size := len(t.Member) + len(t.Life) + 80
	for _, id := range t.IDs {
		size += len(id) + 3
	}
	b := append(make([]byte, 0, size), `{"member":`...)
	b = append(b, quote(t.Member)...)
	b = append(b, `,"life":`...)
	b = append(b, quote(t.Life)...)
	b = append(b, `,"at":"`...)
	b = t.At.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","ids":[`...)
	for i, id := range t.IDs {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendID(b, id)
	}
	b = append(b, ']')
	if t.Returned > 0 {
		b = strconv.AppendInt(append(b, `,"returned":`...), int64(t.Returned), 10)
	}
	if t.Alone {
		b = append(b, `,"alone":true`...)
	}
	return append(b, '}')
}

// appendID appends an id as JSON. Most ids need no escaping.
func appendID(b []byte, id string) []byte {
	for i := range len(id) {
		if c := id[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return append(b, quote(id)...)
		}
	}
	b = append(b, '"')
	b = append(b, id...)
	return append(b, '"')
}

// DecodeTrail reads a trail's value. The error says what is wrong with the value.
func DecodeTrail(value []byte) (Trail, error) {
	var t Trail
	if err := json.Unmarshal(value, &t); err != nil {
		return Trail{}, err
	}
	if err := keys.CheckID(t.Member); err != nil {
		return Trail{}, fmt.Errorf("member %q, want %w", t.Member, err)
	}
	if t.Returned < 0 || t.Returned > len(t.IDs) {
		return Trail{}, fmt.Errorf("returned is %d, want 0 to %d", t.Returned, len(t.IDs))
	}
	for _, id := range t.IDs {
		if err := keys.CheckID(id); err != nil {
			return Trail{}, fmt.Errorf("resource %q, want %w", id, err)
		}
	}
	return t, nil
}

// Quarantine is the value of a record of quarantine.
type Quarantine struct {
	Data   string    `json:"data"` // stands for the data that the resource had: core.Digest
	At     time.Time `json:"at"`   // when the record was written, by the clock of the member that wrote it
	Deaths []Death   `json:"deaths"`
}

// Death is one death that a resource is accused of.
type Death struct {
	Member string    `json:"member"`
	At     time.Time `json:"at"`             // when the member was alive last, by its clock
	Exit   string    `json:"exit,omitempty"` // how its process ended, where that is known
}

// Encode returns the value of the key.
func (q Quarantine) Encode() []byte {
	b, err := json.Marshal(q)
	if err != nil { // strings and times can always be marshalled
		panic(err)
	}
	return b
}

// DecodeQuarantine reads the value of a record of quarantine. The error says what is wrong with the value.
func DecodeQuarantine(value []byte) (Quarantine, error) {
	var q Quarantine
	if err := json.Unmarshal(value, &q); err != nil {
		return Quarantine{}, err
	}
	if len(q.Deaths) == 0 {
		return Quarantine{}, errors.New("no deaths")
	}
	return q, nil
}

// mostDeathsTold is how many deaths Text names.
const mostDeathsTold = 5

// Text says, for people, why a resource is quarantined.
func (q Quarantine) Text() string {
	text := fmt.Sprintf("%d members died while they began with it; `drmctl retry` frees it:", len(q.Deaths))
	if len(q.Deaths) == 1 {
		text = "a member died while it began with it; `drmctl retry` frees it:"
	}
	for i, d := range q.Deaths {
		if i == mostDeathsTold {
			return fmt.Sprintf("%s, and %d more", text, len(q.Deaths)-i)
		}
		if i > 0 {
			text += ","
		}
		text += fmt.Sprintf(" %s at %s", d.Member, d.At.UTC().Format(time.RFC3339))
		if d.Exit != "" {
			text += " (" + d.Exit + ")"
		}
	}
	return text
}

// Alone is the value of the key of the member that handles a suspect alone.
type Alone struct {
	Member string `json:"member"`
	ID     string `json:"id"` // of the resource
}

// Encode returns the value of the key.
func (a Alone) Encode() []byte {
	b, err := json.Marshal(a)
	if err != nil { // strings can always be marshalled
		panic(err)
	}
	return b
}

// DecodeAlone reads the value of that key. The error says what is wrong with the value.
func DecodeAlone(value []byte) (Alone, error) {
	var a Alone
	if err := json.Unmarshal(value, &a); err != nil {
		return Alone{}, err
	}
	if err := keys.CheckID(a.Member); err != nil {
		return Alone{}, fmt.Errorf("member %q, want %w", a.Member, err)
	}
	return a, nil
}

// Deaths is the value of the key that says how a member's processes have ended. A supervisor writes it.
type Deaths struct {
	Deaths []Exit `json:"deaths"`
}

// Exit is the end of one process of a member.
type Exit struct {
	At     time.Time `json:"at"`
	Exit   string    `json:"exit"`   // such as: exit status 2; signal: killed
	Leases []string  `json:"leases"` // of the claims that it had: 16 hexadecimal digits each, as in keys
}

// mostExits is how many exits a key tells of: as many deaths as a Quarantine may need, for several resources.
const mostExits = 16

// With returns the deaths with one more. The oldest are left out where there are too many.
func (d Deaths) With(e Exit) Deaths {
	all := append(slices.Clone(d.Deaths), e)
	return Deaths{Deaths: all[max(0, len(all)-mostExits):]}
}

// Encode returns the value of the key.
func (d Deaths) Encode() []byte {
	b, err := json.Marshal(d)
	if err != nil { // strings and times can always be marshalled
		panic(err)
	}
	return b
}

// DecodeDeaths reads the value of that key. The error says what is wrong with the value.
func DecodeDeaths(value []byte) (Deaths, error) {
	var d Deaths
	if err := json.Unmarshal(value, &d); err != nil {
		return Deaths{}, err
	}
	return d, nil
}

// Of returns how the process ended that had a lease; "" if that is not known.
func (d Deaths) Of(lease int64) string {
	name := fmt.Sprintf("%016x", uint64(lease))
	for _, e := range d.Deaths {
		for _, l := range e.Leases {
			if l == name {
				return e.Exit
			}
		}
	}
	return ""
}
