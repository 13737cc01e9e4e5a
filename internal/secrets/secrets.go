// Package secrets hides texts that no error may show: what a request carries, and who is asked may repeat. Which
// texts those are is for whoever makes the request to say.
package secrets

import (
	"cmp"
	"slices"
	"strings"
)

// shortest is the length in bytes from which a text is taken for a secret. Shorter ones are none, and would be found in
// ordinary words.
const shortest = 4

// IsLong says whether a text is long enough to be a secret.
func IsLong(text string) bool { return len(text) >= shortest }

// Set is a set of secrets. The zero value has none. It does not change, and is safe for concurrent use.
type Set struct {
	each     []string
	replacer *strings.Replacer // nil: there are none
}

// New makes a set of those texts that are long enough to be secrets. Each is shown as mark.
func New(texts []string, mark string) Set {
	each := slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return !IsLong(text) })
	// The longest come first, so that none is left over in part.
	slices.SortFunc(each, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	s := Set{each: slices.Compact(each)}
	if len(s.each) > 0 {
		var pairs []string
		for _, secret := range s.each {
			pairs = append(pairs, secret, mark)
		}
		s.replacer = strings.NewReplacer(pairs...)
	}
	return s
}

// Hide replaces the secrets in a text by the mark.
func (s Set) Hide(text string) string {
	if s.replacer == nil {
		return text
	}
	return s.replacer.Replace(text)
}

// CutEnd splits off the longest end of a text that is the beginning of a secret, or all of one: where the text was
// cut off, that may be what is left of a secret.
func (s Set) CutEnd(text string) (before, end string) {
	cut := 0
	for _, secret := range s.each {
		for n := min(len(secret), len(text)); n > cut; n-- {
			if strings.HasSuffix(text, secret[:n]) {
				cut = n
			}
		}
	}
	return text[:len(text)-cut], text[len(text)-cut:]
}
