package scenario_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// silentReceiver returns the address of a receiver that accepts connections, and never answers.
func silentReceiver(tb testing.TB) string {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = listener.Close() }) // the kernel completes connections that nobody accepts
	return "http://" + listener.Addr().String() + "/"
}

// silentHook is a Webhook whose requests go to a silentReceiver.
func silentHook(tb testing.TB) *handler.Webhook {
	tb.Helper()
	hook, err := handler.NewWebhook(handler.WebhookConfig{URL: silentReceiver(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(hook.Close)
	return hook
}

// assignmentOf returns what a client sees of a resource.
func (w *world) assignmentOf(id string) drm.Assignment {
	w.tb.Helper()
	a, err := w.client().Lookup(w.tb.Context(), id)
	if err != nil {
		w.tb.Fatal(err)
	}
	return a
}

// While a receiver does not answer, the resource shows since when it is asked, and why the try before failed.
func TestAReceiverThatNeverAnswersShows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config("a", silentHook(t))
	cfg.HandleTimeout, cfg.TerminateTimeout, cfg.HandleBackoff = 2500*time.Millisecond, time.Second, time.Millisecond
	w.start(cfg)
	w.allocate("r")
	var seen drm.Assignment
	shows := func(state drm.State, parts ...string) {
		t.Helper()
		await(t, strings.Join(parts, " … "), func() bool {
			seen = w.assignmentOf("r")
			for _, part := range parts {
				if !strings.Contains(seen.Error, part) {
					return false
				}
			}
			return seen.State == state
		})
	}
	shows(drm.StateClaimed, "handle has been running since 2")
	if strings.Contains(seen.Error, "try") {
		t.Errorf("of the first try: %s", seen.Error)
	}
	shows(drm.StateFailed, "call timed out after 2.5s", "no answer came")
	shows(drm.StateFailed, "handle has been running since 2", "; try 2; the last one: drm: call timed out after 2.5s: ",
		"no answer came")
}

// A failure shows while the receiver, or the handler, is still being told of it.
func TestAFailureShowsWhileItIsTold(t *testing.T) {
	t.Parallel()
	w, told := newWorld(t), make(chan struct{})
	cfg := w.config("a", handler.New(handler.Funcs{
		Handle: func(context.Context, drm.Claim) error { return errNo },
		HandleFailed: func(context.Context, drm.Claim, error) {
			select {
			case <-told:
			case <-time.After(patience):
				t.Error("it does not show")
			}
		},
	}))
	cfg.TerminateTimeout = time.Hour
	w.start(cfg)
	w.allocate("r")
	await(t, "it shows", func() bool {
		a := w.assignmentOf("r")
		return a.State == drm.StateFailed && a.Error == errNo.Error()
	})
	close(told)
}

// A stop waits for the answer to a Handle, but leaves enough time for Terminate. Nothing waits long for a notification.
func TestAStopIsOverInItsTimeThoughTheReceiverNeverAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg := w.config("a", silentHook(t))
	cfg.HandleTimeout, cfg.TerminateTimeout, cfg.StopTimeout = 20*time.Minute, 2*time.Second, 8*time.Second
	m := w.startOnly(cfg)
	w.allocate("r")
	await(t, "r is claimed", func() bool { return w.assignmentOf("r").State == drm.StateClaimed })
	began := time.Now()
	if err := m.Stop(context.Background()); err != nil {
		t.Errorf("stop after %v: %v", time.Since(began), err)
	}
	if left := w.keysWith("/claims/"); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

var errNo = errors.New("no")

// finisher is a handler that wants its calls to be finished.
type finisher struct{ drm.Handler }

func (finisher) FinishesCalls() bool { return true }

// A stop does not wait for a notification in progress for as long as the member does at other times.
func TestAStopDoesNotWaitForNotifications(t *testing.T) {
	t.Parallel()
	w, telling := newWorld(t), make(chan struct{}, 10)
	cfg := w.config("a", finisher{handler.New(handler.Funcs{
		Handle:       func(context.Context, drm.Claim) error { return errNo },
		HandleFailed: func(ctx context.Context, _ drm.Claim, _ error) { telling <- struct{}{}; <-ctx.Done() },
	})})
	cfg.TerminateTimeout, cfg.StopTimeout = time.Hour, time.Hour
	m := w.startOnly(cfg)
	w.allocate("r")
	<-telling
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.Stop(ctx); err != nil || ctx.Err() != nil {
		t.Errorf("stop: %v", err)
	}
}
