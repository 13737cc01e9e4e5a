package hint_test

import (
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/hint"
)

func TestOnlyWhatLacksItsSchemeIsCompleted(t *testing.T) {
	for text, want := range map[string]string{
		"localhost:9000":            "http://localhost:9000",
		"localhost":                 "http://localhost",
		"127.0.0.1:9000":            "http://127.0.0.1:9000",
		"[::1]:9000/hook":           "http://[::1]:9000/hook",
		"example.org/feeds":         "http://example.org/feeds",
		"":                          "",
		"/feeds":                    "",
		"//example.org":             "",
		"ftp://example.org":         "",
		"http:/example.org":         "",
		"user:secret@example.org":   "",
		"example.org?token=secret":  "",
		"example.org/x?token=hush":  "",
		"example.org/a@b":           "",
		"example.org:secret":        "",
		"mailto:someone":            "",
		"example.org/%zz":           "",
		"postgres://u:secret@db/x":  "",
		"secret token with a space": "",
	} {
		shown, got, ok := hint.Scheme(text)
		if ok != (want != "") || ok && (shown != text || !strings.Contains(got, want)) {
			t.Errorf("%q: %q, %q, %t, want %q", text, shown, got, ok, want)
		}
	}
}
