//go:build linux || darwin

package handler_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

func TestExecChecksAProcess(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	var out safeBuffer
	e := ch.newExec(handler.ExecConfig{
		Check: []string{os.Args[0], "__child", "name=check"}, Output: handler.OutputPrefix, Stdout: &out, Stderr: &out,
	})
	c := claim("a", 7)
	ch.handle(t.Context(), e, c)
	p := ch.next()
	run := func() (*peer, <-chan error) {
		checked := make(chan error, 1)
		go func() { checked <- e.Check(t.Context(), c) }()
		return ch.next(), checked
	}
	check, checked := run()
	if check.Name != "check" || check.Stdin != p.Stdin || check.PGID != check.PID {
		t.Errorf("the check is %+v", check.hello)
	}
	for _, want := range []string{
		"DRM_RESOURCE_ID=a", "DRM_TOKEN=7", "DRM_MEMBER=m1", "DRM_APP=app",
		"DRM_PID=" + strconv.Itoa(p.PID),
	} {
		if !slices.Contains(check.Env, want) {
			t.Errorf("%s is not in its environment", want)
		}
	}
	check.tell(t, "exit 0")
	if err := await(t, checked, "Check"); err != nil {
		t.Error(err)
	}
	check, checked = run()
	check.tell(t, "print no answer\x1b[31m for 3 s")
	await(t, check.said, "an answer")
	check.tell(t, "exit 1")
	if err := await(t, checked, "Check"); err == nil ||
		!strings.HasSuffix(err.Error(), "ended: exit status 1: err: no answer [31m for 3 s") {
		t.Errorf("Check: %v", err)
	}
	p.alive(t)
	if out.String() != "" {
		t.Errorf("the check's output went to the agent's: %q", out.String())
	}
}

func TestACheckIsKilledWithItsGroupAtItsTimeout(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{
		Check: []string{os.Args[0], "__child", "stubborn", "family"}, Grace: time.Millisecond,
	}, "name=main", "daemon")
	ch.handle(t.Context(), e, claim("a", 1))
	mains := ch.named(2)
	ctx, cancel := context.WithCancelCause(t.Context())
	checked := make(chan error, 1)
	go func() { checked <- e.Check(ctx, claim("a", 1)) }()
	all := ch.named(3)
	cancel(drm.CauseTimeout)
	for _, p := range all {
		await(t, p.gone, p.Name+" to be killed")
	}
	if err := await(t, checked, "Check"); !errors.Is(err, drm.CauseTimeout) {
		t.Errorf("Check: %v", err)
	}
	for _, p := range mains { // also what the process itself has left behind
		p.alive(t)
	}
}

func TestTerminateEndsACheckInProgress(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{Check: []string{os.Args[0], "__child", "stubborn"}})
	ch.handle(t.Context(), e, claim("a", 1))
	ch.next()
	checked := make(chan error, 1)
	go func() { checked <- e.Check(t.Context(), claim("a", 1)) }()
	check := ch.next()
	if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(check.PID, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the check's process lives when Terminate has returned: %v", err)
	}
	if err := await(t, checked, "Check"); err == nil {
		t.Error("a check that was cut off has found that all is well")
	}
	if err := e.Check(t.Context(), claim("a", 1)); err == nil || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a check of what is not handled: %v", err)
	}
}

func TestNothingIsCheckedWhileThereIsNoProcess(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	told := make(chan error, 1)
	e := ch.newExec(handler.ExecConfig{
		Check: []string{"false"}, Backoff: time.Hour, OnExit: func(_ drm.Claim, err error) { told <- err },
	})
	ch.handle(t.Context(), e, claim("a", 1))
	p := ch.next()
	if err := e.Check(t.Context(), claim("a", 1)); err == nil {
		t.Error("false has succeeded")
	}
	p.tell(t, "exit 1")
	if err := await(t, told, "OnExit"); err == nil {
		t.Error("OnExit was told nothing")
	}
	if err := e.Check(t.Context(), claim("a", 1)); err != nil {
		t.Errorf("the process is started again anyway: %v", err)
	}
}

func TestACheckThatCannotBeMadeHasNotFailed(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	told := make(chan error, 1)
	e := ch.newExec(handler.ExecConfig{
		Check: []string{"/no/such/program"}, OnCheckError: func(_ drm.Claim, err error) { told <- err },
	})
	ch.handle(t.Context(), e, claim("a", 1))
	ch.next()
	if err := e.Check(t.Context(), claim("a", 1)); err != nil {
		t.Errorf("Check: %v", err)
	}
	if err := await(t, told, "OnCheckError"); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("OnCheckError was told %v", err)
	}
	without := ch.newExec(handler.ExecConfig{})
	if err := without.Check(t.Context(), claim("a", 1)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without a program: %v", err)
	}
}

func TestACheckDiesWithItsAgent(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	agent, first := startAgent(t, ch, "1h", "checked") // so long that no deadline kills anything
	both := map[string]*peer{first.Name: first}
	second := ch.next()
	both[second.Name] = second
	if both["check"] == nil || both["child"] == nil {
		t.Fatalf("%s and %s were started", first.Name, second.Name)
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, both["check"].gone, "the check to be killed")
	await(t, both["child"].gone, "the process to be killed")
}

// dueSoon is a context that says that it ends soon, and does not.
type dueSoon struct{ context.Context }

func (dueSoon) Deadline() (time.Time, bool) { return time.Now().Add(20 * time.Millisecond), true }

func TestACheckThatIsNotStartedInTimeHasNotFailed(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "hung")
	copyFile(t, program, must[string](t)(exec.LookPath("true")))
	release, _ := hangExec(t, program)
	ch := newChildren(t)
	told := make(chan error, 2)
	e := ch.newExec(handler.ExecConfig{
		Check: []string{program}, StartConcurrency: 1, OnCheckError: func(_ drm.Claim, err error) { told <- err },
	})
	ch.handle(t.Context(), e, claim("a", 1))
	ch.next()
	for range 2 { // the first hangs in exec, and has let go of its turn when the second comes
		if err := e.Check(dueSoon{t.Context()}, claim("a", 1)); err != nil {
			t.Errorf("Check: %v", err)
		}
		if err := await(t, told, "OnCheckError"); err == nil || !strings.Contains(err.Error(), "half of its time") {
			t.Errorf("OnCheckError was told %v", err)
		}
	}
	release()
	if err := e.Check(t.Context(), claim("a", 1)); err != nil {
		t.Errorf("Check: %v", err)
	}
}

func TestACheckThatDiesWithItsGuardHasNotFailed(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	told := make(chan error, 1)
	e := ch.newExec(handler.ExecConfig{
		Check: []string{os.Args[0], "__child", "name=check"}, Backoff: time.Hour,
		OnCheckError: func(_ drm.Claim, err error) { told <- err },
	})
	ch.handle(t.Context(), e, claim("a", 1))
	ch.next()
	checked := make(chan error, 1)
	go func() { checked <- e.Check(t.Context(), claim("a", 1)) }()
	check := ch.next()
	check.tell(t, "kill-parent")
	if err := await(t, checked, "Check"); err != nil {
		t.Errorf("Check: %v", err)
	}
	if err := await(t, told, "OnCheckError"); err == nil || !strings.Contains(err.Error(), "guard process") {
		t.Errorf("OnCheckError was told %v", err)
	}
}
