package handler_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// slowEnd is a function for a Loop that takes a while to end. It fails the test if it runs twice at once.
func slowEnd(t *testing.T, ending time.Duration) (run func(context.Context, drm.Claim) error, tokens *[]int64) {
	t.Helper()
	busy, tokens := false, new([]int64)
	return func(ctx context.Context, c drm.Claim) error {
		if busy {
			t.Error("it runs twice at once")
		}
		busy = true
		defer func() { busy = false }()
		*tokens = append(*tokens, c.Token)
		<-ctx.Done()
		time.Sleep(ending)
		return nil
	}, tokens
}

// running makes a Loop whose function runs for resource a, and takes a while to end. restart ends its context as
// Manager.Reannounce does.
func running(t *testing.T, ending time.Duration) (l *handler.Loop, tokens *[]int64, restart func()) {
	t.Helper()
	run, tokens := slowEnd(t, ending)
	l = newLoop(t, run, handler.LoopConfig{})
	ctx, cancel := context.WithCancelCause(t.Context())
	fine(t, l.Handle(ctx, claim("a", 1)))
	synctest.Wait()
	return l, tokens, func() { cancel(drm.CauseServiceRestarted) }
}

// What is handled again at once, as after Manager.Reannounce, meets a function that is ending.
func TestLoopHandleWaitsForTheFunctionThatIsEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, tokens, restart := running(t, 5*time.Second)
		if err := l.Handle(t.Context(), claim("a", 2)); !errors.Is(err, handler.ErrRunning) ||
			errors.Is(err, drm.ErrOutcomeUnknown) {
			t.Errorf("Handle while nobody has asked it to end: %v", err)
		}
		restart()
		began := time.Now()
		fine(t, l.Handle(t.Context(), claim("a", 3)))
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("Handle has taken %v", took)
		}
		synctest.Wait()
		if n := len(*tokens); n != 2 || (*tokens)[1] != 3 {
			t.Errorf("it ran for %v", *tokens)
		}
		fine(t, l.Close(t.Context()))
	})
}

// A Handle that does not live to see the end of the function before has begun nothing. But its error makes DRM call
// Terminate, which waits for that function: the claim must not go before.
func TestLoopHandleThatCannotWaitLeavesTheRestToTerminate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, tokens, restart := running(t, time.Minute)
		restart()
		short, end := context.WithTimeoutCause(t.Context(), 10*time.Second, drm.CauseTimeout)
		defer end()
		err := l.Handle(short, claim("a", 1))
		if !errors.Is(err, drm.ErrOutcomeUnknown) || !errors.Is(err, handler.ErrRunning) ||
			!errors.Is(err, drm.CauseTimeout) {
			t.Errorf("Handle: %v", err)
		}
		began := time.Now()
		fine(t, l.Terminate(t.Context(), claim("a", 1)))
		if took := time.Since(began); took != 50*time.Second {
			t.Errorf("Terminate has taken %v", took)
		}
		if len(*tokens) != 1 {
			t.Errorf("it ran for %v", *tokens)
		}
	})
}

func TestLoopHandleThatWaitsIsRefusedAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, restart := running(t, time.Minute)
		restart()
		go func() { fine(t, l.Close(t.Context())) }()
		if err := l.Handle(t.Context(), claim("a", 1)); !errors.Is(err, handler.ErrClosed) {
			t.Errorf("Handle: %v", err)
		}
		synctest.Wait()
	})
}
