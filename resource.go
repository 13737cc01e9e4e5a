package drm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/jsontext"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// MaxIDBytes is the length of the longest id a resource or a member may have, in bytes of UTF-8.
const MaxIDBytes = keys.MaxIDBytes

// Resource is one thing that exactly one member should be handling: a connection, a webhook, a poller, a subscription.
type Resource struct {
	// ID names the resource, uniquely in its app: 1 to MaxIDBytes bytes of UTF-8 without control characters.
	ID string
	// Data is the whole JSON object that the source gave, with every field it had. Its "id", if it has one, must equal
	// ID; where it has none, or Data is nil, DRM puts it in.
	Data json.RawMessage
}

// Validate reports, as an *InputError that names the field, whether the id is one that DRM accepts and Data a JSON
// object that agrees with it.
func (r Resource) Validate() error {
	if err := keys.CheckID(r.ID); err != nil {
		return &InputError{Field: "id", Value: r.ID, Want: err.Error()}
	}
	if r.Data == nil || r.isPlain() {
		return nil
	}
	id, has, err := idOf(r.Data)
	if err != nil {
		return &InputError{Field: "data", Value: shapeOf(r.Data), Want: err.Error()}
	}
	if has && id != r.ID {
		return &InputError{Field: "data.id", Value: id, Want: fmt.Sprintf("the resource's id %q, or no id", r.ID)}
	}
	return nil
}

// Object returns the resource's JSON object: Data, with the id put in where it has none, so that whoever is given the
// object alone knows what it is about.
func (r Resource) Object() json.RawMessage {
	if r.isPlain() {
		return r.Data
	}
	if r.Data != nil {
		if _, has, err := idOf(r.Data); has || err != nil {
			return r.Data
		}
	}
	id, err := jsontext.Marshal(r.ID)
	if err != nil { // a string always marshals
		panic(err)
	}
	object := append([]byte(`{"id":`), id...)
	if _, fields, ok := bytes.Cut(r.Data, []byte("{")); ok {
		if fields = bytes.TrimLeft(fields, " \t\r\n"); len(fields) > 0 && fields[0] != '}' {
			return append(append(object, ','), fields...)
		}
	}
	return append(object, '}')
}

// checked is Validate and Object, and looks only once at what is plain.
func (r Resource) checked() (json.RawMessage, error) {
	if keys.CheckID(r.ID) == nil && r.isPlain() {
		return r.Data, nil
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return r.Object(), nil
}

// isPlain says whether Data are surely a valid object with this id, and with no other. It does not take the object apart:
// there may be a million of them, and nearly all begin with their id.
func (r Resource) isPlain() bool {
	return beginsWithID(r.Data, r.ID) && utf8.Valid(r.Data) && json.Valid(r.Data)
}

// ParseResource makes a Resource of one JSON object that has a string "id". Unknown fields are kept, white space is
// not. The error is an *InputError that says what was found instead, without any value: only the names of fields, and the id.
func ParseResource(object json.RawMessage) (Resource, error) {
	id, has, err := idOf(object)
	if err != nil {
		return Resource{}, &InputError{Field: "resource", Value: shapeOf(object), Want: err.Error()}
	}
	if !has {
		return Resource{}, &InputError{Field: "id", Value: shapeOf(object), Want: "an object with a string \"id\""}
	}
	if err := keys.CheckID(id); err != nil {
		return Resource{}, &InputError{Field: "id", Value: id, Want: err.Error()}
	}
	var data bytes.Buffer
	if err := json.Compact(&data, object); err != nil {
		return Resource{}, &InputError{Field: "resource", Value: shapeOf(object), Want: "a JSON object"}
	}
	return Resource{ID: id, Data: data.Bytes()}, nil
}

// idOf finds the "id" of a JSON object. The error completes the sentence "want …".
func idOf(object json.RawMessage) (id string, has bool, err error) {
	trimmed := bytes.TrimLeft(object, " \t\r\n")
	if len(trimmed) == 0 || trimmed[0] != '{' {
		return "", false, fmt.Errorf("a JSON object, not %s", kindOf(trimmed))
	}
	if !utf8.Valid(object) {
		return "", false, errors.New("valid UTF-8")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return "", false, fmt.Errorf("a valid JSON object (%w)", err)
	}
	raw, has := fields["id"]
	if !has {
		return "", false, nil
	}
	if len(raw) == 0 || raw[0] != '"' {
		return "", true, fmt.Errorf("an \"id\" that is a string, not %s", kindOfID(raw))
	}
	if err := json.Unmarshal(raw, &id); err != nil {
		return "", true, fmt.Errorf("an \"id\" that is a string (%w)", err)
	}
	return id, true, nil
}

// kindOfID is kindOf, with the number itself: an id may be told.
func kindOfID(raw []byte) string {
	if kind := kindOf(raw); kind != aNumber {
		return kind
	}
	return "the number " + excerpt.Of(string(raw))
}

const aNumber = "a number"

// kindOf names what a JSON text starts as. It tells nothing of the text itself, which may be secret.
func kindOf(raw []byte) string {
	if len(raw) == 0 {
		return "nothing"
	}
	switch c := raw[0]; {
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '"':
		return "a string"
	case c == 't' || c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	case c == '-' || c >= '0' && c <= '9':
		return aNumber
	default:
		return "text that is not JSON"
	}
}

// The most that shapeOf tells of an object's fields.
const (
	maxFieldNames = 8
	maxFieldName  = 24 // bytes
)

// shapeOf says what a JSON text is, without its values: those of an object have names, and only the names are told.
func shapeOf(raw []byte) string {
	kind := kindOf(bytes.TrimLeft(raw, " \t\r\n"))
	if kind != "an object" {
		return kind
	}
	var names []string
	d := json.NewDecoder(bytes.NewReader(raw))
	for _, err := d.Token(); err == nil && d.More(); { // what is no JSON from somewhere on is told of up to there
		var name json.Token
		var value json.RawMessage
		if name, err = d.Token(); err != nil {
			break
		}
		if err = d.Decode(&value); err != nil { // and so may be no name
			break
		}
		if len(names) == maxFieldNames {
			names = append(names, "…")
			break
		}
		names = append(names, excerpt.Clip(fmt.Sprint(name), maxFieldName))
	}
	if len(names) == 0 {
		return kind
	}
	return kind + " of " + strings.Join(names, ", ")
}
