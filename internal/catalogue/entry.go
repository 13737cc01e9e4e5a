package catalogue

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/distributed-resource-manager/drm/internal/object"
)

// Entry is the value of a resource's key.
type Entry struct {
	FromSource bool            `json:"from_source"` // the last fetch had the resource
	Allocated  bool            `json:"allocated"`   // an allocation wants the resource
	OwnData    bool            `json:"own_data"`    // Data came with an allocation: a fetch does not overwrite it
	Suspended  bool            `json:"suspended"`   // deallocated, while the source has the resource or may have it
	Data       json.RawMessage `json:"data"`        // the whole object, as valid JSON
}

// Wanted says whether the resource should be handled.
func (e Entry) Wanted() bool { return !e.Suspended }

var flagNames = [...]string{`{"from_source":`, `,"allocated":`, `,"own_data":`, `,"suspended":`}

const dataName = `,"data":`

// Encode returns the value of the key: the JSON of the entry. It is written by hand because there may be a million
// entries.
func (e Entry) Encode() []byte {
	b := make([]byte, 0, 96+len(e.Data))
	for i, on := range [...]bool{e.FromSource, e.Allocated, e.OwnData, e.Suspended} {
		b = append(b, flagNames[i]...)
		if on {
			b = append(b, "true"...)
		} else {
			b = append(b, "false"...)
		}
	}
	b = append(b, dataName...)
	b = append(b, e.Data...)
	return append(b, '}')
}

// Decode is the inverse of Encode. It also accepts the same JSON in another order or spacing. Data shares the memory of
// value. The error says what is wrong with the value.
func Decode(value []byte) (Entry, error) {
	if e, ok := decodeFast(value); ok {
		return e, nil
	}
	var e Entry
	if err := json.Unmarshal(value, &e); err != nil {
		return Entry{}, err // the error quotes no value, since the fields are booleans and data
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
