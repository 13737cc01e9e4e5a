package retriever

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
)

// DefaultMaxBytes is the default limit of an answer, in bytes: 256 MiB.
const DefaultMaxBytes = 256 << 20

// DecodeOptions says what Decode accepts. The zero value stands for the defaults.
type DecodeOptions struct {
	// MaxBytes is how many bytes an answer may have after decompression. Raised, a larger list is accepted, and a
	// broken source can make the coordinator use more memory. Default 256 MiB; a negative value is an error.
	MaxBytes int64
	// NumberIDs accepts ids that are whole numbers, and turns them into strings in the resource and in its data: 1
	// becomes "1". Default false, because 1 and "1" may be different ids for other readers of the source.
	NumberIDs bool
}

func (o DecodeOptions) check() error {
	if o.MaxBytes < 0 {
		return &drm.InputError{
			Field: "MaxBytes",
			Value: strconv.FormatInt(o.MaxBytes, 10),
			Want:  "a number of bytes, or 0 for the default",
		}
	}
	return nil
}

func (o DecodeOptions) maxBytes() int64 {
	if o.MaxBytes == 0 {
		return DefaultMaxBytes
	}
	return o.MaxBytes
}

// Decode reads one JSON object of the form {"data":[{"id":"a",…},…]} from r, and returns its items in their order.
// Besides the result it keeps one item in memory at a time. If some items are not valid resources, it returns the good
// ones together with a *drm.BadItemsError. Every other error comes without resources: one of those in the package
// comment, or an error of r.
func Decode(r io.Reader, opts DecodeOptions) ([]drm.Resource, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	c := newCollector(opts)
	if _, err := c.add(r); err != nil {
		return nil, err
	}
	return c.resources, c.bad.OrNil()
}

// collector gathers the resources of one answer, which may come in several pages.
type collector struct {
	numberIDs bool
	rows      bool // the items are rows, which errors count from 1
	limit     int64
	left      int64 // how many more bytes may come
	items     int   // how many items have come, good and bad
	resources []drm.Resource
	seen      map[string]place // by id
	bad       *drm.BadItemsError
	scrub     func(string) string // removes secrets from a text; nil if there are no secrets
}

// place has the index of a good item among the resources, and its index in the answer.
type place struct{ good, index uint32 }

func newCollector(opts DecodeOptions) *collector {
	return &collector{
		numberIDs: opts.NumberIDs,
		limit:     opts.maxBytes(),
		left:      opts.maxBytes(),
		resources: []drm.Resource{},
		seen:      map[string]place{},
		bad:       &drm.BadItemsError{},
	}
}

