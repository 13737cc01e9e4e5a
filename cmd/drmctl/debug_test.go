package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestDebugCompletesTheArchiveWhereItIsInterrupted interrupts it before the first part.
func TestDebugCompletesTheArchiveWhereItIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file := filepath.Join(t.TempDir(), "out.tar.gz")
	got := drmctl(ctx, "debug", "--app", "a", "--endpoints", "127.0.0.1:1", "--file", file)
	if got.code != exitFailed {
		t.Errorf("%+v", got)
	}
	checkOneLine(t, got.stderr, "interrupted", file)
	packed, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(unpacked)
	var names []string
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if len(names) != 1 || names[0] != "drm-debug/manifest.json" {
		t.Errorf("it has %q", names)
	}
}
