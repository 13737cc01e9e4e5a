package secrets_test

import (
	"testing"

	"github.com/distributed-resource-manager/drm/internal/secrets"
)

func TestSecretsAreHiddenAsAWhole(t *testing.T) {
	s := secrets.New([]string{"hush", "hush-hush", "***", "", "mark", "hush"}, "[mark]")
	for text, want := range map[string]string{
		"":                      "",
		"nothing to see":        "nothing to see",
		"a hush b hush-hush":    "a [mark] b [mark]",
		"*** is no secret":      "*** is no secret",
		"hushhush":              "[mark][mark]",
		"what is a mark, hush?": "what is a [mark], [mark]?",
	} {
		if got := s.Hide(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	if got := (secrets.Set{}).Hide("hush"); got != "hush" {
		t.Errorf("without secrets: %q", got)
	}
}

func TestOfSecretsThatOverlapNoPartIsLeft(t *testing.T) {
	s := secrets.New([]string{"key-12345", "345-the-much-longer-one", "longer-one-still", "abab"}, "[mark]")
	for text, want := range map[string]string{
		"got key-12345-the-much-longer-one!":       "got [mark]!",
		"got key-12345-the-much-longer-one-still!": "got [mark]!",
		"key-12345, longer-one-still":              "[mark], [mark]",
		"abababab ab":                              "[mark] ab",
	} {
		if got := s.Hide(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestTheBeginningOfASecretAtTheEndOfATextIsCutOff(t *testing.T) {
	s := secrets.New([]string{"hushkey", "shovel"}, "x")
	for text, want := range map[string][2]string{
		"":            {"", ""},
		"hello":       {"hello", ""},
		"the hushk":   {"the ", "hushk"},
		"the hushkey": {"the ", "hushkey"},
		"hush":        {"", "hush"},
		"fresh":       {"fre", "sh"},
		"hushove":     {"hu", "shove"},
	} {
		if before, end := s.CutEnd(text); before != want[0] || end != want[1] {
			t.Errorf("%q became %q and %q, want %q", text, before, end, want)
		}
	}
	if before, end := (secrets.Set{}).CutEnd("hush"); before != "hush" || end != "" {
		t.Errorf("without secrets: %q and %q", before, end)
	}
}
