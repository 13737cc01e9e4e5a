package keys

import (
	"strings"
	"unicode/utf8"
)

// Span is a part of the ids, as consecutive keys have them. Etcd sorts keys, and so ids as Escape writes them, which is
// not the order of the ids themselves: "feeds/1" is behind "feeds-1", but "feeds%2F1" is before it. Whoever wants the
// order of ids reads several spans at a time, and needs to know which of them may have the next id.
type Span struct {
	From, End string // the escaped ids from From on, up to End, without End; End "" means that there is no end
	Least     string // no id of the span comes before it
}

// leastPlain is the first byte that Escape leaves as it is.
const leastPlain = '-'

// afterEscapes comes after all escaped texts that begin with a "%", and before all that begin with a plain byte.
const afterEscapes = "&"

// SpansOf returns the spans of the ids that begin with a prefix, which may be empty. The prefix need not be an id.
func SpansOf(prefix string) []Span {
	var b strings.Builder
	for i := range len(prefix) {
		if isPlain(prefix[i]) {
			b.WriteByte(prefix[i])
		} else {
			writeEscaped(&b, prefix[i])
		}
	}
	escaped := b.String()
	spans := []Span{{From: escaped, Least: prefix}}
	if escaped != "" {
		last := len(escaped) - 1
		spans[0].End = escaped[:last] + string(rune(escaped[last]+1))
	}
	for _, dots := range []string{".", ".."} { // they are escaped, although these bytes are not in other ids
		if prefix != "" && strings.HasPrefix(dots, prefix) {
			spans = append(spans, Span{From: Escape(dots), End: Escape(dots) + "\x00", Least: dots})
		}
	}
	return spans
}

// Cut divides a span: first are the ids before at, an escaped text within the span that does not end within an escaped
// byte. The others are divided where their ids begin to be out of order, so that each of rest has its own Least.
func (s Span) Cut(at string) (first Span, rest []Span) {
	first = Span{From: s.From, End: at, Least: s.Least}
	var id []byte
	for i := 0; i < len(at); {
		if at[i] != '%' || i+3 > len(at) {
			id = append(id, at[i])
			i++
			continue
		}
		c := unhex(at[i+1])<<4 | unhex(at[i+2])
		// What comes after this escaped byte, at this place, is plain, and may come before it in the order of ids. No
		// id has a plain byte in place of one that continues a rune.
		if after := at[:i] + afterEscapes; c > leastPlain && utf8.RuneStart(c) && (s.End == "" || after < s.End) {
			rest = append(rest, Span{From: after, End: s.End, Least: string(id) + string(rune(leastPlain))})
			s.End = after
		}
		id = append(id, c)
		i += 3
	}
	return first, append(rest, Span{From: at, End: s.End, Least: string(id)})
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	default:
		return 0
	}
}

// Between returns the shortest text that Cut accepts which is after one escaped id, and not after another one. The
// former comes first in the order of keys.
func Between(before, after string) string {
	n := 0
	for n < len(before) && n < len(after) && before[n] == after[n] {
		n++
	}
	n = min(n+1, len(after))
	for back := 1; back <= 2 && back <= n; back++ { // an escaped byte is "%" and two digits
		if after[n-back] == '%' {
			n = min(n-back+3, len(after))
			break
		}
	}
	return after[:n]
}
