package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/jsontext"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// ErrRedacted says that a dump has no data of resources, so that it cannot be loaded.
var ErrRedacted = errors.New("the dump has no data of resources: it was made without --data")

// DumpError says that a text is not a whole dump.
type DumpError struct {
	Line int // from 1
	Err  error
}

func (e *DumpError) Error() string { return fmt.Sprintf("line %d of the dump: %v", e.Line, e.Err) }

// Unwrap returns what is wrong.
func (e *DumpError) Unwrap() error { return e.Err }

// What is wrong with a dump.
var (
	errTruncated = errors.New("it ends here, without the last line that every dump has: a part is missing")
	errNoDump    = errors.New(`want what drmctl dump has written, which begins with {"drm_dump":1`)
	errAfter     = errors.New("there is more text after the end of the dump")
	errChanged   = errors.New("the lines are not those that were dumped: the dump was changed, or is damaged")
)

// maxLine is how long a line may be, in bytes: longer than one with the largest value that etcd is configured to take.
const maxLine = 256 << 20

// reader reads a dump.
type reader struct {
	in     *bufio.Reader
	layout keys.Layout // of any app
	line   int
	sum    hash.Hash
	header Header
	footer Footer // what was read by now
}

// newReader reads the first line of a dump.
func newReader(in io.Reader, layout keys.Layout) (*reader, error) {
	r := &reader{in: bufio.NewReaderSize(in, 64<<10), layout: layout, sum: sha256.New()}
	text, err := r.next()
	text = jsontext.WithoutMark(text)
	switch foreign := jsontext.Foreign(text); {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case foreign != "":
		return nil, r.wrong(fmt.Errorf("it is %s: %w", foreign, errNoDump))
	case !bytes.HasPrefix(text, []byte(`{"drm_dump":`)) || json.Unmarshal(text, &r.header) != nil:
		return nil, r.wrong(errNoDump)
	}
	_, _ = r.sum.Write(text)
	switch h := r.header; {
	case h.Version != Version:
		return nil, r.wrong(fmt.Errorf("version %d of a dump, and this program reads %d: use that of the dump",
			h.Version, Version))
	case h.Shards == 0:
		return nil, r.wrong(errors.New("the config could not be read when it was dumped, so nobody knows the shards"))
	case h.Schema != appconfig.Schema:
		return nil, r.wrong(&appconfig.SchemaError{Has: h.Schema})
	case h.Shards < 0 || h.Shards > keys.MaxShards:
		return nil, r.wrong(fmt.Errorf("%d shards, want 1 to %d", h.Shards, keys.MaxShards))
	}
	return r, nil
}

// next reads the next line, with its end.
func (r *reader) next() ([]byte, error) {
	r.line++
	var text []byte
	for {
		part, err := r.in.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case len(text) > maxLine:
			return nil, r.wrong(fmt.Errorf("it has more than %d bytes", maxLine))
		case err == nil:
			return text, nil
		case errors.Is(err, io.EOF):
			return text, err
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("read line %d of the dump: %w", r.line, err)
		}
	}
}

func (r *reader) wrong(err error) error { return &DumpError{r.line, err} }

// read reads the next key. It returns false after the last one, if the dump is whole.
func (r *reader) read() (line Line, ok bool, err error) {
	text, err := r.next()
	switch {
	case errors.Is(err, io.EOF):
		return line, false, r.end(text)
	case err != nil:
		return line, false, err
	case bytes.HasPrefix(text, []byte(`{"drm_dump_end":`)):
		return line, false, r.end(text)
	}
	_, _ = r.sum.Write(text)
	if err := json.Unmarshal(text, &line); err != nil {
		return line, false, r.wrong(err)
	}
	r.footer.count(r.kind(line).Kind)
	return line, true, nil
}

// kind takes the key of a line apart.
func (r *reader) kind(l Line) keys.Key { return r.layout.Parse(r.layout.Root() + l.Key) }

// end takes the last line of the dump.
func (r *reader) end(text []byte) error {
	var f Footer
	if json.Unmarshal(text, &f) != nil || !f.End {
		return r.wrong(errTruncated)
	}
	r.footer.End, r.footer.SHA256 = true, hex.EncodeToString(r.sum.Sum(nil))
	if f != r.footer {
		return r.wrong(errChanged)
	}
	for {
		more, err := r.next()
		if len(bytes.TrimSpace(more)) > 0 {
			return r.wrong(errAfter)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
