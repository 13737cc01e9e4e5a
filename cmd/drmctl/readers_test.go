//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// printing are commands that print about an app with a resource r, and with members that are gone but for an order.
func printing(dir string) [][]string {
	return [][]string{
		{"apps"},
		{"app", "describe"},
		{"assignments"},
		{"assignments", "--watch"},
		{"completion", "bash"},
		{"describe", "member", "m1"},
		{"describe", "resource", "r"},
		{"describe", "shard", "3", "--watch"},
		{"doctor", "--skip", "latency"},
		{"dump"},
		{"events", "--since", "1"},
		{"explain", "r"},
		{"explain", "r", "--watch"},
		{"lookup", "r", "-o", "json"},
		{"man"},
		{"members", "-o", "yaml"},
		{"pins"},
		{"resources"},
		{"schema", "status"},
		{"status"},
		{"status", "--watch"},
		{"verify"},
		{"--help"},
		{"debug", "--file", filepath.Join(dir, "debug.tar.gz")},
	}
}

// readersLab has what printing needs.
func readersLab(t *testing.T) *lab {
	l := newLab(t)
	l.ok("allocate", "--create", "--shards", "8", "--id", "r")
	l.ok("drain", "m1", "--absent")
	l.ok("-o", "name", "pins")
	return l
}

// Commands that print end at once where nobody reads what they print, and say nothing of it.
func TestEachCommandEndsWithWhoeverReadsItsOutput(t *testing.T) {
	t.Parallel()
	l := readersLab(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = read.Close()
	defer func() { _ = write.Close() }()
	atOnce := make(chan struct{}, 2)
	var all sync.WaitGroup
	for _, args := range printing(t.TempDir()) {
		name := strings.Join(args, " ")
		all.Go(func() {
			atOnce <- struct{}{}
			defer func() { <-atOnce }()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, self, append(l.args(), args...)...)
			var stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = write, &stderr
			if err := cmd.Run(); cmd.ProcessState == nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			status := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if !status.Signaled() || status.Signal() != syscall.SIGPIPE {
				t.Errorf("%s: status %d, signal %v: %s", name, status.ExitStatus(), status.Signal(), stderr.String())
			}
			if strings.Contains(stderr.String(), "pipe") {
				t.Errorf("%s says: %s", name, stderr.String())
			}
		})
	}
	all.Wait()
}

// drmctl assignments | head -1
func TestALongListEndsAfterTheLineThatIsRead(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ids := make([]string, 3000)
	for i := range ids {
		ids[i] = fmt.Sprintf(`{"id":"a-resource-with-an-id-that-is-long-enough-%d"}`, i)
	}
	file := filepath.Join(t.TempDir(), "ids")
	if err := os.WriteFile(file, []byte(strings.Join(ids, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.ok("allocate", "--create", "--shards", "8", "--file", file, "-o", "name")
	for _, args := range [][]string{
		{"assignments"}, {"resources", "-o", "yaml"}, {"dump"}, {"events", "--since", "1"}, {"resources", "--watch"},
	} {
		p := startAndLeave(t, nil, "a-resource", append(l.args(), args...)...)
		if status := p.status(t); !status.Signaled() || status.Signal() != syscall.SIGPIPE {
			t.Errorf("%s: status %d, signal %v", args, status.ExitStatus(), status.Signal())
		}
	}
}

// Where the disk is full, a script must not take what there is for all.
func TestWhatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("there is no /dev/full")
	}
	l := readersLab(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	for _, args := range printing(t.TempDir()) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var stderr bytes.Buffer
		code := run(ctx, append(l.args(), args...), strings.NewReader(""), full, &stderr)
		if code != exitFailed || !strings.Contains(stderr.String(), "no space left on device") || ctx.Err() != nil {
			t.Errorf("%s: exit code %d: %s", args, code, stderr.String())
		}
		cancel()
	}
}
