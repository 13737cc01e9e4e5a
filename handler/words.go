package handler

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/distributed-resource-manager/drm"
)

// ParseCommand splits a command line into a program and its arguments as a POSIX shell would: at white space, with
// '…', "…" and \ to quote. No shell runs: operators (| > ; &), variables, command substitutions and $'…' are an
// *drm.InputError unless they are quoted; wildcards, ~ and {a,b} stay as they are.
func ParseCommand(s string) ([]string, error) {
	const want = "a program and its arguments in plain words or quotes; for more, run a shell: sh -c '…'"
	var words []string
	for word, err := range syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).WordsSeq(strings.NewReader(s)) {
		if err != nil {
			return nil, &drm.InputError{Field: "command", Value: s, Want: want + " (" + err.Error() + ")"}
		}
		text, ok := plain(word.Parts, false)
		if !ok {
			return nil, &drm.InputError{Field: "command", Value: s, Want: want}
		}
		words = append(words, text)
	}
	if len(words) == 0 || words[0] == "" {
		return nil, &drm.InputError{Field: "command", Value: s, Want: want}
	}
	return words, nil
}

// plain is the text of a word, if it takes no shell to know it.
func plain(parts []syntax.WordPart, quoted bool) (string, bool) {
	var text strings.Builder
	for _, part := range parts {
		switch part := part.(type) {
		case *syntax.Lit:
			text.WriteString(unescape(part.Value, quoted))
		case *syntax.SglQuoted:
			if part.Dollar {
				return "", false
			}
			text.WriteString(part.Value)
		case *syntax.DblQuoted:
			inner, ok := plain(part.Parts, true)
			if !ok || part.Dollar {
				return "", false
			}
			text.WriteString(inner)
		default:
			return "", false
		}
	}
	return text.String(), true
}

// unescape takes out backslashes: outside of quotes all that are not escaped themselves, between double quotes only
// those before a character that has a meaning there.
func unescape(s string, quoted bool) string {
	var text strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && (!quoted || strings.IndexByte("$`\"\\\n", s[i+1]) >= 0) {
			i++
			if s[i] == '\n' { // a line that goes on
				continue
			}
		}
		text.WriteByte(s[i])
	}
	return text.String()
}
