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
	// Data is the whole JSON object that the source gave, with all its fields. Its "id", if it has one, must equal ID.
	// Where it has none, or Data is nil, DRM adds the id.
	Data json.RawMessage
}

// Validate returns an *InputError that names the field where DRM does not accept the id, or where Data is not a JSON
// object that agrees with the id.
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

// Object returns the resource's JSON object: Data, with the id added where it has none, so that whoever gets the object
// alone knows which resource it is.
func (r Resource) Object() json.RawMessage {
	if r.isPlain() {
		return r.Data
	}
	return object.WithID(r.Data, r.ID)
}

// checked is Validate and Object in one, so that it looks only once at an object that is plain.
func (r Resource) checked() (json.RawMessage, error) {
	if keys.CheckID(r.ID) == nil && r.isPlain() {
		return r.Data, nil
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return r.Object(), nil
}

// isPlain says whether Data is surely a valid object with this id, and with no other.
func (r Resource) isPlain() bool { return object.IsPlain(r.Data, r.ID) }

// ParseResource makes a Resource of one JSON object that has a string "id". All fields are kept, white space is not.
// The error is an *InputError that describes the text by the names of its fields, and the id; it tells no other value.
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

// Whoever logs or prints a Resource or a Claim, or panics with one, wants to name it. Its data may be secret, so they
// are shown only to who asks for them, by Resource.Data or by encoding/json (which loggers use for slices and structs).

// String names the resource, without its data. It is what zap.Any logs.
func (r Resource) String() string { return fmt.Sprintf("resource %q", excerpt.Of(r.ID)) }

// Format prints what String returns for every verb, so that %+v, %#v and %x show no data either.
func (r Resource) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, r.String()) // as package fmt does
}

// LogValue is for log/slog.
func (r Resource) LogValue() slog.Value { return slog.StringValue(r.ID) }
