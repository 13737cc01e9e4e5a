package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// lab runs commands about one app on an etcd of its own.
type lab struct {
	t      *testing.T
	global []string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	return &lab{
		t, []string{"--endpoints", embeddedtest.Server(t).Endpoint(), "--app", "lab", "--command-timeout", "30s"},
	}
}

// args returns the global flags. Callers may append to them.
func (l *lab) args() []string { return slices.Clone(l.global) }

// agent starts a member that lives until the test ends or stop is called.
func (l *lab) agent(id string, args ...string) (lines <-chan string, stop func() int) {
	l.t.Helper()
	return begin(l.t, append(append(l.args(), "agent", "--id", id, "--lease-ttl", "20s"), args...)...)
}

// ok runs a command that must succeed, and returns what it prints.
func (l *lab) ok(args ...string) string {
	l.t.Helper()
	got := drmctl(l.t.Context(), append(l.args(), args...)...)
	if got.code != exitFine {
		l.t.Fatalf("%s: exit code %d: %s", strings.Join(args, " "), got.code, got.stderr)
	}
	checkConforms(l.t, args, got.stdout)
	return got.stdout
}

// prints runs a command that must print just this JSON.
func (l *lab) prints(want string, args ...string) {
	l.t.Helper()
	if got := l.ok(append([]string{"-o", "json"}, args...)...); got != want+"\n" {
		l.t.Errorf("%s printed %s, want %s", strings.Join(args, " "), got, want)
	}
}

// fails runs a command that must fail with one line and an exit code.
func (l *lab) fails(code int, args ...string) {
	l.t.Helper()
	got := drmctl(l.t.Context(), append(l.args(), args...)...)
	if got.code != code {
		l.t.Errorf("%s: exit code %d, want %d", strings.Join(args, " "), got.code, code)
	}
	checkOneLine(l.t, got.stderr)
}

// get returns the JSON that a command prints. It is the zero value while there is no app.
func get[T any](l *lab, args ...string) T {
	l.t.Helper()
	var v T
	got := drmctl(l.t.Context(), append(append(l.args(), "-o", "json"), args...)...)
	if got.code == exitNotFound && strings.Contains(got.stderr, "no such app") {
		return v
	}
	if got.code != exitFine {
		l.t.Fatalf("%s: exit code %d: %s", strings.Join(args, " "), got.code, got.stderr)
	}
	out := got.stdout
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		l.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return v
}

// eventually waits until check returns no error, and fails with its last error if it never does.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// members waits until there are n active members.
func (l *lab) members(n int) {
	l.t.Helper()
	eventually(l.t, func() error {
		active := 0
		list := get[[]memberJSON](l, "members")
		for _, m := range list {
			if m.State == "active" {
				active++
			}
		}
		if active != n {
			return fmt.Errorf("members %+v, want %d active", list, n)
		}
		return nil
	})
}

