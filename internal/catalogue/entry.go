package catalogue

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"github.com/distributed-resource-manager/drm/internal/jsontext"
	"github.com/distributed-resource-manager/drm/internal/object"
)

// Entry is the value of a resource's key.
type Entry struct {
	FromSource bool `json:"from_source"` // the last fetch had the resource
	Allocated  bool `json:"allocated"`   // an allocation wants the resource
	OwnData    bool `json:"own_data"`    // Data came with an allocation: a fetch does not overwrite it
	// Suspended: nobody handles the resource. It was deallocated while the source has it or may have it; or, if there
	// is a Suspension, an operator has suspended it.
	Suspended  bool            `json:"suspended"`
	Suspension *Suspension     `json:"-"`    // see suspensionValue
	Data       json.RawMessage `json:"data"` // the whole object, as valid JSON
}

// Suspension says that an operator has suspended a resource, whoever wants it.
type Suspension struct {
	By    string    `json:"by,omitempty"`
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since,omitzero"` // by the clock of whoever gave the order
}

// suspensionValue is the field "suspension" of an entry. It has what an allocation wants. Beside it the entry says that
// no allocation wants the resource: a coordinator of an older version, which does not know this field, wakes what an
// allocation wants and the source lacks.
type suspensionValue struct {
	Suspension
	Allocated bool `json:"allocated,omitempty"`
	OwnData   bool `json:"own_data,omitempty"`
}

// Wanted says whether the resource should be handled.
func (e Entry) Wanted() bool { return !e.Suspended }

var flagNames = [...]string{`{"from_source":`, `,"allocated":`, `,"own_data":`, `,"suspended":`}

const dataName = `,"data":`

// Encode returns the value of the key: the JSON of the entry. It is written by hand because there may be a million
// entries.
func (e Entry) Encode() []byte {
	b := make([]byte, 0, 96+len(e.Data))
	var suspension []byte
	if e.Suspension != nil && e.Suspended {
		suspension = e.Suspension.encode(e.Allocated, e.OwnData)
		e.Allocated, e.OwnData = false, false
	}
	for i, on := range [...]bool{e.FromSource, e.Allocated, e.OwnData, e.Suspended} {
		b = append(b, flagNames[i]...)
		if on {
			b = append(b, "true"...)
		} else {
			b = append(b, "false"...)
		}
	}
	b = append(b, suspension...)
	b = append(b, dataName...)
	b = append(b, e.Data...)
	return append(b, '}')
}

// encode returns the field of the entry, with a comma before it.
func (s Suspension) encode(allocated, ownData bool) []byte {
	value, err := jsontext.Marshal(suspensionValue{s, allocated, ownData})
	if err != nil { // the year is not one that JSON can express
		s.Since = time.Time{}
		value, _ = jsontext.Marshal(suspensionValue{s, allocated, ownData})
	}
	return append([]byte(`,"suspension":`), value...)
}

// Decode is the inverse of Encode. It also accepts the same JSON in another order or spacing. Data shares the memory of
// value. The error says what is wrong with the value.
func Decode(value []byte) (Entry, error) {
	if e, ok := decodeFast(value); ok {
		return e, nil
	}
	var v struct {
		Entry
		Suspension json.RawMessage `json:"suspension"`
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return Entry{}, err // the error quotes no value, since the fields are booleans and raw
	}
	e := v.Entry
	var s suspensionValue
	// A suspension that cannot be read suspends all the same.
	if e.Suspended && len(v.Suspension) > 0 && json.Unmarshal(v.Suspension, &s) == nil && s != (suspensionValue{}) {
		e.Suspension = &s.Suspension
		e.Allocated, e.OwnData = e.Allocated || s.Allocated, e.OwnData || s.OwnData
	}
	if len(e.Data) == 0 || e.Data[0] != '{' {
		return Entry{}, errors.New("its data is not an object")
	}
	return e, nil
}

// DecodeOf is Decode for the entry of the resource with that id. An entry whose data names another resource is corrupt:
// whoever is given only the object would handle that other resource, in addition to the member that has its claim.
func DecodeOf(id string, value []byte) (Entry, error) {
	e, err := Decode(value)
	if err != nil || object.BeginsWithID(e.Data, id) {
		return e, err
	}
	if problem := object.Check(e.Data, id); problem != nil {
		return Entry{}, problem
	}
	return e, nil
}

// decodeFast reads exactly what Encode writes.
func decodeFast(value []byte) (Entry, bool) {
	var flags [len(flagNames)]bool
	rest := value
	var ok bool
	for i, name := range flagNames {
		if rest, ok = bytes.CutPrefix(rest, []byte(name)); !ok {
			return Entry{}, false
		}
		if after, yes := bytes.CutPrefix(rest, []byte("true")); yes {
			flags[i], rest = true, after
		} else if rest, ok = bytes.CutPrefix(rest, []byte("false")); !ok {
			return Entry{}, false
		}
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(dataName)); !ok {
		return Entry{}, false
	}
	if rest, ok = bytes.CutSuffix(rest, []byte("}")); !ok {
		return Entry{}, false
	}
	if len(rest) == 0 || rest[0] != '{' || !json.Valid(rest) {
		return Entry{}, false
	}
	return Entry{FromSource: flags[0], Allocated: flags[1], OwnData: flags[2], Suspended: flags[3], Data: rest}, true
}
