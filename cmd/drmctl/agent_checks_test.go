//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// checkedAgent starts an agent with a script for each resource, which writes its process id into the folder, and a
// check, which fails for a process for which there is a file. pid returns the number of a resource's process.
func checkedAgent(l *lab, dir string, more ...string) (pid func(id string) int) {
	t := l.t
	script, check := filepath.Join(dir, "run.sh"), filepath.Join(dir, "check.sh")
	for path, text := range map[string]string{
		script: `echo "$$" > "$1/tmp.$$" && mv "$1/tmp.$$" "$1/$DRM_RESOURCE_ID"
test -z "$NOTIFY_SOCKET" || exit 9
echo "ready to go"
exec sleep 1000
`,
		check: `test ! -e "$1/hung.$DRM_PID" && exit 0
echo "no heartbeat"
exit 1
`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.agent("m1", append([]string{
		"--allocate-only", "--handler-exec", fmt.Sprintf("sh '%s' '%s'", script, dir),
		"--check-exec", fmt.Sprintf("sh '%s' '%s'", check, dir), "--exec-ready-line", "^ready", "--exec-output", "none",
	}, more...)...)
	return func(id string) int {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, id))
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

func TestAnAgentReplacesAProcessThatHangsOrIsStopped(t *testing.T) {
	t.Parallel()
	l, dir := newLab(t), t.TempDir()
	pid := checkedAgent(l, dir, "--check-interval", "200ms", "--check-failures", "2", "--check-timeout", "30s",
		"--exec-stopped-timeout", "200ms")
	ids := []string{"r1", "r2", "r3"}
	for _, id := range ids {
		l.ok("allocate", "--id", id, "--create", "--wait")
	}
	before := map[string]int{}
	for _, id := range ids {
		before[id] = pid(id)
	}
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("hung.", before["r1"])), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stopped, err := os.FindProcess(before["r2"])
	if err == nil {
		err = stopped.Signal(syscall.SIGSTOP)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids[:2] {
		eventually(t, func() error {
			if pid(id) == before[id] {
				return fmt.Errorf("%s still has process %d", id, before[id])
			}
			return nil
		})
	}
	l.active(ids...)
	if now := pid("r3"); now != before["r3"] {
		t.Errorf("r3 had process %d, and now has %d", before["r3"], now)
	}
}
