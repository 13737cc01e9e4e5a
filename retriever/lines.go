package retriever

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/distributed-resource-manager/drm"
)

// Line is one item of a text that Lines reads.
type Line struct {
	Number   int // the line on which the item begins, from 1; of an item within a document, that of the document
	Resource drm.Resource
	Err      error // why the item is no resource: a *drm.InputError, *SyntaxError or *TooLargeError
}

// maxLine is the default limit of a line, in bytes: far above what etcd takes.
const maxLine = 64 << 20

// ParseItem makes a resource of one JSON object, as drm.ParseResource does, and as NumberIDs says.
func ParseItem(object []byte, opts DecodeOptions) (drm.Resource, error) {
	if !json.Valid(object) {
		return drm.ParseResource(object)
	}
	r, _, err := parseItem(object, opts.NumberIDs, "--number-ids")
	return r, err
}

// Lines reads resources one by one, without an end to their number: one JSON object with an "id" on each line, as
// `jq -c` prints them. Empty lines are ignored. A bad line does not keep the others from being read. What a source may
// answer is accepted too, on one line or several: an object {"data":[…]}, or an array of objects.
//
// MaxBytes is the limit of a line, or of such an object; an array at the beginning may be of any size. It is 64 MiB by
// default. An id may come more than once. The error, which comes last, says that r failed, or that the text is nothing
// that JSON could be, such as HTML.
func Lines(r io.Reader, opts DecodeOptions) iter.Seq2[Line, error] {
	return readLines(r, opts, func(item json.RawMessage) (drm.Resource, error) { return ParseItem(item, opts) }, false)
}

// IDLines is Lines for ids alone: each line is an id, the same as a JSON string, or an object with an "id". The
// resources that it reads have no data. An id that begins with '{', '[' or '"' has to be a JSON string.
func IDLines(r io.Reader, opts DecodeOptions) iter.Seq2[Line, error] {
	return readLines(r, opts, func(item json.RawMessage) (drm.Resource, error) {
		var id string
		switch item = bytes.TrimSpace(item); {
		case len(item) > 0 && item[0] == '{':
			r, err := ParseItem(item, opts)
			return drm.Resource{ID: r.ID}, err
		case len(item) > 0 && item[0] == '"' && json.Unmarshal(item, &id) == nil:
		case len(item) > 0 && (item[0] == '"' || item[0] == '['):
			return drm.Resource{}, &drm.InputError{
				Field: "id", Value: string(item), Want: `an id, a JSON string, or an object with an "id"`,
			}
		default:
			id = string(item)
		}
		return drm.Resource{ID: id}, drm.Resource{ID: id}.Validate()
	}, true)
}

func readLines(
	r io.Reader, opts DecodeOptions, parse func(json.RawMessage) (drm.Resource, error), plain bool,
) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		if err := opts.check(); err != nil {
			yield(Line{}, err)
			return
		}
		l := lineReader{
			in: bufio.NewReaderSize(r, 64<<10), parse: parse, plain: plain, yield: yield, limit: opts.MaxBytes,
		}
		if l.limit == 0 {
			l.limit = maxLine
		}
		l.run()
	}
}

// lineReader reads lines.
type lineReader struct {
	in     *bufio.Reader
	parse  func(json.RawMessage) (drm.Resource, error)
	plain  bool // a line need not be JSON
	yield  func(Line, error) bool
	limit  int64
	number int // of the line that was read last
}

// run reads line by line, until the text or the interest in it ends.
func (l *lineReader) run() {
	if l.beginsArray() {
		l.array()
		return
	}
	for first := true; ; {
		text, err := l.next()
		more := err == nil
		var large *TooLargeError
		switch {
		case errors.As(err, &large):
			more = l.yield(Line{Number: l.number, Err: err}, nil)
		case err != nil && !errors.Is(err, io.EOF):
			l.yield(Line{}, fmt.Errorf("read line %d: %w", l.number, err))
			return
		case len(bytes.TrimSpace(text)) == 0:
		case first:
			first = false
			more = l.first(text) && more
		default:
			more = l.line(text) && more
		}
		if !more {
			return
		}
	}
}

