package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// systemd has to understand the unit in docs/run.md.
func TestTheDocumentedUnitIsValid(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip(err)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "run.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\n```ini\n")
	unit, _, found := strings.Cut(after, "\n```\n")
	if !found || !strings.Contains(unit, "drmctl run -- ") {
		t.Fatalf("docs/run.md has no unit that runs drmctl run: %q", unit)
	}
	self, err := os.Executable() // systemd-analyze wants to see the program
	if err != nil {
		t.Fatal(err)
	}
	const name = "documented.service"
	path := filepath.Join(t.TempDir(), name)
	unit = strings.ReplaceAll(unit, "/usr/local/bin/drmctl", self)
	if err := os.WriteFile(path, []byte(unit+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), analyze, "verify", path).CombinedOutput()
	if err != nil || strings.Contains(string(out), name) { // it may find fault with other units of the machine
		t.Errorf("%v: %s", err, out)
	}
}