// add reads one page, and returns the value of its "next", or nil if it has none.
func (c *collector) add(r io.Reader) (next json.RawMessage, err error) {
	body := bufio.NewReaderSize(&limitReader{r: r, c: c}, sniffed)
	if err := notJSON(body); err != nil {
		return nil, &SyntaxError{Line: 1, Column: 1, Err: err}
	}
	d := newDecoder(body)
	first, err := d.json.Token()
	if errors.Is(err, io.EOF) {
		return nil, &drm.InputError{Field: "body", Want: `{"data":[…]}; it is empty`}
	}
	if err != nil {
		return nil, d.syntax(err)
	}
	if first != json.Delim('{') {
		return nil, &drm.InputError{Field: "body", Value: describe(first), Want: `an object of the form {"data":[…]}`}
	}
	next, others, hasData, err := c.addFields(d)
	if err != nil {
		return nil, err
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	if !hasData {
		return nil, &drm.InputError{
			Field: "data",
			Value: strings.Join(others, ", "),
			Want:  `an array "data" among the body's fields`,
		}
	}
	return next, nil
}

// addFields reads the fields of a page's object. It returns the value of "next", the first few names of fields other
// than "data", and whether there was a "data".
func (c *collector) addFields(d *decoder) (next json.RawMessage, others []string, hasData bool, err error) {
	for d.json.More() {
		name, err := d.json.Token()
		if err != nil {
			return nil, nil, false, d.syntax(err)
		}
		if name == "data" {
			if hasData {
				return nil, nil, false, &drm.InputError{Field: "data", Value: "a second one", Want: `"data" once`}
			}
			hasData = true
			if err := c.addData(d); err != nil {
				return nil, nil, false, err
			}
			continue
		}
		var value json.RawMessage
		if err := d.json.Decode(&value); err != nil {
			return nil, nil, false, d.syntax(err)
		}
		if name == "next" {
			next = value
		}
		if len(others) < 5 {
			others = append(others, excerpt.Of(fmt.Sprint(name)))
		}
	}
	return next, others, hasData, nil
}

// addData reads the value of "data".
func (c *collector) addData(d *decoder) error {
	first, err := d.json.Token()
	if err != nil {
		return d.syntax(err)
	}
	if first != json.Delim('[') {
		return &drm.InputError{Field: "data", Value: describe(first), Want: "an array of objects"}
	}
	var item json.RawMessage // its memory is used for each item; addItem copies what it keeps
	for d.json.More() {
		if err := d.json.Decode(&item); err != nil {
			err = d.syntax(err)
			var syntax *SyntaxError
			if errors.As(err, &syntax) {
				return &ItemError{Index: c.items, Err: err}
			}
			return err
		}
		c.addItem(item)
	}
	if _, err := d.json.Token(); err != nil { // the closing bracket
		return d.syntax(err)
	}
	return nil
}

// addItem adds an item to the resources, or to the bad items.
func (c *collector) addItem(item json.RawMessage) {
	r, ids, err := parseItem(item, c.numberIDs, "--source-number-ids")
	if err != nil {
		c.reject(err, ids)
		return
	}
	c.addResource(r)
}

// parseItem makes a resource of an item. If it is none, ids are those that the item may stand for. flag is the flag
// that accepts ids that are numbers.
func parseItem(item json.RawMessage, numberIDs bool, flag string) (drm.Resource, itemIDs, error) {
	r, err := drm.ParseResource(item)
	if err == nil {
		return r, itemIDs{}, nil
	}
	ids := idsIn(item)
	if !ids.number || !ids.legible {
		return r, ids, err
	}
	var input *drm.InputError
	switch {
	case numberIDs:
		changed, _ := stringID(item)
		r, err = drm.ParseResource(changed)
	case errors.As(err, &input):
		input.Want += "; NumberIDs (" + flag + ") accepts whole numbers"
	}
	return r, ids, err
}

// addResource adds a resource. If there is one with its id already, it adds a bad item instead.
func (c *collector) addResource(r drm.Resource) {
	first, twice := c.seen[r.ID]
	if twice {
		var err error = &DuplicateError{ID: r.ID, First: int(first.index), Second: c.items}
		if c.rows {
			row := c.items + 1
			err = &RowError{
				Row:    row,
				Column: columnID,
				Err:    &DuplicateError{ID: r.ID, First: int(first.index) + 1, Second: row},
			}
		}
		c.addBad(drm.BadItem{ID: r.ID, Err: err, Repeats: bytes.Equal(r.Data, c.resources[first.good].Data)})
		return
	}
	c.seen[r.ID] = place{uint32(len(c.resources)), uint32(c.items)} //nolint:gosec // 2^32 items do not fit into memory
	c.resources = append(c.resources, r)
	c.items++
}

// reject adds a bad item. ids are those that the item may stand for.
func (c *collector) reject(err error, ids itemIDs) {
	item := drm.BadItem{Err: err}
	if ids.legible {
		item.ID, ids.all = ids.all[0], ids.all[1:]
	}
	c.addBad(item, ids.all...)
}

// addBad adds the next item to the bad items, and removes secrets from what errors show of it. ids are further ids that
// the item may stand for.
func (c *collector) addBad(item drm.BadItem, ids ...string) {
	item.Index = c.items
	c.items++
	if c.scrub != nil {
		if shown := c.scrub(item.ID); shown != item.ID {
			ids, item.ID = append(ids, item.ID), shown
		}
		scrubItem(item.Err, c.scrub)
	}
	shorten(item.Err)
	c.bad.Add(item, ids...)
}

// scrubItem removes secrets from an error about an item.
func scrubItem(err error, scrub func(string) string) {
	var input *drm.InputError
	var twice *DuplicateError
	switch {
	case errors.As(err, &input):
		input.Value, input.Want = scrub(input.Value), scrub(input.Want)
	case errors.As(err, &twice):
		twice.ID = scrub(twice.ID)
	}
}

// itemIDs are the ids that a bad item may stand for.
type itemIDs struct {
	all     []string
	legible bool // there is an id, and no "id" that cannot be read
	number  bool // one of them is a whole number
}

// idsIn reads the ids of an item that is not a valid resource: strings, and the digits of whole numbers.
func idsIn(item json.RawMessage) (ids itemIDs) {
	d := json.NewDecoder(bytes.NewReader(item))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return ids
	}
	strange := false
	for d.More() {
		name, err := d.Token()
		if err != nil {
			break // never happens in an answer that was decoded as JSON
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			break
		}
		if name != "id" {
			continue
		}
		var id string
		switch {
		case isWhole(value):
			id, ids.number = string(value), true
		case !utf8.Valid(value) || json.Unmarshal(value, &id) != nil || id == "":
			strange = true
			continue
		}
		ids.all = append(ids.all, id)
	}
	ids.legible = len(ids.all) > 0 && !strange
	return ids
}

