//go:build linux || darwin

package handler_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// restarted starts a process of a kind, which has all its time to end, and ends its context as Manager.Reannounce does.
func (ch *children) restarted(kind string) (e *handler.Exec, before *peer) {
	ch.t.Helper()
	e = ch.newExec(handler.ExecConfig{Grace: time.Hour}, kind)
	ctx, cancel := context.WithCancelCause(ch.t.Context())
	ch.handle(ctx, e, claim("a", 1))
	before = ch.next()
	cancel(drm.CauseServiceRestarted)
	return e, before
}

// What is handled again at once, as after Manager.Reannounce, meets a process that is ending. It has its grace.
func TestExecHandleWaitsForTheProcessThatIsEnding(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e, before := ch.restarted("polite")
	if said := await(t, before.said, "SIGTERM"); said != "term" {
		t.Errorf("the process said %q", said)
	}
	handled := make(chan error, 1)
	go func() { handled <- e.Handle(t.Context(), claim("a", 1)) }()
	select {
	case err := <-handled:
		t.Errorf("Handle returned while the process before was ending: %v", err)
	case p := <-ch.arrivals:
		t.Errorf("process %d was started beside the one before", p.PID)
	case <-time.After(50 * time.Millisecond):
	}
	before.tell(t, "go on")
	fine(t, await(t, handled, "Handle"))
	after := ch.next()
	await(t, before.gone, "the process before to be gone")
	go func() {
		if await(t, after.said, "SIGTERM") == "term" {
			after.tell(t, "go on")
		}
	}()
	fine(t, e.Terminate(t.Context(), claim("a", 1)))
}

func TestExecHandleThatCannotWaitLeavesTheRestToTerminate(t *testing.T) {
	t.Parallel()
	ch := newChildren(t)
	e, before := ch.restarted("stubborn")
	await(t, before.said, "SIGTERM")
	short, end := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, drm.CauseTimeout)
	defer end()
	err := e.Handle(short, claim("a", 1))
	if !errors.Is(err, drm.ErrOutcomeUnknown) || !errors.Is(err, handler.ErrRunning) {
		t.Errorf("Handle: %v", err)
	}
	before.alive(t)
	late, over := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, drm.CauseTimeout)
	defer over()
	fine(t, e.Terminate(late, claim("a", 1))) // by SIGKILL
	await(t, before.gone, "the process to be killed")
}