// beginsArray skips white space, and says whether the text is an array.
func (l *lineReader) beginsArray() bool {
	for {
		head, err := l.in.Peek(1)
		switch {
		case err != nil: // it comes again when the text is read
			return false
		case head[0] == '\n':
			l.number++
			fallthrough
		case head[0] == ' ' || head[0] == '\t' || head[0] == '\r':
			_, _ = l.in.Discard(1) // cannot fail, since it was peeked at
		default:
			return head[0] == '['
		}
	}
}

// array takes the items of an array, and nothing else.
func (l *lineReader) array() {
	d := newDecoder(l.in)
	d.lines.line += l.number
	_, err := d.json.Token() // the bracket
	var item json.RawMessage
	for err == nil && d.json.More() {
		if err = d.json.Decode(&item); err != nil {
			break
		}
		number, _ := d.lines.position(d.json.InputOffset())
		if l.number = number - bytes.Count(item, []byte("\n")); !l.item(l.number, bytes.Clone(item)) {
			return
		}
	}
	if err == nil {
		err = d.end()
	} else {
		err = d.syntax(err)
	}
	if err != nil {
		l.yield(Line{}, err)
	}
}

// next reads the next line. The text is valid until the next call, and may come with io.EOF.
func (l *lineReader) next() (text []byte, err error) {
	l.number++
	part, err := l.in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return part, err
	}
	text = bytes.Clone(part)
	size := int64(len(part))
	for errors.Is(err, bufio.ErrBufferFull) {
		part, err = l.in.ReadSlice('\n')
		if size += int64(len(part)); size <= l.limit {
			text = append(text, part...)
		} else {
			text = nil // the rest of the line is read, and dropped
		}
	}
	if size > l.limit && (err == nil || errors.Is(err, io.EOF)) {
		return nil, &TooLargeError{Limit: l.limit}
	}
	return text, err
}

// first takes the first line that has anything on it, which shows what the text is.
func (l *lineReader) first(text []byte) bool {
	head := bufio.NewReaderSize(bytes.NewReader(text), sniffed)
	if err := notJSON(head); err != nil {
		l.yield(Line{}, &SyntaxError{Line: l.number, Column: 1, Err: err})
		return false
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // notJSON has accepted it
	if l.plain && !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) || json.Valid(text) || !endsEarly(text) {
		return l.line(text)
	}
	return l.document(bytes.Clone(text))
}

// endsEarly says whether a text is the beginning of something that is JSON.
func endsEarly(text []byte) bool {
	var value json.RawMessage
	return errors.Is(json.NewDecoder(bytes.NewReader(text)).Decode(&value), io.ErrUnexpectedEOF)
}

// document takes a text of several lines, which begins with the given one.
func (l *lineReader) document(text []byte) bool {
	number := l.number
	rest, err := io.ReadAll(io.LimitReader(l.in, l.limit+1))
	text = append(text, rest...)
	switch {
	case err != nil:
		l.yield(Line{}, fmt.Errorf("read the lines from %d on: %w", number, err))
	case int64(len(text)) > l.limit:
		l.yield(Line{}, fmt.Errorf("line %d begins a JSON text that does not end there, and is too large: %w; "+
			"want one object on each line", number, &TooLargeError{Limit: l.limit}))
	default:
		return l.item(number, text)
	}
	return false
}

// line takes a line.
func (l *lineReader) line(text []byte) bool { return l.item(l.number, text) }

// item takes an item, or those in the "data" of an object.
func (l *lineReader) item(number int, text json.RawMessage) bool {
	r, err := l.parse(text)
	if err == nil {
		return l.yield(Line{Number: number, Resource: r}, nil)
	}
	items, ok := several(text)
	if !ok {
		shorten(err)
		return l.yield(Line{Number: number, Err: err}, nil)
	}
	for _, one := range items {
		r, err := l.parse(one)
		if err != nil {
			shorten(err)
		}
		if !l.yield(Line{Number: number, Resource: r, Err: err}, nil) {
			return false
		}
	}
	return true
}

// several returns the items of the "data" of an object without an "id".
func several(text json.RawMessage) (items []json.RawMessage, ok bool) {
	var page map[string]json.RawMessage
	if json.Unmarshal(text, &page) != nil || page["id"] != nil || page["data"] == nil {
		return nil, false
	}
	return items, json.Unmarshal(page["data"], &items) == nil
}
