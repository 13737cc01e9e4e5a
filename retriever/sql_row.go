package retriever

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
)

// RowError says which row of a query's answer is wrong. The error inside is a *drm.InputError if the row is not a valid
// resource, a *DuplicateError if an earlier row has its id (First and Second then count rows, from 1), or an error of
// the database.
type RowError struct {
	Row    int    // the row's number, from 1
	Column string // the name of the column; empty if the error is about the whole row
	Err    error
}

func (e *RowError) Error() string {
	var twice *DuplicateError
	switch {
	case errors.As(e.Err, &twice):
		return fmt.Sprintf("row %d: id %q is also that of row %d, want each id once",
			e.Row, excerpt.Of(twice.ID), twice.First)
	case e.Column == "":
		return fmt.Sprintf("row %d: %v", e.Row, e.Err)
	default:
		return fmt.Sprintf("row %d, column %q: %v", e.Row, e.Column, e.Err)
	}
}

// Unwrap returns what is wrong with the row.
func (e *RowError) Unwrap() error { return e.Err }

// rowReader makes resources of rows.
type rowReader struct {
	names     []string
	id, data  int // the indexes of these columns; data is -1 if there is none
	numberIDs bool
	keys      [][]byte // the names as JSON, each with a colon
	values    []any    // those of the row that was scanned last
	targets   []any    // pointers to values, for Scan
}

// newRowReader checks the columns. The error is a *drm.InputError.
func newRowReader(names []string, numberIDs bool) (*rowReader, error) {
	r := &rowReader{
		names:     names,
		id:        slices.Index(names, columnID),
		data:      slices.Index(names, columnData),
		numberIDs: numberIDs,
	}
	complain := func(want string) error {
		return &drm.InputError{Field: "columns", Value: excerpt.Of(strings.Join(names, ", ")), Want: want}
	}
	if r.id < 0 {
		return nil, complain(`a column "id"; AS renames one`)
	}
	if r.data >= 0 && len(names) > 2 {
		return nil, complain(`no column beside "id" and "data", which has the whole object`)
	}
	for i, name := range names {
		if name == "" || slices.Contains(names[:i], name) {
			return nil, complain("columns that all have different names; AS renames one")
		}
		key, err := jsonOf(name)
		if err != nil {
			return nil, complain("column names that are valid UTF-8")
		}
		r.keys = append(r.keys, append(key, ':'))
	}
	r.values = make([]any, len(names))
	for i := range r.values {
		r.targets = append(r.targets, &r.values[i])
	}
	return r, nil
}

// resource makes a resource of the row. column is the one that the error is about.
func (r *rowReader) resource() (resource drm.Resource, column string, err error) {
	id, err := r.idOf(r.values[r.id])
	if err != nil {
		return drm.Resource{}, columnID, err
	}
	resource.ID = id
	if err := (drm.Resource{ID: id}).Validate(); err != nil {
		return drm.Resource{}, columnID, err
	}
	if r.data >= 0 {
		if resource.Data, err = r.object(r.values[r.data], id); err != nil {
			return drm.Resource{}, columnData, err
		}
		return resource, "", nil
	}
	var object bytes.Buffer
	for i := range r.values {
		separator := byte(',')
		if i == 0 {
			separator = '{'
		}
		object.WriteByte(separator)
		object.Write(r.keys[i])
		value := r.values[i]
		if i == r.id {
			value = id
		}
		text, err := jsonOf(value)
		if err != nil {
			return drm.Resource{}, r.names[i], err
		}
		object.Write(text)
	}
	object.WriteByte('}')
	resource.Data = object.Bytes()
	return resource, "", nil
}

// ids returns the ids that the row may stand for.
func (r *rowReader) ids() (ids itemIDs) {
	numbers := rowReader{numberIDs: true} // the digits of a number are an id, even if number ids are not accepted
	if id, err := numbers.idOf(r.values[r.id]); err == nil {
		ids.all, ids.legible = []string{id}, true
	}
	if r.data >= 0 {
		switch v := r.values[r.data].(type) { // the object may have another id
		case string:
			ids.all = append(ids.all, idsIn([]byte(v)).all...)
		case []byte:
			ids.all = append(ids.all, idsIn(v).all...)
		}
	}
	return ids
}

// idOf returns the id in the value of the column id.
func (r *rowReader) idOf(value any) (string, error) {
	const want = "a text"
	switch v := value.(type) {
	case nil:
		return "", &drm.InputError{Field: "id", Value: "NULL", Want: want}
	case string:
		return v, nil
	case []byte:
		return string(v), nil
	case int64, uint64, int32, uint32, int: // drivers should only return the first of them
		number := fmt.Sprint(v)
		if !r.numberIDs {
			return "", &drm.InputError{Field: "id", Value: number, Want: want + "; NumberIDs accepts whole numbers"}
		}
		return number, nil
	default:
		return "", &drm.InputError{
			Field: "id",
			Value: "a value of the Go type " + reflect.TypeOf(value).String(),
			Want:  want,
		}
	}
}

// object returns the value of the column data as the data of a resource.
func (r *rowReader) object(value any, id string) (json.RawMessage, error) {
	var text []byte
	switch v := value.(type) {
	case nil:
		return drm.Resource{ID: id}.Object(), nil
	case string:
		text = []byte(v)
	case []byte:
		text = v
	default:
		return nil, &drm.InputError{
			Field: "data",
			Value: "a value of the Go type " + reflect.TypeOf(value).String(),
			Want:  "the text of a JSON object, or NULL",
		}
	}
	if r.numberIDs {
		if changed, ok := stringID(text); ok {
			text = changed
		}
	}
	if err := (drm.Resource{ID: id, Data: text}).Validate(); err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, drm.Resource{ID: id, Data: text}.Object()); err != nil {
		return nil, &drm.InputError{Field: "data", Value: "other text", Want: "the text of a JSON object, or NULL"}
	}
	return compact.Bytes(), nil
}

// jsonOf returns the value of a column as JSON.
func jsonOf(value any) (json.RawMessage, error) {
	text, isText := value.(string)
	switch v := value.(type) {
	case []byte:
		text, isText = string(v), true
	case time.Time:
		text, isText = v.Format(time.RFC3339Nano), true
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, &drm.InputError{
				Field: "value",
				Value: strconv.FormatFloat(v, 'g', -1, 64),
				Want:  "a number that JSON can have",
			}
		}
	}
	if isText {
		if !utf8.ValidString(text) {
			return nil, &drm.InputError{Field: "value", Value: "text that is not UTF-8", Want: "valid UTF-8"}
		}
		value = text
	}
	switch reflect.ValueOf(value).Kind() {
	case reflect.Invalid, reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return marshal(value)
	default:
		return nil, &drm.InputError{
			Field: "value", Value: "a value of the Go type " + reflect.TypeOf(value).String(),
			Want: "text, a number, a boolean, a time or NULL; CAST makes one",
		}
	}
}

// marshal is json.Marshal without the escapes for <, > and &.
func marshal(value any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
