package excerpt_test

import (
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/excerpt"
)

func TestATextIsCutBetweenTwoRunes(t *testing.T) {
	long := strings.Repeat("x", 96)
	for text, want := range map[string]string{
		"":                    "",
		"short":               "short",
		"\xff":                "\uFFFD",
		long:                  long,
		long + "x":            long + excerpt.Mark,
		long[1:] + "é":        long[1:] + excerpt.Mark,
		long[2:] + "é":        long[2:] + "é",
		long[2:] + "\xff\xfe": long[2:] + "\uFFFD",
	} {
		if got := excerpt.Of(text); got != want {
			t.Errorf("Of(%q) = %q, want %q", text, got, want)
		}
	}
	for _, tt := range []struct {
		text  string
		bytes int
		want  string
	}{{"abc", 3, "abc"}, {"abcd", 3, "abc…"}, {"aé", 2, "a…"}, {"\xff", 1, "\xff"}, {"a", 0, "…"}} {
		if got := excerpt.Clip(tt.text, tt.bytes); got != tt.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", tt.text, tt.bytes, got, tt.want)
		}
	}
	for _, tt := range []struct {
		text  string
		bytes int
		want  string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "…"},
		{"abcde", 4, "a…"},
		{"aébcd", 5, "a…"},
		{"aébcd", 6, "aébcd"},
		{"\x80\x80\x80\x80\x80", 4, "…"}, // no rune begins in it
	} {
		if got := excerpt.Within(tt.text, tt.bytes); got != tt.want {
			t.Errorf("Within(%q, %d) = %q, want %q", tt.text, tt.bytes, got, tt.want)
		}
	}
	for text, want := range map[string]string{"": "", "éßü": "éßü", "éßüx": "éß…"} {
		if got := excerpt.Runes(text, 3); got != want {
			t.Errorf("Runes(%q, 3) = %q, want %q", text, got, want)
		}
	}
}
