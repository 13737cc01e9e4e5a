// Package excerpt shortens texts that came from outside, so that an error or a log line can repeat their beginning.
package excerpt

import (
	"strings"
	"unicode/utf8"
)

// Mark stands at the end of a text that was cut off.
const Mark = "…"

// mostBytes is how many bytes of a text Of keeps: enough to recognise it, and too few to fill a log.
const mostBytes = 96

// Of returns a text of at most 96 bytes unchanged, and the beginning of a longer text followed by Mark. The result is
// valid UTF-8.
func Of(text string) string {
	if len(text) > mostBytes {
		return Clip(text, mostBytes)
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// Clip returns a text of at most that many bytes unchanged. Of a longer text it returns that many bytes, less a rune
// that is cut in two, followed by Mark.
func Clip(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	return strings.ToValidUTF8(text[:bytes], "") + Mark
}

// Within returns a text of at most that many bytes unchanged. Of a longer text it returns the beginning, cut between
// two runes, followed by Mark: as many bytes together, or a few less.
func Within(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	cut := bytes - len(Mark)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + Mark
}

// Runes returns a text of at most most runes unchanged. Of a longer text it returns that many runes, the last of which
// is Mark.
func Runes(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + Mark
	}
	return text
}
