package failures

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// mostText is how many bytes of an error's text tell kinds apart.
const mostText = 512

// varying matches what differs between errors of one kind: a resource and a token that the error itself names, ports,
// times and durations, long numbers, and long words with digits in them (hashes, UUIDs). Short numbers stay, since they
// are statuses and exit codes.
var varying = regexp.MustCompile(`resource "(\\.|[^"\\])*"` +
	`|token \d+` +
	`|:\d{1,5}\b` +
	`|\d{4}-\d\d-\d\d[T ][0-9:.]+(Z|[+-]\d\d:?\d\d)?` +
	`|\b(\d+(\.\d+)?(h|ms|µs|ns|m|s))+\b` +
	`|\b[0-9a-zA-Z]*\d[0-9a-zA-Z]*(-[0-9a-zA-Z]+){2,}` +
	`|\b[0-9a-zA-Z]*[a-zA-Z]\d[0-9a-zA-Z]{6,}\b|\b\d+[a-zA-Z][0-9a-zA-Z]{6,}\b` +
	`|\d{4,}`)

// normal returns the text of an error without the parts that belong to one resource, connection or moment.
func normal(text, resource string) string {
	text = without(text, resource)
	if len(text) > mostText {
		text = text[:mostText]
	}
	return varying.ReplaceAllString(text, "#")
}

// leastWord is how long an id without a digit has to be for normal to look for it without quotes, since "a", for
// example, is also a word.
const leastWord = 4

// without takes a resource's id out of a text, wherever it is not part of another word.
func without(text, id string) string {
	if id == "" {
		return text
	}
	text = strings.ReplaceAll(text, strconv.Quote(id), "§")
	if len(id) < leastWord && !strings.ContainsFunc(id, unicode.IsDigit) {
		return text
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, id)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		last, _ := utf8.DecodeLastRuneInString(before)
		next, _ := utf8.DecodeRuneInString(after)
		if isWord(last) || isWord(next) {
			b.WriteString(id)
		} else {
			b.WriteString("§")
		}
		text = after
	}
}

func isWord(r rune) bool { return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r)) }
