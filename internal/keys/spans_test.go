package keys_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// oddIDs are ids in all orders of plain and escaped bytes.
func oddIDs(random *rand.Rand, n int) []string {
	letters := []string{"a", "b", "z", "-", ".", "/", " ", "é", "世", "%", "~", "0", "{", "&"}
	ids := map[string]bool{".": true, "..": true, "...": true, ".a": true}
	for len(ids) < n {
		id := ""
		for range 1 + random.IntN(5) {
			id += letters[random.IntN(len(letters))]
		}
		ids[id] = true
	}
	all := make([]string, 0, n)
	for id := range ids {
		all = append(all, id)
	}
	return all
}

func within(s keys.Span, id string) bool {
	e := keys.Escape(id)
	return e >= s.From && (s.End == "" || e < s.End)
}

func TestThePartsOfASpanHaveItsIDsAndKnowTheLeastOfThem(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	ids := oddIDs(random, 400)
	for _, prefix := range []string{"", "a", ".", "..", "/", "é", "a/", "-", "none"} {
		spans := keys.SpansOf(prefix)
		for range 30 {
			for _, id := range ids {
				var has []keys.Span
				for _, s := range spans {
					if within(s, id) {
						has = append(has, s)
					}
				}
				if want := strings.HasPrefix(id, prefix); len(has) > 1 || (len(has) == 1) != want {
					t.Fatalf("prefix %q: %q is in %+v", prefix, id, has)
				}
				if len(has) == 1 && id < has[0].Least {
					t.Fatalf("prefix %q: %q is in %+v", prefix, id, has)
				}
			}
			n := random.IntN(len(spans))
			s := spans[n]
			at := keys.Escape(ids[random.IntN(len(ids))])
			if random.IntN(2) == 0 {
				other := keys.Escape(ids[random.IntN(len(ids))])
				if other == at {
					continue
				}
				at = keys.Between(min(at, other), max(at, other))
			}
			if at <= s.From || s.End != "" && at >= s.End {
				continue
			}
			first, rest := s.Cut(at)
			spans = append(slices.Replace(spans, n, n+1, first), rest...)
		}
	}
}

func TestBetweenIsShortAndDoesNotEndWithinAnEscapedByte(t *testing.T) {
	for _, tt := range []struct{ before, after, want string }{
		{"", "abc", "a"},
		{"abc", "abd", "abd"},
		{"ab", "abc", "abc"},
		{"a%2Fb", "a%2Fcd", "a%2Fc"},
		{"a%2Eb", "a%2Fcd", "a%2F"},
		{"a%2E", "ab", "ab"},
		{"a", "a%2Fcd", "a%2F"},
		{"%1F", "%2F", "%2F"},
	} {
		if got := keys.Between(tt.before, tt.after); got != tt.want {
			t.Errorf("between %q and %q: %q, want %q", tt.before, tt.after, got, tt.want)
		}
	}
}
