package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updateManual = flag.Bool("update-manual", false, "write docs/drmctl.md anew")

// TestTheReferenceIsCurrent compares docs/drmctl.md with what the commands say of themselves.
func TestTheReferenceIsCurrent(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "drmctl.md")
	want := reference(newApp(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}))
	if *updateManual {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/drmctl.md is not current: run `make manual` (-want +got):\n%s", diff)
	}
}

func TestManPages(t *testing.T) {
	t.Parallel()
	got := drmctl(t.Context(), "man", "drain")
	for _, want := range []string{".TH DRMCTL-DRAIN 1", ".SH OPTIONS", "--reason", "$DRM_DRAIN_REASON"} {
		if got.code != exitFine || !strings.Contains(strings.ReplaceAll(got.stdout, "\\-", "-"), want) {
			t.Errorf("man drain lacks %q: %+v", want, got)
		}
	}
	dir := t.TempDir()
	if got := drmctl(t.Context(), "man", "--dir", dir); got.code != exitFine || got.stdout != "" {
		t.Errorf("%+v", got)
	}
	app := newApp(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != len(pages(app)) {
		t.Errorf("%d files, want %d: %v", len(files), len(pages(app)), err)
	}
	for _, args := range [][]string{{"man", "drian"}, {"man", "drain", "--dir", dir}} {
		got := drmctl(t.Context(), args...)
		if got.code != exitUsage {
			t.Errorf("%v: %+v", args, got)
		}
		checkOneLine(t, got.stderr, "dra")
	}
	got = drmctl(t.Context(), "man", "--dir", filepath.Join(dir, "none"))
	if got.code != exitUsage || strings.Count(got.stderr, "none") != 1 {
		t.Errorf("of a directory that is not there: %+v", got)
	}
}
