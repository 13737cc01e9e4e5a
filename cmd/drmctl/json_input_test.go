package main

import (
	"os"
	"path/filepath"
	"testing"
)

// What is no JSON object is named, and its text is not shown, which may be secret.
func TestDataThatIsNotJSONIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, []byte("<!DOCTYPE html><p>s3cret</p>"), 0o600); err != nil {
		t.Fatal(err)
	}
	for data, want := range map[string][]string{
		"<html>s3cret</html>":    {"HTML"},
		"@" + file:               {"HTML"},
		"\xff\xfe{\x00":          {"UTF-16"},
		"s3cret":                 {"text that is not JSON"},
		`{"id":5}`:               {`a string, such as "5", not the number 5`, "--number-ids"},
		`[{"id":"5"}]`:           {"an array"},
		`{"id":5.5}`:             {`not the number 5.5`},
		"\xef\xbb\xbf{\"id\":5}": {`such as "5"`},
	} {
		got := drmctlWith(t.Context(), data, "allocate", "--app", "a", "--data", data, "--endpoints", "127.0.0.1:1")
		if got.code != exitUsage {
			t.Errorf("%q: exit code %d, want %d", data, got.code, exitUsage)
		}
		checkOneLine(t, got.stderr, append(want, "--data")...)
	}
	// A byte order mark is no reason to refuse what follows; that there is no etcd shows that it was taken.
	for _, data := range []string{"\xef\xbb\xbf{\"id\":\"x\"}", "-"} {
		got := drmctlWith(t.Context(), "\xef\xbb\xbf{\"id\":\"x\"}", "allocate", "--app", "a", "--data", data,
			"--endpoints", closedPort(t), "--dial-timeout", "1ms")
		if got.code != exitUnreachable {
			t.Errorf("%q: exit code %d, want %d: %s", data, got.code, exitUnreachable, got.stderr)
		}
	}
}
