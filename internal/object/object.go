// Package object reads the JSON object of a resource: which id it has, whether that is the resource's id, and what the
// object consists of. It decides nothing about a resource. It reveals no value of an object but the id, since values
// may be secret.
package object

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/jsontext"
)

// Problem is what is wrong with an object.
type Problem struct {
	Field string // "data", or "data.id"
	Found string // what is there instead
	Want  string // what would be accepted
}

func (p *Problem) Error() string {
	return fmt.Sprintf("%s: got %q, want %s", p.Field, excerpt.Of(p.Found), p.Want)
}

// Check says what is wrong with the object of the resource with that id, or returns nil. The object must be JSON, and
// its "id", if it has one, must be the resource's. Otherwise a handler that is given only the object would handle
// another resource.
func Check(object json.RawMessage, id string) *Problem {
	own, has, err := ID(object)
	if err != nil {
		return &Problem{Field: "data", Found: Shape(object), Want: err.Error()}
	}
	if has && own != id {
		return &Problem{Field: "data.id", Found: own, Want: fmt.Sprintf("the resource's id %q, or no id", id)}
	}
	return nil
}

// WithID returns the object with the id added if it has none. It returns a text that is not an object unchanged; nil
// counts as an object without fields.
func WithID(object json.RawMessage, id string) json.RawMessage {
	if object != nil {
		if _, has, err := ID(object); has || err != nil {
			return object
		}
	}
	text, err := jsontext.Marshal(id)
	if err != nil { // a string can always be marshalled
		panic(err)
	}
	made := append([]byte(`{"id":`), text...)
	if _, fields, ok := bytes.Cut(object, []byte("{")); ok {
		if fields = bytes.TrimLeft(fields, " \t\r\n"); len(fields) > 0 && fields[0] != '}' {
			return append(append(made, ','), fields...)
		}
	}
	return append(made, '}')
}

// IsPlain says whether a text is certainly a valid object with this id and no other id. It does not parse the object,
// since there may be a million of them, and nearly all begin with their id.
func IsPlain(object json.RawMessage, id string) bool {
	return BeginsWithID(object, id) && utf8.Valid(object) && json.Valid(object)
}

// BeginsWithID says whether a valid object certainly has the id, without parsing it. It is false for an object with a
// second "id" further on, or with one that may be written with escapes: Check examines those.
func BeginsWithID(object []byte, id string) bool {
	const field = `{"id":"`
	if len(object) <= len(field)+len(id) || strings.ContainsAny(id, `"\\`) {
		return false
	}
	rest := object[len(field):]
	return string(object[:len(field)]) == field && string(rest[:len(id)]) == id && rest[len(id)] == '"' &&
		bytes.Count(object, []byte(`"id"`)) == 1 && !bytes.Contains(object, []byte(`\u00`))
}

// ID returns the "id" of an object. The error says why the text is not an object with a readable id, and completes the
// sentence "want …".
func ID(object json.RawMessage) (id string, has bool, err error) {
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
		if kind := kindOf(raw); kind != aNumber {
			return "", true, fmt.Errorf("an \"id\" that is a string, not %s", kind)
		}
		number := excerpt.Of(string(raw)) // an id is no secret
		return "", true, fmt.Errorf("an \"id\" that is a string, such as \"%s\", not the number %s", number, number)
	}
	if err := json.Unmarshal(raw, &id); err != nil {
		return "", true, fmt.Errorf("an \"id\" that is a string (%w)", err)
	}
	return id, true, nil
}

const (
	aNumber  = "a number"
	anObject = "an object"
)

// isWord says whether a text is a word, or begins with it: "nonsense" is not null.
func isWord(text []byte, word string) bool {
	rest, ok := bytes.CutPrefix(text, []byte(word))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n,]}"), rest[0]) >= 0)
}

// kindOf names the kind of the value that a JSON text begins with.
func kindOf(raw []byte) string {
	if len(raw) == 0 {
		return "nothing"
	}
	if what := jsontext.Foreign(raw); what != "" {
		return what
	}
	switch c := raw[0]; {
	case c == '{':
		return anObject
	case c == '[':
		return "an array"
	case c == '"':
		return "a string"
	case isWord(raw, "true") || isWord(raw, "false"):
		return "a boolean"
	case isWord(raw, "null"):
		return "null"
	case c == '-' || c >= '0' && c <= '9':
		return aNumber
	default:
		return "text that is not JSON"
	}
}

// How much Shape shows of an object's fields.
const (
	maxNames = 8
	maxName  = 24 // bytes
)

// Shape says what a JSON text is, without its values. For an object it lists the names of the first fields.
func Shape(raw []byte) string {
	kind := kindOf(bytes.TrimLeft(raw, " \t\r\n"))
	if kind != anObject {
		return kind
	}
	var names []string
	d := json.NewDecoder(bytes.NewReader(raw))
	for _, err := d.Token(); err == nil && d.More(); { // a text that stops being JSON is described up to there
		var name json.Token
		var value json.RawMessage
		if name, err = d.Token(); err != nil {
			break
		}
		if err = d.Decode(&value); err != nil { // without a value, the text before it may not be a name
			break
		}
		if len(names) == maxNames {
			names = append(names, excerpt.Mark)
			break
		}
		names = append(names, excerpt.Clip(fmt.Sprint(name), maxName))
	}
	if len(names) == 0 {
		return kind
	}
	return kind + " of " + strings.Join(names, ", ")
}
