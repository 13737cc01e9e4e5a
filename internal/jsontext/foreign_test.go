package jsontext_test

import (
	"testing"

	"github.com/distributed-resource-manager/drm/internal/jsontext"
)

func TestWhatIsGivenInThePlaceOfJSON(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		"{}":                           "",
		" [1]":                         "",
		"nonsense":                     "",
		"\xef\xbb\xbf{}":               "text that begins with a byte order mark",
		"\xff\xfe{\x00":                "text in UTF-16",
		"\xfe\xff\x00{":                "text in UTF-16",
		"{\x00}\x00":                   "text in UTF-16",
		"\x00{":                        "text in UTF-16",
		"\xff\xfe\x00\x00{\x00\x00":    "text in UTF-32",
		"\x1f\x8b\x08":                 "compressed with gzip",
		"\n <!DOCTYPE HTML><body>":     "HTML",
		"<?xml version='1.0'?> <HTML>": "HTML",
		"<feed/>":                      "text that begins with '<', as HTML and XML do",
	} {
		if got := jsontext.Foreign([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{"\xef\xbb\xbf{}": "{}", "{}": "{}", "": "", "\xef\xbb": "\xef\xbb"} {
		if got := jsontext.WithoutMark([]byte(text)); string(got) != want {
			t.Errorf("%q without its mark: %q, want %q", text, got, want)
		}
	}
}
