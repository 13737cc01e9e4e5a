package keys

import (
	"fmt"
	"net/url"
	"strings"
)

// Escape makes an id one path element: a slash in the id cannot move the key elsewhere, and the element is neither "."
// nor "..".
func Escape(id string) string {
	plain := true
	for i := 0; i < len(id); i++ {
		if !isPlain(id[i]) {
			plain = false
			break
		}
	}
	if plain && id != "." && id != ".." {
		return id
	}
	var b strings.Builder
	dots := strings.Trim(id, ".") == ""
	for i := 0; i < len(id); i++ {
		if c := id[i]; isPlain(c) && !dots {
			b.WriteByte(c)
		} else {
			writeEscaped(&b, c)
		}
	}
	return b.String()
}

func writeEscaped(b *strings.Builder, c byte) { fmt.Fprintf(b, "%%%02X", c) }

func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '_' || c == '.' || c == '~' || c == ':' || c == '@'
}

// Unescape is the inverse of Escape. It refuses a text that Escape would not have written.
func Unescape(s string) (string, error) {
	id, err := url.PathUnescape(s)
	if err != nil {
		return "", err
	}
	if Escape(id) != s {
		return "", fmt.Errorf("%q is not an escaped id", s)
	}
	return id, nil
}
