package main

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// logged waits until a process has logged something.
func logged(t *testing.T, p *process, want string) {
	t.Helper()
	eventually(t, func() error {
		p.log.mu.Lock()
		defer p.log.mu.Unlock()
		if !strings.Contains(p.log.text, want) {
			return fmt.Errorf("logged so far: %s", p.log.text)
		}
		return nil
	})
}

func TestSignalsStopAnAgent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no such signals")
	}
	etcd := embeddedtest.Server(t)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p, err := startProcess(nil, "agent", "--endpoints", etcd.Endpoint(), "--app", "a", "--id", s.String(),
			"--allocate-only", "--handler-log")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.kill(); err != nil {
				t.Error(err)
			}
		})
		logged(t, p, "ready: member "+s.String())
		if err := p.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.done:
		case <-time.After(time.Minute):
			t.Fatalf("%s: it does not end", s)
		}
		if p.err != nil {
			t.Errorf("%s: %v: %s", s, p.err, p.log.last())
		}
	}
}

// The demo's members must not outlive a demo that was killed.
func TestAgentStopsWhenItsParentIsGone(t *testing.T) {
	t.Parallel()
	etcd := embeddedtest.Server(t)
	p, err := startProcess(nil, "agent", "--stop-on-eof", "--endpoints", etcd.Endpoint(), "--app", "a", "--id", "m",
		"--allocate-only", "--handler-log")
	if err != nil {
		t.Fatal(err)
	}
	logged(t, p, "ready: member m")
	if err := p.stop(t.Context()); err != nil {
		t.Error(err)
	}
}
