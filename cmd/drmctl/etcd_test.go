package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// begin runs drmctl in this process until the test ends or stop is called. stop returns the exit code. lines has what
// drmctl prints, line by line.
func begin(t *testing.T, args ...string) (lines <-chan string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	code, printed := make(chan int, 1), make(chan string, 100)
	var stderr strings.Builder
	go func() {
		code <- run(ctx, args, strings.NewReader(""), in, &stderr)
		_ = in.Close() // this ends the reader of the other end
	}()
	go func() {
		defer close(printed)
		all, b := "", make([]byte, 4096)
		for {
			n, err := out.Read(b)
			all += string(b[:n])
			for {
				line, rest, ok := strings.Cut(all, "\n")
				if !ok {
					break
				}
				printed <- line
				all = rest
			}
			if err != nil {
				return
			}
		}
	}()
	ended := false
	stop = func() int {
		cancel()
		if ended {
			return 0
		}
		ended = true
		select {
		case c := <-code:
			if c != 0 || t.Failed() {
				t.Logf("drmctl %s: %s", strings.Join(args, " "), stderr.String())
			}
			return c
		case <-time.After(time.Minute):
			t.Errorf("drmctl %s does not end", strings.Join(args, " "))
			return -1
		}
	}
	t.Cleanup(func() { stop() })
	return printed, stop
}

func next(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case line, ok := <-lines:
		if !ok {
			t.Fatal("it ended")
		}
		return line
	case <-time.After(time.Minute):
		t.Fatal("nothing was printed")
	}
	return ""
}

func TestEtcdPrintsItsEndpointAndEndsCleanly(t *testing.T) {
	t.Parallel()
	args := []string{
		"etcd", "--data-dir", t.TempDir(), "--listen-client", "127.0.0.1:0", "--listen-peer", "127.0.0.1:0",
	}
	lines, stop := begin(t, args...)
	endpoint, ok := strings.CutPrefix(next(t, lines), "endpoint ")
	if !ok {
		t.Fatal("the first line names no endpoint")
	}
	conn, err := net.DialTimeout("tcp", endpoint, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()

	// A second one cannot listen there.
	got := drmctl(t.Context(), "etcd", "--data-dir", t.TempDir(), "--listen-client", endpoint,
		"--listen-peer", "127.0.0.1:0")
	if got.code != exitFailed {
		t.Errorf("port in use: exit code %d, want %d", got.code, exitFailed)
	}
	checkOneLine(t, got.stderr, endpoint)

	if code := stop(); code != exitFine {
		t.Errorf("exit code %d, want 0", code)
	}

	// The etcd finds its data again, and drmctl prints the endpoint in JSON when asked to.
	lines, stop = begin(t, append(args, "-o", "json", "--auto-compaction", "off", "--quota", "1GiB")...)
	var ready struct{ Endpoint string }
	line := next(t, lines)
	conforms(t, "etcd", line)
	if err := json.Unmarshal([]byte(line), &ready); err != nil || ready.Endpoint == "" {
		t.Errorf("no endpoint in JSON: %v", err)
	}
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d, want 0", code)
	}
}
