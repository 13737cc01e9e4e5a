package handler

import (
	"regexp"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/distributed-resource-manager/drm"
)

// ParseCommand splits a command line into a program and its arguments as a POSIX shell would, but runs no shell. Words
// end at white space; '…', "…" and \ quote; a word that begins with # begins a comment.
//
// What only a shell can do is a *drm.InputError unless it is quoted: operators (| > ; & &&), variables, command
// substitutions and $'…' anywhere; and in the program's place an assignment (NAME=VALUE), a ~, or a word of the shell
// itself (exec, if). In arguments, wildcards, ~ and {a,b} stay as they are.
func ParseCommand(s string) ([]string, error) {
	const want = "a program and its arguments in plain words or quotes; for more, run a shell: sh -c '…'"
	refuse := func(want string) error { return &drm.InputError{Field: "command", Value: s, Want: want} }
	var words []string
	for word, err := range syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).WordsSeq(strings.NewReader(s)) {
		if err != nil {
			return nil, refuse(want + " (" + err.Error() + ")")
		}
		if len(words) == 0 {
			if instead := shellsOwn(word); instead != "" {
				return nil, refuse(instead)
			}
		}
		text, ok := plain(word.Parts, false)
		if !ok {
			return nil, refuse(want)
		}
		words = append(words, text)
	}
	if len(words) == 0 || words[0] == "" {
		return nil, refuse(want)
	}
	return words, nil
}

// dollar matches a text that ends with a $ that is not escaped.
var dollar = regexp.MustCompile(`(^|[^\\])(\\\\)*\$$`)

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*\+?=`)

// shellsOwn returns what to write instead of a first word that only a shell understands, and "" for any other word.
func shellsOwn(word *syntax.Word) string {
	first, ok := word.Parts[0].(*syntax.Lit)
	if !ok {
		return ""
	}
	switch first.Value {
	case "!", "{", "if", "while", "until", "for", "case":
	case ".", "source", "exec", "eval", "export", "set", "unset":
	default:
		switch {
		case assignment.MatchString(first.Value):
			return "a program first; to set a variable: env NAME=VALUE program …, " +
				"or sh -c 'NAME=VALUE exec program …'"
		case strings.HasPrefix(first.Value, "~"):
			return "the program's whole path, since no shell replaces ~; or sh -c '~/program …'"
		}
		return ""
	}
	if len(word.Parts) > 1 {
		return ""
	}
	return "a program first, and not what only a shell knows; or run one: sh -c '" + first.Value + " …'"
}

// plain returns the text of a word. ok is false if only a shell can tell the text.
func plain(parts []syntax.WordPart, quoted bool) (word string, ok bool) {
	var text strings.Builder
	for i, part := range parts {
		switch part := part.(type) {
		case *syntax.Lit:
			if !quoted && i+1 < len(parts) && dollar.MatchString(part.Value) {
				return "", false // $'…' or $"…", which have no meaning in POSIX
			}
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

// unescape removes backslashes: outside of quotes, all that are not escaped themselves; between double quotes, only
// those before a character that has a meaning there.
func unescape(s string, quoted bool) string {
	var text strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && (!quoted || strings.IndexByte("$`\"\\\n", s[i+1]) >= 0) {
			i++
			if s[i] == '\n' { // the line continues
				continue
			}
		}
		text.WriteByte(s[i])
	}
	return text.String()
}
