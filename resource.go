package drm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/object"
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
	if p := object.Check(r.Data, r.ID); p != nil {
		return &InputError{Field: p.Field, Value: p.Found, Want: p.Want}
	}
	return nil
}

// Object returns the resource's JSON object: Data, with the id put in where it has none, so that whoever is given the
// object alone knows what it is about.
func (r Resource) Object() json.RawMessage {
	if r.isPlain() {
		return r.Data
	}
	return object.WithID(r.Data, r.ID)
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

// isPlain says whether Data are surely a valid object with this id, and with no other.
func (r Resource) isPlain() bool { return object.IsPlain(r.Data, r.ID) }

// ParseResource makes a Resource of one JSON object that has a string "id". Unknown fields are kept, white space is
// not. The error is an *InputError that says what was found instead, without any value: only the names of fields, and
// the id.
func ParseResource(text json.RawMessage) (Resource, error) {
	id, has, err := object.ID(text)
	if err != nil {
		return Resource{}, &InputError{Field: "resource", Value: object.Shape(text), Want: err.Error()}
	}
	if !has {
		return Resource{}, &InputError{Field: "id", Value: object.Shape(text), Want: "an object with a string \"id\""}
	}
	if err := keys.CheckID(id); err != nil {
		return Resource{}, &InputError{Field: "id", Value: id, Want: err.Error()}
	}
	var data bytes.Buffer
	if err := json.Compact(&data, text); err != nil {
		return Resource{}, &InputError{Field: "resource", Value: object.Shape(text), Want: "a JSON object"}
	}
	return Resource{ID: id, Data: data.Bytes()}, nil
}

// Whoever logs or prints a Resource or a Claim, or panics with one, means which one it is. Its data may be secret: they
// are told only where they are asked for, as Resource.Data or by encoding/json (which loggers use for slices and
// structs).

// String names the resource, without its data. It is what zap.Any logs.
func (r Resource) String() string { return fmt.Sprintf("resource %q", excerpt.Of(r.ID)) }

// Format prints what String says, whatever the verb: %+v, %#v and %x tell no data either.
func (r Resource) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, r.String()) // as package fmt does
}

// LogValue is for log/slog.
func (r Resource) LogValue() slog.Value { return slog.StringValue(r.ID) }
