package retriever

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/distributed-resource-manager/drm/internal/jsontext"
)

const (
	sniffed = 1024 // how many bytes of an answer show what it is if it is not JSON
	// maxAhead is how many line ends are remembered from text that the JSON decoder has buffered and not decoded yet.
	// If there are more, errors give only the byte, and no line and column.
	maxAhead = 1 << 16
)

// notJSON returns an error that says what an answer is if its beginning shows that it is not JSON, and else nil. It
// removes a UTF-8 byte order mark from body, as RFC 8259 allows.
func notJSON(body *bufio.Reader) error {
	head, _ := body.Peek(sniffed) // an error comes again when the body is read
	if rest := jsontext.WithoutMark(head); len(rest) < len(head) {
		_, _ = body.Discard(len(head) - len(rest)) // cannot fail, because these bytes are in the buffer
		head = rest
	}
	switch what := jsontext.Foreign(head); {
	case what == "":
		return nil
	case what == "compressed with gzip":
		return errors.New("it is compressed with gzip, and does not say so (Content-Encoding)")
	case strings.HasPrefix(what, "text in "):
		return fmt.Errorf("it is in %s, want UTF-8", strings.TrimPrefix(what, "text in "))
	case what == "HTML":
		return errors.New("it is HTML, not JSON")
	default:
		return fmt.Errorf("it %s", strings.TrimPrefix(what, "text that "))
	}
}

// lines is a reader that knows in which line of the text the JSON decoder is. All positions are in bytes from the
// beginning of the text.
type lines struct {
	r     io.Reader
	at    func() int64 // returns the position of the decoder
	read  int64        // how much was read
	line  int          // the decoder's line, from 1
	start int64        // where that line begins
	ahead []int64      // the line ends that were read and that the decoder has not reached
	lost  bool         // there were more than maxAhead of them
}

// Read implements io.Reader.
func (l *lines) Read(p []byte) (n int, err error) {
	l.advance(l.at())
	n, err = l.r.Read(p)
	for i := 0; i < n && !l.lost; i++ {
		next := bytes.IndexByte(p[i:n], '\n')
		if next < 0 {
			break
		}
		i += next
		if len(l.ahead) == maxAhead {
			l.lost, l.ahead = true, nil
			break
		}
		l.ahead = append(l.ahead, l.read+int64(i))
	}
	l.read += int64(n)
	return n, err
}

// advance moves the line to that of a position.
func (l *lines) advance(at int64) {
	passed, _ := slices.BinarySearch(l.ahead, at)
	if passed > 0 {
		l.line += passed
		l.start = l.ahead[passed-1] + 1
		l.ahead = slices.Delete(l.ahead, 0, passed)
	}
}

// position returns the line and column of a byte at the decoder's position or after it, each from 1, or 0 if they are
// not known. Columns count bytes.
func (l *lines) position(at int64) (line, column int) {
	l.advance(at)
	if l.lost {
		return 0, 0
	}
	return l.line, int(at-l.start) + 1
}

// wrongAt returns the position of the byte that an error of the decoder is about. The decoder itself knows only where
// the value with that byte begins.
func wrongAt(d *json.Decoder) int64 {
	at := d.InputOffset()
	rest, err := io.ReadAll(d.Buffered())
	if err != nil {
		return at
	}
	skip := func() {
		trimmed := bytes.TrimLeft(rest, " \t\r\n")
		at += int64(len(rest) - len(trimmed))
		rest = trimmed
	}
	skip()
	if len(rest) > 0 && (rest[0] == ',' || rest[0] == ':') {
		at++
		rest = rest[1:]
		skip()
	}
	var value json.RawMessage
	var syntax *json.SyntaxError
	if err := json.NewDecoder(bytes.NewReader(rest)).Decode(&value); errors.As(err, &syntax) {
		return at + max(0, syntax.Offset-1)
	} else if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return at + int64(len(rest))
	}
	return at
}
