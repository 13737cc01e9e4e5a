// Package secrets hides texts that no error may show: secrets that a request carries, which the other side may repeat.
// Whoever makes the request says which texts those are.
package secrets

import (
	"cmp"
	"slices"
	"strings"
)

// shortest is the length in bytes from which a text counts as a secret. Shorter texts would be found in ordinary words.
const shortest = 4

// IsLong says whether a text is long enough to be a secret.
func IsLong(text string) bool { return len(text) >= shortest }

// Set is a set of secrets. The zero value is empty. A Set never changes, and is safe for concurrent use.
type Set struct {
	each []string
	mark string
}

// New makes a set of those texts that are long enough to be secrets. Hide shows each of them as mark.
func New(texts []string, mark string) Set {
	each := slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return !IsLong(text) })
	slices.Sort(each)
	return Set{slices.Compact(each), mark}
}

// span is a part of a text, from one byte up to another that is not in it.
type span struct{ from, to int }

// Hide replaces the secrets in a text by the mark. Secrets that overlap have one mark, so that no part of any is left.
func (s Set) Hide(text string) string {
	var shown strings.Builder
	at := 0
	for _, hidden := range merged(s.find(text)) {
		shown.WriteString(text[at:hidden.from])
		shown.WriteString(s.mark)
		at = hidden.to
	}
	if at == 0 {
		return text
	}
	shown.WriteString(text[at:])
	return shown.String()
}

// find returns where the secrets are in a text.
func (s Set) find(text string) []span {
	var all []span
	for _, secret := range s.each {
		for from := 0; ; from++ {
			n := strings.Index(text[from:], secret)
			if n < 0 {
				break
			}
			from += n
			all = append(all, span{from, from + len(secret)})
		}
	}
	return all
}

// merged sorts spans, and makes one of those that overlap. Spans that only touch each other stay apart.
func merged(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var all []span
	for _, next := range spans {
		if last := len(all) - 1; last >= 0 && next.from < all[last].to {
			all[last].to = max(all[last].to, next.to)
		} else {
			all = append(all, next)
		}
	}
	return all
}

// CutEnd splits off the longest end of a text that is the beginning of a secret, or a whole secret: if the text was cut
// off, that end may be the rest of a secret.
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
