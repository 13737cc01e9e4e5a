//go:build linux || darwin

package handler_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// slowly is handler.ExecConfig.Handle in a goroutine of its own.
func slowly(ctx context.Context, e *handler.Exec, c drm.Claim) <-chan error {
	handled := make(chan error, 1)
	go func() { handled <- e.Handle(ctx, c) }()
	return handled
}

// pending checks that a call has not returned.
func pending(t *testing.T, call <-chan error, why string) {
	t.Helper()
	select {
	case err := <-call:
		t.Fatalf("it has returned %v, though %s", err, why)
	default:
	}
}

func TestExecWaitsForALineOfTheOutput(t *testing.T) {
	t.Parallel()
	for name, output := range map[string]handler.Output{
		"raw": handler.OutputRaw, "prefix": handler.OutputPrefix, "none": handler.OutputNone,
	} {
		for _, pattern := range []string{"^listening on [0-9]+$", "^err: listening on "} {
			t.Run(name+" "+pattern, func(t *testing.T) {
				t.Parallel()
				ch := newChildren(t)
				var out, errs safeBuffer
				e := ch.newExec(handler.ExecConfig{ReadyLine: pattern, Output: output, Stdout: &out, Stderr: &errs})
				handled := slowly(t.Context(), e, claim("a", 1))
				p := ch.next()
				for _, line := range []string{"starting", "listening on nothing yet"} {
					if strings.HasPrefix(pattern, "^err") && strings.HasPrefix(line, "listening") {
						continue
					}
					p.tell(t, "print "+line)
					await(t, p.said, "an answer")
				}
				pending(t, handled, "no line has matched")
				p.tell(t, "print listening on 80")
				if err := await(t, handled, "Handle"); err != nil {
					t.Fatal(err)
				}
				await(t, p.said, "an answer")
				p.tell(t, "print more")
				await(t, p.said, "an answer, though the line was found")
				if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
					t.Error(err)
				}
				if err := e.Close(t.Context()); err != nil {
					t.Error(err)
				}
				want := map[string][2]string{
					"raw":    {"listening on 80\nmore\n", "err: listening on 80\nerr: more\n"},
					"prefix": {"[a] listening on 80\n[a] more\n", "[a] err: listening on 80\n[a] err: more\n"},
					"none":   {},
				}[name]
				if !strings.HasSuffix(out.String(), want[0]) || !strings.HasSuffix(errs.String(), want[1]) ||
					name == "none" && out.String()+errs.String() != "" {
					t.Errorf("printed %q and %q, want %q", out.String(), errs.String(), want)
				}
			})
		}
	}
}

// safeBuffer may be written to by several goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestExecWaitsForANotification(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/that/of/the/agent")
	t.Setenv("WATCHDOG_USEC", "1000")
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{Notify: true})
	handled := slowly(t.Context(), e, claim("a", 1))
	p := ch.next()
	var sockets []string
	for _, pair := range p.Env {
		if strings.HasPrefix(pair, "NOTIFY_SOCKET=") || strings.HasPrefix(pair, "WATCHDOG_") {
			sockets = append(sockets, pair)
		}
	}
	if len(sockets) != 1 || strings.Contains(sockets[0], "agent") {
		t.Errorf("its environment has %q", sockets)
	}
	p.tell(t, `notify "STATUS=READY=1 soon\nMAINPID=1"`)
	await(t, p.said, "an answer")
	pending(t, handled, "nothing has said READY=1")
	p.tell(t, `notify "STATUS=up\nREADY=1"`)
	if err := await(t, handled, "Handle"); err != nil {
		t.Fatal(err)
	}
	await(t, p.said, "an answer")
	p.tell(t, `notify "READY=1"`) // once more, which changes nothing
	await(t, p.said, "an answer")
	if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
		t.Error(err)
	}
}

// A program may take NOTIFY_SOCKET out of its environment, as sd_notify does when it is told to. What it leaves behind
// still belongs to its resource.
func TestWhatANotifyingProcessLeavesBehindIsKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux adopts what has left its group")
	}
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{Notify: true, Grace: time.Millisecond}, "daemon")
	begin := func(id string) map[string]*peer {
		handled := slowly(t.Context(), e, claim(id, 1))
		all := ch.named(2)
		all["child"].tell(t, `notify "READY=1"`)
		if err := await(t, handled, "Handle"); err != nil {
			t.Fatal(err)
		}
		return all
	}
	a, b := begin("a"), begin("b") // without b the guard would end, and everything with it
	if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
		t.Error(err)
	}
	await(t, a["daemon"].gone, "the daemon to be killed")
	b["daemon"].alive(t)
}

