//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// A member that hangs keeps its claim until its lease ends, whoever owns the shard by then.
func TestExplainOfAMemberThatHangs(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	l := &lab{t, []string{"--endpoints", server.Endpoint(), "--app", "lab", "--command-timeout", "30s"}}
	p, err := startProcess(nil, append(l.args(), "agent", "--id", "m1", "--allocate-only", "--handler-log",
		"--lease-ttl", "300s")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.kill(); err != nil {
			t.Error(err)
		}
	})
	l.members(1)
	l.ok("allocate", "--id", "r", "--wait")
	l.ok("pin", "r", "m1", "--yes") // before m2 is there, which could get it for a moment otherwise
	l.agent("m2", "--allocate-only", "--handler-log")
	l.members(2)
	eventually(t, func() error {
		if e := get[explanationJSON](l, "explain", "r"); !e.Fine || e.Claim.Member != "m1" {
			return fmt.Errorf("%+v, claim %+v", e, e.Claim)
		}
		return nil
	})
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	client := embeddedtest.Client(t, server.Endpoint())
	if _, err := client.Delete(t.Context(), keys.New("/drm", "lab").Member("m1")); err != nil {
		t.Fatal(err)
	}
	e := explained(l, "r", "lease-runs", "pin-not-in-force")
	r := e.reason("lease-runs")
	if e.Fine || e.Expected != "m2" || e.Claim.Member != "m1" || r.Wait == nil || r.Wait.Of != 300 || r.Wait.Left < 1 ||
		!strings.Contains(r.Wait.Until, "m2 can claim it") || !strings.Contains(r.Remedy, "--lease-ttl") {
		t.Errorf("expected %q, claim %+v, reasons %+v", e.Expected, e.Claim, e.Reasons)
	}
}

// A resource that was drained away stays with its member until Terminate has returned.
func TestExplainOfAHandoverThatTakesLong(t *testing.T) {
	t.Parallel()
	l, dir := newLab(t), t.TempDir()
	script, free := filepath.Join(dir, "run.sh"), filepath.Join(dir, "free")
	text := `trap '' TERM; while [ ! -e "$1" ]; do sleep 0.1; done`
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run := fmt.Sprintf("sh '%s' '%s'", script, free)
	l.agent("m1", "--allocate-only", "--handler-exec", run, "--handler-grace", "5m", "--log-level", "error")
	l.members(1)
	l.ok("allocate", "--id", "r", "--wait")
	l.agent("m2", "--allocate-only", "--handler-log")
	l.members(2)
	l.ok("drain", "m1", "--at-once", "--by", "ann", "--reason", "new disk")
	e := explained(l, "r", "handover")
	r := e.reason("handover")
	if e.Fine || e.Expected != "m2" || e.Claim.Member != "m1" ||
		r.Text != "m1 has it, which is drained, and must terminate it before m2 can claim it" ||
		!strings.Contains(r.Remedy, "TerminateTimeout") {
		t.Errorf("expected %q, claim %+v, reasons %+v", e.Expected, e.Claim, e.Reasons)
	}
	explained(l, "r", "call-runs") // once Terminate has taken long, the claim says so
	if err := os.WriteFile(free, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if e := get[explanationJSON](l, "explain", "r"); !e.Fine || e.Claim.Member != "m2" {
			return fmt.Errorf("%+v, claim %+v", e, e.Claim)
		}
		return nil
	})
}

func TestExplainOfAResourceThatFails(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.agent("m1", "--allocate-only", "--handler-exec", "sh -c 'exit 3'", "--log-level", "error")
	l.members(1)
	l.ok("allocate", "--id", "r")
	if r := explained(l, "r", "failed").reason("failed"); !r.Hinders || !strings.Contains(r.Text, "exit status 3") ||
		!strings.Contains(r.Remedy, "--move-after") {
		t.Errorf("%+v", r)
	}
}
