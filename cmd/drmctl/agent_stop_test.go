package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// An agent that could not end what it handles says so, on stderr and by its exit code: whoever waits for it must not
// take its job for done.
func TestAnAgentThatLeavesClaimsBehindFails(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(readAll(r), `"action":"terminate"`) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer refusing.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan outcome, 1)
	go func() {
		ended <- drmctl(ctx, append(l.args(), "agent", "--id", "a", "--allocate-only", "--handler-url", refusing.URL,
			"--terminate-policy", "hold", "--stop-timeout", "1s")...)
	}()
	for _, id := range []string{"r1", "r2", "r3"} {
		l.ok("allocate", "--id", id, "--create", "--wait")
	}
	stop()
	got := <-ended
	if got.code != exitFailed {
		t.Errorf("exit code %d, want %d", got.code, exitFailed)
	}
	last := "drmctl: stop: left behind: 3 of 3 claims, which expire by themselves: 3 held since Terminate failed\n"
	if !strings.HasSuffix(got.stderr, last) {
		t.Errorf("it said:\n%s", got.stderr)
	}
}

// Nobody reads the agent's stderr, and the pipe is full. On SIGTERM the agent hands over in order all the same, and
// ends.
func TestAnAgentWhoseStderrIsBlockedStops(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no such signals")
	}
	l := newLab(t)
	var handled, terminated atomic.Int32
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		switch body := readAll(r); {
		case strings.Contains(body, `"action":"handle"`):
			handled.Add(1)
		case strings.Contains(body, `"action":"terminate"`):
			terminated.Add(1)
		}
	}))
	defer service.Close()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	if err := write.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for { // until the pipe is full
		if _, err := write.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.CommandContext(t.Context(), self, append(l.args(), "agent", "--id", "a", "--allocate-only",
		"--handler-url", service.URL, "--log-level", "debug")...)
	agent.Stderr = write
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	ended := make(chan error, 1)
	go func() { ended <- agent.Wait() }()
	l.ok("allocate", "--id", "r", "--create", "--wait", "--wait-timeout", "1m")
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	if handled.Load() != 1 || terminated.Load() != 1 {
		t.Errorf("handled %d times, terminated %d times", handled.Load(), terminated.Load())
	}
}

// readAll returns the body of a request.
func readAll(r *http.Request) string {
	body, _ := io.ReadAll(r.Body)
	return string(body)
}