// readyWays are the ways in which a process can be ready.
var readyWays = map[string]handler.ExecConfig{
	"line":   {ReadyLine: "^up$", Output: handler.OutputNone},
	"notify": {Notify: true},
}

func TestAProcessThatEndsBeforeItIsReadyIsAFailedHandle(t *testing.T) {
	t.Parallel()
	for name, cfg := range readyWays {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ch := newChildren(t)
			e := ch.newExec(cfg)
			handled := slowly(t.Context(), e, claim("a", 1))
			ch.next().tell(t, "exit 3")
			err := await(t, handled, "Handle")
			if err == nil || errors.Is(err, drm.ErrOutcomeUnknown) || !strings.Contains(err.Error(), "not ready") ||
				!strings.Contains(err.Error(), "exit status 3") {
				t.Errorf("Handle: %v", err)
			}
			handled = slowly(t.Context(), e, claim("a", 1)) // it is DRM that tries again
			ch.next().tell(t, "exit 4")
			if err := await(t, handled, "Handle"); err == nil || !strings.Contains(err.Error(), "exit status 4") {
				t.Errorf("Handle: %v", err)
			}
		})
	}
}

// Whatever ends the wait, Terminate ends the process, and has its usual time for that.
func TestAProcessThatIsNotReadyInTimeIsLeftToTerminate(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(cfg *handler.ExecConfig, cancel context.CancelCauseFunc, p *peer){
		"ready timeout": func(*handler.ExecConfig, context.CancelCauseFunc, *peer) {},
		"handle timeout": func(_ *handler.ExecConfig, cancel context.CancelCauseFunc, _ *peer) {
			cancel(drm.CauseTimeout)
		},
		"moved": func(_ *handler.ExecConfig, cancel context.CancelCauseFunc, _ *peer) { cancel(drm.CauseMoved) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ch := newChildren(t)
			cfg := handler.ExecConfig{Notify: true, Grace: time.Hour}
			want := "is not ready"
			if name == "ready timeout" {
				cfg.ReadyTimeout = time.Millisecond
				want = "not ready within 1ms"
			}
			e := ch.newExec(cfg, "polite")
			ctx, cancel := context.WithCancelCause(t.Context())
			handled := slowly(ctx, e, claim("a", 1))
			p := ch.next()
			end(&cfg, cancel, p)
			err := await(t, handled, "Handle")
			if !errors.Is(err, drm.ErrOutcomeUnknown) || !strings.Contains(err.Error(), want) {
				t.Errorf("Handle: %v", err)
			}
			if ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
				t.Errorf("Handle: %v does not say %v", err, context.Cause(ctx))
			}
			ended := make(chan error, 1)
			go func() { ended <- e.Terminate(t.Context(), claim("a", 1)) }()
			if said := await(t, p.said, "SIGTERM"); said != "term" {
				t.Errorf("the process said %q", said)
			}
			pending(t, ended, "the process has not ended")
			p.tell(t, "go on")
			if err := await(t, ended, "Terminate"); err != nil {
				t.Error(err)
			}
			await(t, p.gone, "the process to end")
		})
	}
}

func TestAProcessThatIsStartedAgainIsFailedUntilItIsReady(t *testing.T) {
	t.Parallel()
	for name, cfg := range readyWays {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := map[string]string{"line": "print up", "notify": `notify "READY=1"`}[name]
			ch := newChildren(t)
			cfg.Backoff, cfg.ReadyTimeout = time.Millisecond, drm.Forever
			e := ch.newExec(cfg)
			reports := make(reporting, 64)
			handled := slowly(t.Context(), e, drm.NewClaim("app", "m1", drm.Resource{ID: "a"}, 1, reports))
			first := ch.next()
			first.tell(t, up)
			if err := await(t, handled, "Handle"); err != nil {
				t.Fatal(err)
			}
			first.tell(t, "exit 3")
			if err := await(t, reports, "a report"); err == nil || !strings.HasSuffix(err.Error(), "exit status 3") {
				t.Errorf("reported %v", err)
			}
			second := ch.next()
			if err := await(t, reports, "a report"); err == nil ||
				!strings.Contains(err.Error(), "exit status 3; process ") ||
				!strings.HasSuffix(err.Error(), "was started in its place, and is not ready yet") {
				t.Errorf("reported %v", err)
			}
			second.alive(t)
			if len(reports) > 0 {
				t.Errorf("reported %v before it is ready", <-reports)
			}
			second.tell(t, up)
			if err := await(t, reports, "a report"); err != nil {
				t.Errorf("it is ready, and %v is reported", err)
			}
		})
	}
}

