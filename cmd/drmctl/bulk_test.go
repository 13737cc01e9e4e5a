package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// with runs a command with stdin.
func (l *lab) with(stdin string, args ...string) outcome {
	l.t.Helper()
	return drmctlWith(l.t.Context(), stdin, append(l.args(), args...)...)
}

func TestAllocateAndDeallocateInBulk(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var lines strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&lines, `{"id":"r%d","n":%d}`+"\n", i, i)
	}
	// No app.
	got := l.with(lines.String(), "allocate", "-")
	if got.code != exitNotFound || !strings.Contains(got.stderr, "--create") {
		t.Errorf("without an app: %+v", got)
	}
	// A new app, from stdin, and once more.
	const all = `{"resources":5000,"failed":0,"complete":true,"failures":[]}` + "\n"
	for range 2 {
		got := l.with(lines.String(), "-o", "json", "allocate", "-", "--create", "--shards", "64")
		if got.code != exitFine || got.stdout != all || got.stderr != "" {
			t.Errorf("%+v, want %s", got, all)
		}
	}
	// What is bad does not keep the rest away.
	file := filepath.Join(t.TempDir(), "more.jsonl")
	text := `{"id":"r0","n":"new"}` + "\n{\n" + `{"n":1}` + "\n\n" + `{"id":7}` + "\n" + `{"id":"last"}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got = drmctl(t.Context(), append(l.args(), "-o", "json", "allocate", "-f", file)...)
	const some = `{"resources":2,"failed":3,"complete":true,"failures":[{"line":2,`
	if got.code != exitFailed || !strings.HasPrefix(got.stdout, some) {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{"line 2: ", "line 3: ", "line 5: ", "--number-ids", "not allocated: 3"} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("stderr lacks %q: %s", want, got.stderr)
		}
	}
	got = l.with(`{"id":7}`, "allocate", "-", "--number-ids")
	if got.code != exitFine || got.stdout != "allocated 1\n" {
		t.Errorf("%+v", got)
	}
	resources := get[[]map[string]any](l, "resources")
	if len(resources) != 5002 {
		t.Errorf("%d resources, want 5002", len(resources))
	}
	// All failures are over the quota.
	got = l.with(`{"id":"r1"}`+"\n"+`{"id":"x"}`+"\n"+`{"id":"y"}`, "allocate", "-", "--max-app-resources", "5002")
	if got.code != exitQuota || got.stdout != "allocated 1, failed 2\n" {
		t.Errorf("%+v", got)
	}
	// What is there already is taken as it is, and so are the lines of other commands.
	names := l.ok("-o", "name", "resources")
	if got := l.with(names, "-o", "json", "deallocate", "-"); got.code != exitFine ||
		got.stdout != `{"resources":5002,"not_there":0,"failed":0,"complete":true,"failures":[]}`+"\n" {
		t.Errorf("%+v", got)
	}
	if got := l.with(names+`{"x":1}`, "deallocate", "--file", "-"); got.code != exitFailed ||
		got.stdout != "deallocated 0, not there 5002, failed 1\n" {
		t.Errorf("%+v", got)
	}
	if n := len(get[[]map[string]any](l, "resources")); n != 0 {
		t.Errorf("%d resources are left", n)
	}
	got = l.with("<!doctype html>", "allocate", "-")
	if got.code != exitFailed || !strings.Contains(got.stderr, "it is HTML, not JSON") {
		t.Errorf("HTML: %+v", got)
	}
}

// What an endless input has given is allocated, without waiting for more, and an interrupted command says how far it
// came.
func TestAnInputThatPausesHoldsNothingBack(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	in, out := io.Pipe()
	defer func() { _ = out.Close() }()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var stdout, stderr strings.Builder
	ended := make(chan int)
	go func() { ended <- run(ctx, append(l.args(), "allocate", "-", "--create"), in, &stdout, &stderr) }()
	if _, err := io.WriteString(out, `{"id":"a"}`+"\n"+`{"id":"b"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		got := drmctl(t.Context(), append(l.args(), "-o", "name", "resources")...)
		if got.stdout != "a\nb\n" {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	interrupt()
	if code := <-ended; code != exitFailed || stdout.String() != "allocated 2\n" ||
		!strings.Contains(stderr.String(), "interrupted: ") ||
		!strings.Contains(stderr.String(), "by then it had allocated 2;") {
		t.Errorf("exit code %d, %q, %q", code, stdout.String(), stderr.String())
	}
}

func TestBulkFlagsThatDoNotGoTogether(t *testing.T) {
	for _, args := range [][]string{
		{"allocate", "-f", "x", "--id", "a"},
		{"allocate", "-f", "x", "--data", "{}"},
		{"allocate", "-", "--wait"},
		{"allocate", "-", "-f", "x"},
		{"allocate", "x", "-f", "x"},
		{"allocate", "--id", "a", "--number-ids"},
		{"deallocate", "-f", "x", "a"},
		{"deallocate", "-f", "/does/not/exist"},
	} {
		got := drmctl(t.Context(), append(args, "--app", "a", "--endpoints", closedPort(t), "--dial-timeout", "1ms")...)
		if got.code != exitUsage {
			t.Errorf("%q: exit code %d, want %d: %s", args, got.code, exitUsage, got.stderr)
		}
		checkOneLine(t, got.stderr)
	}
	// In the environment they serve other calls.
	t.Setenv("DRM_ALLOCATE_FILE", "/does/not/exist")
	t.Setenv("DRM_DEALLOCATE_FILE", "/does/not/exist")
	for _, args := range [][]string{{"allocate", "--id", "a"}, {"deallocate", "a"}} {
		got := drmctl(t.Context(), append(args, "--app", "a", "--endpoints", closedPort(t), "--dial-timeout", "1ms")...)
		if got.code != exitUnreachable {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

func TestAskingForAName(t *testing.T) {
	for answer, want := range map[string]error{
		"feeds\n": nil, "feeds": nil, " feeds \r\n": nil,
		"y\n": errNotConfirmed, "\n": errNotConfirmed, "": errNotConfirmed,
	} {
		var out strings.Builder
		if err := askName(t.Context(), strings.NewReader(answer), &out, "delete it", "feeds"); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", answer, err, want)
		}
		if !strings.HasPrefix(out.String(), "delete it? ") {
			t.Errorf("it asked %q", out.String())
		}
	}
}
