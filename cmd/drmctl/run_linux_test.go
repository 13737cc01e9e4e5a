package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/bench"
)

// supervised is a drmctl run in a process of its own.
type supervised struct {
	*process
	said *beginning
}

// runUnder runs a command under drmctl run with some flags.
func runUnder(t *testing.T, flags []string, command ...string) supervised {
	t.Helper()
	args := append(append([]string{"run"}, flags...), "--")
	s := supervised{said: &beginning{}}
	var err error
	if s.process, err = startProcess(s.said, append(args, command...)...); err != nil {
		t.Fatal(err)
	}
	killAtEnd(t, s, command[0])
	return s
}

// killAtEnd kills a supervisor and its command at the end of the test.
func killAtEnd(t *testing.T, s supervised, program string) {
	t.Cleanup(func() {
		pids := s.pids()
		if len(pids) > 0 {
			defer removeHome(pids[len(pids)-1])()
		}
		_ = s.cmd.Process.Kill()
		// The last command goes on without its supervisor. Those before it have ended, and their numbers may be those
		// of other processes by now.
		for _, pid := range pids[max(0, len(pids)-1):] {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if strings.Contains(string(line), program) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		_ = s.kill()
	})
}

// removeHome returns a function that removes the folder of the supervisor of a process, which a supervisor that is
// killed leaves.
func removeHome(pid int) func() {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	for pair := range strings.SplitSeq(string(text), "\x00") {
		if path, ok := strings.CutPrefix(pair, "DRM_SUPERVISOR=unix:/"); ok {
			return func() { _ = os.RemoveAll(filepath.Dir("/" + path)) }
		}
	}
	return func() {}
}

var startedPID = regexp.MustCompile(`started the command\t{"pid": (\d+)`)

// pids returns the processes of the command that were started so far, the last one at the end.
func (s supervised) pids() []int { return startedPIDs(s.said) }

func startedPIDs(log *beginning) (pids []int) {
	for _, m := range startedPID.FindAllStringSubmatch(log.all(), -1) {
		pid, err := strconv.Atoi(m[1])
		if err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// started waits until the command was started for the nth time, and returns its process.
func (s supervised) started(t *testing.T, n int) (pid int) {
	t.Helper()
	eventually(t, func() error {
		pids := s.pids()
		if len(pids) < n {
			return fmt.Errorf("the command was started %d times, want %d; it said:\n%s", len(pids), n, s.said.all())
		}
		pid = pids[n-1]
		return nil
	})
	return pid
}

// ended waits for the end of a process, and returns its exit code.
func ended(t *testing.T, p supervised) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		t.Fatalf("it does not end; it said last: %s", p.log.last())
	}
	return p.cmd.ProcessState.ExitCode()
}

func TestRunEndsAsItsCommandDoes(t *testing.T) {
	t.Parallel()
	nobody := []string{"--endpoints", "127.0.0.1:1", "--dial-timeout", "100ms", "--no-restart"}
	for _, test := range []struct {
		command []string
		code    int
		says    string // the last line; empty: anything
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "exit 42"}, 42, ""},
		{[]string{"sh", "-c", "kill -9 $$"}, 128 + 9, ""},
		{[]string{"no-such-program"}, exitNoCommand, "drmctl: start no-such-program: "},
		{[]string{"/no/such/program"}, exitNoCommand, "drmctl: start /no/such/program: "},
		{[]string{"/dev/null"}, exitNotExecutable, "drmctl: start /dev/null: "},
		{[]string{"test", "--help", "=", "--help"}, 0, ""}, // flags of the command are not drmctl's
	} {
		p := runUnder(t, nobody, test.command...)
		if code := ended(t, p); code != test.code || !strings.HasPrefix(p.log.last(), test.says) {
			t.Errorf("%v: exit code %d, want %d; it said last: %s", test.command, code, test.code, p.log.last())
		}
	}
}

// The lease lives for ten minutes. So if the killed agent is back under its id within the test's time, and everything
// is handled, its leases were revoked.
func TestAKilledAgentIsBackAtOnceUnderItsSupervisor(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = l.agent("b", "--allocate-only", "--handler-log")
	agent := append(append([]string{self}, l.args()...), "agent", "--id", "a", "--lease-ttl", "10m", "--allocate-only",
		"--handler-exec", "sleep 1000")
	p := runUnder(t, append(l.args(), "--backoff", "1ms"), agent...)
	l.members(2)
	const n = 20
	for i := range n {
		l.ok("allocate", "--id", fmt.Sprint("r", i))
	}
	handled := func() {
		t.Helper()
		eventually(t, func() error {
			s := get[statusJSON](l, "status")
			if s.Active != n || s.Misplaced != 0 || s.Members != 2 {
				return fmt.Errorf("%+v, want %d active on 2 members", s, n)
			}
			return nil
		})
	}
	handled()
	if err := syscall.Kill(p.started(t, 1), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.started(t, 2) // by then its leases are revoked
	handled()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := ended(t, p); code != exitFine {
		t.Errorf("after SIGTERM: %v; it said last: %s", p.cmd.ProcessState, p.log.last())
	}
	l.members(1)
}

// The resource kills its member, which its supervisor starts again, until it is quarantined.
func TestTheEvidenceTellsHowSupervisedMembersEnded(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "killer")
	const text = `#!/bin/sh
if test "$DRM_RESOURCE_ID" = bad; then
	read -r _ _ _ agent _ </proc/$PPID/stat # the parent of the guard of this process
	kill -KILL $agent
fi
exec sleep 1000
`
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	agent := append(append([]string{self}, l.args()...), "agent", "--id", "a", "--lease-ttl", "10m", "--allocate-only",
		"--quarantine-after", "2", "--handler-exec", program)
	p := runUnder(t, append(l.args(), "--backoff", "1ms"), agent...)
	l.members(1)
	l.ok("allocate", "--id", "bad")
	var found assignmentJSON
	eventually(t, func() error {
		if found = get[assignmentJSON](l, "lookup", "bad"); found.State != "quarantined" {
			return fmt.Errorf("%+v", found)
		}
		return nil
	})
	if n := strings.Count(found.Error, "(signal: killed)"); n != 2 {
		t.Errorf("the evidence is %q, want it to tell twice of the signal", found.Error)
	}
	if pids := p.pids(); len(pids) != 3 {
		t.Errorf("the command was started %d times, want 3", len(pids))
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := ended(t, p); code != exitFine {
		t.Errorf("exit code %d after SIGTERM; it said last: %s", code, p.log.last())
	}
}

func TestBenchTakeoverTellsItsFigures(t *testing.T) {
	t.Parallel()
	got := drmctl(t.Context(), "bench", bench.Takeover, "--resources", "50", "--runs", "1", "-o", "json")
	var results []benchJSON
	if err := json.Unmarshal([]byte(got.stdout), &results); err != nil || len(results) != 1 {
		t.Fatalf("exit code %d, error %v, stdout %s, stderr %s", got.code, err, got.stdout, got.stderr)
	}
	for _, f := range []string{
		"resources", "runs", "raw_p50_ms", "raw_p99_ms", "supervised_p50_ms", "supervised_p99_ms", "alone_p50_ms",
		"alone_p99_ms", "above_raw_ms",
	} {
		if v, has := results[0].Figures[f]; !has || v <= 0 {
			t.Errorf("%s is %v", f, v)
		}
	}
	if f := results[0].Figures; f["supervised_p99_ms"] > f["alone_p50_ms"] {
		t.Errorf("the supervisor makes a takeover slower: %v", f)
	}
}