func TestAProcessThatIsStartedAgainAndNotReadyInTimeIsReplaced(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	told := make(chan error, 64)
	e := ch.newExec(handler.ExecConfig{
		Notify: true, Backoff: time.Millisecond, ReadyTimeout: 500 * time.Millisecond,
		OnExit: func(_ drm.Claim, err error) { told <- err },
	})
	var first *peer
	for { // on a busy machine, the first one may be too late as well
		handled := slowly(t.Context(), e, claim("a", 1))
		first = ch.next()
		first.tell(t, `notify "READY=1"`)
		if err := await(t, handled, "Handle"); err == nil {
			break
		}
		if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
			t.Fatal(err)
		}
	}
	first.tell(t, "exit 0")
	if err := await(t, told, "OnExit"); err == nil || !strings.Contains(err.Error(), "exit status 0") {
		t.Errorf("OnExit was told %v", err)
	}
	second := ch.next()
	await(t, second.gone, "the second process, which is not ready, to be ended")
	if err := await(t, told, "OnExit"); err == nil || !strings.Contains(err.Error(), "not ready within 500ms") {
		t.Errorf("OnExit was told %v", err)
	}
	ch.next()
}

// failing is a validity that is told when a claim fails.
type failing struct {
	reporting
	fails chan error
}

func (f failing) Fail(err error) { f.fails <- err }

func TestExecGivesUpAProcessThatStaysStopped(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{StoppedTimeout: 20 * time.Millisecond, Grace: time.Hour}, "polite")
	told := failing{make(reporting, 8), make(chan error, 8)}
	c := drm.NewClaim("app", "m1", drm.Resource{ID: "a"}, 1, told)
	ch.handle(t.Context(), e, c)
	p := ch.next()
	p.alive(t)
	if err := syscall.Kill(p.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := await(t, told.reporting, "a report"); err == nil {
		t.Error("the state is not failed")
	}
	if err := await(t, told.fails, "the claim to fail"); err == nil ||
		!strings.Contains(err.Error(), "is stopped (SIGSTOP) since ") ||
		!strings.HasSuffix(err.Error(), "and did not go on for 20ms") {
		t.Errorf("the claim failed because of %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- e.Terminate(t.Context(), c) }()
	if said := await(t, p.said, "SIGTERM"); said != "term" { // it goes on, so that it can end in order
		t.Errorf("the process said %q", said)
	}
	p.tell(t, "go on")
	if err := await(t, ended, "Terminate"); err != nil {
		t.Error(err)
	}
	if len(told.fails) > 0 {
		t.Error("it failed once more")
	}
}

func TestAProcessThatIsStoppedBeforeItIsReadyIsAFailedHandle(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e := ch.newExec(handler.ExecConfig{Notify: true, ReadyTimeout: drm.Forever, StoppedTimeout: time.Millisecond})
	handled := slowly(t.Context(), e, claim("a", 1))
	p := ch.next()
	if err := syscall.Kill(p.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := await(t, handled, "Handle"); !errors.Is(err, drm.ErrOutcomeUnknown) ||
		!strings.Contains(err.Error(), "stopped for 1ms") {
		t.Errorf("Handle: %v", err)
	}
	if err := e.Terminate(t.Context(), claim("a", 1)); err != nil {
		t.Error(err)
	}
	await(t, p.gone, "the process to end")
}

// A writer that hangs must not keep Close waiting for ever.
func TestExecCloseDoesNotWaitForAWriterThatHangs(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	defer close(free)
	blocked := writerFunc(func(b []byte) (int, error) { <-free; return len(b), nil })
	e := must[*handler.Exec](t)(handler.NewExec(handler.ExecConfig{
		Command: []string{"sh", "-c", "echo up; exec sleep 1000"}, ReadyLine: "up", Stdout: blocked, Stderr: io.Discard,
		Grace: time.Millisecond,
	}))
	if err := e.Handle(t.Context(), claim("a", 1)); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheReadyLineMayBeLongOrLast(t *testing.T) {
	t.Parallel()
	for script, ok := range map[string]bool{
		`printf 'u'; printf 'p\r\n'; exec sleep 1000`:                         true,
		`head -c 20000 /dev/zero | tr '\0' x; echo; echo up; exec sleep 1000`: true,
		`printf up; exit 0`: false, // a line that has no end might go on
	} {
		e := must[*handler.Exec](t)(handler.NewExec(handler.ExecConfig{
			Command: []string{"sh", "-c", script}, ReadyLine: "^up$", Output: handler.OutputNone,
			Grace: time.Millisecond,
		}))
		if err := e.Handle(t.Context(), claim("a", 1)); (err == nil) != ok {
			t.Errorf("%s: %v", script, err)
		}
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
