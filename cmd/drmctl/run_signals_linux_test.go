package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// deafTo is drmctl with some arguments, started by a process that ignores some signals.
func deafTo(t *testing.T, signals string, args ...string) (command []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const script = `trap '' $0; exec "$@"`
	return append([]string{asProgram, "/bin/sh", "-c", script, signals, self}, args...)
}

// ignores reports whether a process ignores a signal.
func ignores(t *testing.T, pid int, sig syscall.Signal) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := bytes.Cut(text, []byte("\nSigIgn:\t"))
	mask, _, _ := strings.Cut(string(after), "\n")
	bits, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return bits&(1<<(uint(sig)-1)) != 0
}

// nohup(1) ignores SIGHUP for what it starts, and a shell without job control ignores SIGINT and SIGQUIT for what it
// starts in the background.
func TestRunLeavesSignalsIgnored(t *testing.T) {
	t.Parallel()
	all := []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT}
	for ignored, signals := range map[string][]syscall.Signal{
		"HUP": all[:1], "INT QUIT": all[1:], "HUP INT QUIT": all,
	} {
		args := []string{
			"run", "--endpoints", "127.0.0.1:1", "--dial-timeout", "100ms", "--no-restart", "--", "sleep", "1000",
		}
		s := supervised{said: &beginning{}}
		var err error
		if s.process, err = startProcess(s.said, deafTo(t, ignored, args...)...); err != nil {
			t.Fatal(err)
		}
		killAtEnd(t, s, "sleep")
		pid := s.started(t, 1)
		for _, sig := range signals {
			if !ignores(t, pid, sig) || !ignores(t, s.cmd.Process.Pid, sig) {
				t.Errorf("%v is not ignored any more", sig)
			}
			if err := s.cmd.Process.Signal(sig); err != nil {
				t.Error(err)
			}
		}
		if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := ended(t, s); code != 128+int(syscall.SIGTERM) {
			t.Errorf("%s are ignored: exit code %d, want the one of SIGTERM", ignored, code)
		}
	}
}

func TestAnAgentInTheBackgroundOfAScriptIgnoresCtrlC(t *testing.T) {
	t.Parallel()
	etcd := embeddedtest.Server(t)
	args := []string{
		"agent", "--endpoints", etcd.Endpoint(), "--app", "a", "--id", "m", "--allocate-only", "--handler-log",
		"--stop-on-eof",
	}
	p, err := startProcess(nil, deafTo(t, "INT QUIT", args...)...)
	if err != nil {
		t.Fatal(err)
	}
	logged(t, p, "ready: member m")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if !ignores(t, p.cmd.Process.Pid, sig) {
			t.Errorf("%v is not ignored any more", sig)
		}
	}
	if err := p.stop(t.Context()); err != nil {
		t.Error(err)
	}
}