// decoder is a JSON decoder whose errors say in which line and column of the text they are.
type decoder struct {
	json  *json.Decoder
	lines *lines
}

func newDecoder(r io.Reader) *decoder {
	d := &decoder{lines: &lines{r: r, line: 1}}
	d.json = json.NewDecoder(d.lines)
	d.json.UseNumber() // so that a number of any size can be decoded
	d.lines.at = d.json.InputOffset
	return d
}

// end reads the closing brace of the object, and fails if anything but white space follows it.
func (d *decoder) end() error {
	if _, err := d.json.Token(); err != nil { // the closing brace
		return d.syntax(err)
	}
	end := d.json.InputOffset()
	switch _, err := d.json.Token(); {
	case err == nil:
		line, column := d.lines.position(end)
		return &SyntaxError{Offset: end, Line: line, Column: column, Err: errors.New("more text after the object")}
	case !errors.Is(err, io.EOF):
		return d.syntax(err)
	}
	return nil
}

// syntax makes a *SyntaxError of an error of the JSON decoder. An error of the reader stays as it is.
func (d *decoder) syntax(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) {
		line, column := d.lines.position(wrongAt(d.json))
		return &SyntaxError{Offset: d.json.InputOffset(), Line: line, Column: column, Err: err}
	}
	return err
}

// limitReader fails when a collector has read more than its limit. It repeats its first error, because the JSON decoder
// reads on after an error.
type limitReader struct {
	r   io.Reader
	c   *collector
	err error
}

func (l *limitReader) Read(p []byte) (n int, err error) {
	if l.err != nil {
		return 0, l.err
	}
	// It reads one byte more than is left, to tell an answer that is too large from one that just fits.
	if int64(len(p))-1 > l.c.left {
		p = p[:l.c.left+1]
	}
	n, l.err = l.r.Read(p)
	if int64(n) > l.c.left {
		n, l.err = int(l.c.left), &TooLargeError{Limit: l.c.limit}
	}
	l.c.left -= int64(n)
	return n, l.err
}

// stringID returns an object with strings in place of its "id"s that are whole numbers. ok is false if there is no such
// "id".
func stringID(object json.RawMessage) (changed json.RawMessage, ok bool) {
	d := json.NewDecoder(bytes.NewReader(object))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, false
	}
	for copied := int64(0); ; {
		if !d.More() {
			return append(changed, object[copied:]...), ok
		}
		name, err := d.Token()
		if err != nil {
			return nil, false
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, false
		}
		if name == "id" && isWhole(value) {
			end := d.InputOffset()
			changed = append(changed, object[copied:end-int64(len(value))]...)
			changed = append(append(append(changed, '"'), value...), '"')
			copied, ok = end, true
		}
	}
}

// isWhole reports whether a JSON value is a number without fraction and exponent. It refuses -0, which as a string
// would be another id than 0.
func isWhole(value []byte) bool {
	digits := bytes.TrimPrefix(value, []byte("-"))
	return len(digits) > 0 && len(bytes.Trim(digits, "0123456789")) == 0 && string(value) != "-0"
}

// describe says of which kind the value is that a token begins. It does not show the value, which may be secret.
func describe(t json.Token) string {
	switch t := t.(type) {
	case json.Delim:
		if t == '[' {
			return "a bare array"
		}
		return "an object"
	case string:
		return "a string"
	case nil:
		return "null"
	case json.Number:
		return "a number"
	default:
		return "a boolean"
	}
}

// shorten shortens the value that an error shows, which may be a very long id.
func shorten(err error) {
	var input *drm.InputError
	if errors.As(err, &input) {
		input.Value = excerpt.Of(input.Value)
	}
}