func TestCommandsOperateLiveMembers(t *testing.T) {
	t.Parallel()
	l := newLab(t)

	// There is no member yet: an allocation is kept for the one that comes.
	if got := get[[]memberJSON](l, "members"); len(got) != 0 {
		t.Errorf("members %v", got)
	}
	l.prints(`{"resource":"early","allocated":true}`, "allocate", "--id", "early", "--create")
	if got := get[assignmentJSON](l, "lookup", "early"); got.State != "unassigned" || got.Error == "" ||
		got.Since != nil {
		t.Errorf("before any member: %+v, want unassigned, with a reason", got)
	}

	lines, stop := l.agent("m1", "--allocate-only", "--handler-log")
	_, _ = l.agent("m2", "--allocate-only", "--handler-log", "--weight", "2", "--address", "here:1",
		"--member-version", "2.1")
	l.members(2)

	// Allocate in every form.
	file := filepath.Join(t.TempDir(), "r.json")
	if err := os.WriteFile(file, []byte(`{"id":"from-file","n":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--id", "early"},
		{"--id", "plain"},
		{"--id=-dash"},
		{"--id", "a/b c"},
		{"--data", `{"id":"from-data","x":{"y":[1]}}`},
		{"--data", "@" + file},
		{"--id", "both", "--data", `{"x":1}`},
	} {
		a := get[assignmentJSON](l, append([]string{"--wait", "allocate"}, args...)...)
		if a.State != "active" || a.Token == 0 || a.Since == nil || a.Member == "" || a.Member != a.Expected {
			t.Errorf("allocate %q: %+v", args, a)
		}
	}
	got := drmctlWith(t.Context(), `{"id":"from-stdin"}`, append(l.args(), "allocate", "--data", "-")...)
	if got.code != exitFine {
		t.Errorf("allocate from stdin: %+v", got)
	}

	assignment := strings.TrimSpace(l.ok("-o", "json", "lookup", "plain"))
	l.prints(assignment, "allocate", "--id", "plain", "--wait")

	// Look at the app.
	if a := get[assignmentJSON](l, "lookup", "--", "-dash"); a.Resource != "-dash" {
		t.Errorf("lookup: %+v", a)
	}
	l.fails(exitNotFound, "lookup", "nope")
	l.fails(exitNotFound, "deallocate", "nope")
	l.fails(exitNotFound, "drain", "nobody")
	all := get[[]assignmentJSON](l, "assignments")
	if len(all) != 8 {
		t.Errorf("assignments: %+v, want 8", all)
	}
	eventually(t, func() error { // nothing has waited for from-stdin
		if un := get[[]assignmentJSON](l, "assignments", "--unassigned"); len(un) != 0 {
			return fmt.Errorf("unassigned: %+v", un)
		}
		return nil
	})
	for _, r := range get[[]map[string]any](l, "resources") {
		if r["origin"] != "allocated" || r["state"] != "wanted" {
			t.Errorf("resource %v", r)
		}
	}
	eventually(t, func() error {
		if s := get[statusJSON](l, "status"); s.App != "lab" || s.Members != 2 || s.Resources != 8 || s.Active != 8 ||
			s.Revision == 0 {
			return fmt.Errorf("status: %+v", s)
		}
		return nil
	})
	for _, m := range get[[]memberJSON](l, "members") {
		if m.ID == "m2" && (m.Weight != 2 || len(m.Slots) != 2 || m.Address != "here:1" || m.Started == nil ||
			m.Version != "2.1") {
			t.Errorf("member %+v", m)
		}
	}

	// Drain.
	l.prints(`{"member":"m1","drained":true,"done":true}`, "drain", "m1", "--wait", "--wait-timeout", "1m")
	if held := get[[]assignmentJSON](l, "assignments", "--member", "m1"); len(held) != 0 {
		t.Errorf("drained, but holds %+v", held)
	}
	if m := get[[]memberJSON](l, "members"); m[0].State != "draining" || m[0].Drain != "ordered" ||
		m[0].Resources != 0 {
		t.Errorf("a drained member: %+v", m[0])
	}
	l.prints(`{"member":"m1","drained":true,"done":false}`, "drain", "m1")
	l.prints(`{"member":"m1","drained":false,"done":false}`, "undrain", "m1")
	l.prints(`{"member":"m1","drained":false,"done":true}`, "undrain", "--wait", "m1")
	if m := get[[]memberJSON](l, "members"); m[0].State != "active" || m[0].Shards == 0 || m[0].Drain != "" {
		t.Errorf("an undrained member: %+v", m[0])
	}

	// Deallocate.
	l.prints(`{"resource":"plain","allocated":false,"gone":false}`, "deallocate", "plain")
	for _, a := range all {
		if a.Resource != "plain" {
			l.prints(fmt.Sprintf(`{"resource":%q,"allocated":false,"gone":true}`, a.Resource),
				"deallocate", "--wait", "--", a.Resource)
		}
	}
	if s := get[statusJSON](l, "status"); s.Resources != 0 || s.Active != 0 {
		t.Errorf("status, all deallocated: %+v", s)
	}
	eventually(t, func() error { // nothing has waited for plain
		if all := get[[]assignmentJSON](l, "assignments"); len(all) != 0 {
			return fmt.Errorf("assignments, all deallocated: %+v", all)
		}
		return nil
	})

	if code := stop(); code != exitFine {
		t.Errorf("agent: exit code %d", code)
	}
	l.members(1)
	actions := make(map[string]int)
	for line := range lines {
		var call struct{ Action string }
		if err := json.Unmarshal([]byte(line), &call); err != nil {
			t.Errorf("--handler-log printed %q: %v", line, err)
		}
		actions[call.Action]++
	}
	if actions["handle"] == 0 || actions["handle"] != actions["terminate"] {
		t.Errorf("m1 was told to %v, want as many terminates as handles", actions)
	}
}

func TestWaitTimeoutIsExitCode1(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	got := drmctl(t.Context(), append(l.args(), "allocate", "--id", "r", "--create", "--wait",
		"--wait-timeout", "1s")...)
	if got.code != exitFailed {
		t.Errorf("exit code %d, want %d", got.code, exitFailed)
	}
	checkOneLine(t, got.stderr, "--wait-timeout", "1s", "it is unassigned: there is no live member")
}

func TestAgentWhoseIDIsTakenEndsWithExitCode1(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.agent("m1", "--allocate-only", "--handler-log")
	l.members(1)
	l.fails(exitFailed, "agent", "--id", "m1", "--lease-ttl", "2s", "--allocate-only", "--handler-log",
		"--log-level", "error")
}

func TestAgentRunsAProcessPerResourceOfAFile(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("--handler-exec is for Unix")
	}
	l, dir := newLab(t), t.TempDir()
	file := filepath.Join(dir, "source.json")
	if err := os.WriteFile(file, []byte(`{"data":[{"id":"r1","x":1},{"id":"r2"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "run.sh")
	text := `trap 'echo "$DRM_MEMBER" > "$1/$DRM_RESOURCE_ID.end"; exit 0' TERM
cat > "$1/tmp.$DRM_RESOURCE_ID" && mv "$1/tmp.$DRM_RESOURCE_ID" "$1/$DRM_RESOURCE_ID"
while :; do sleep 0.1; done
`
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stop := l.agent("m1", "--source-file", file, "--poll", "0",
		"--handler-exec", fmt.Sprintf("sh '%s' '%s'", script, dir))
	for id, want := range map[string]string{"r1": `{"id":"r1","x":1}`, "r2": `{"id":"r2"}`} {
		eventually(t, func() error {
			got, err := os.ReadFile(filepath.Join(dir, id))
			if err == nil && strings.TrimSpace(string(got)) != want {
				t.Fatalf("%s was given %s, want %s", id, got, want)
			}
			return err
		})
	}
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d", code)
	}
	for _, id := range []string{"r1", "r2"} {
		if got, err := os.ReadFile(filepath.Join(dir, id+".end")); err != nil ||
			strings.TrimSpace(string(got)) != "m1" {
			t.Errorf("the process of %s was not told to end: %q, %v", id, got, err)
		}
	}
}

// A program that ends by itself is started again under the same claim. Its resource shows as failed until the program
// has run for a while.
func TestAProcessThatEndsByItselfShowsAsFailed(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("--handler-exec is for Unix")
	}
	l, dir := newLab(t), t.TempDir()
	script, mended := filepath.Join(dir, "run.sh"), filepath.Join(dir, "mended")
	if err := os.WriteFile(script, []byte(`[ -e "$1" ] || exit 3; exec sleep 1000`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stop := l.agent("m1", "--allocate-only", "--log-level", "error",
		"--handler-exec", fmt.Sprintf("sh '%s' '%s'", script, mended))
	l.ok("allocate", "--id", "r", "--create")
	var failed []assignmentJSON
	eventually(t, func() error {
		if failed = get[[]assignmentJSON](l, "assignments", "--failed"); len(failed) != 1 {
			return fmt.Errorf("failed: %+v, want r", failed)
		}
		return nil
	})
	if a := failed[0]; a.State != "failed" || !strings.Contains(a.Error, "exit status 3") || a.Member != "m1" ||
		a.Token == 0 {
		t.Errorf("%+v, want the exit status as the error of m1's claim", a)
	}
	if err := os.WriteFile(mended, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if a := get[assignmentJSON](l, "lookup", "r"); a.State != "active" || a.Error != "" ||
			a.Token != failed[0].Token {
			return fmt.Errorf("%+v, want it active under token %d", a, failed[0].Token)
		}
		return nil
	})
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d", code)
	}
}
