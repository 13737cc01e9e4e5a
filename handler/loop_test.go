package handler_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

func newLoop(t *testing.T, run func(context.Context, drm.Claim) error, cfg handler.LoopConfig) *handler.Loop {
	t.Helper()
	l, err := handler.NewLoop(run, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLoopRunsUntilTerminate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		l := newLoop(t, func(ctx context.Context, _ drm.Claim) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil
		}, handler.LoopConfig{OnReturn: func(drm.Claim, error) { t.Error("OnReturn was told of an ordered end") }})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if err := l.Handle(ctx, claim("a", 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := l.Terminate(ctx, claim("a", 1)); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(cause, handler.CauseTerminate) {
			t.Errorf("the function's context ended with %v", cause)
		}
		if err := l.Terminate(ctx, claim("a", 1)); err != nil {
			t.Errorf("Terminate of what does not run: %v", err)
		}
	})
}

func TestLoopEndsWithTheClaimAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		causes := make(chan error, 1)
		l := newLoop(t, func(ctx context.Context, _ drm.Claim) error {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return ctx.Err()
		}, handler.LoopConfig{})
		ctx, cancel := context.WithCancelCause(t.Context())
		if err := l.Handle(ctx, claim("a", 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel(drm.CauseFenced)
		if cause := <-causes; !errors.Is(cause, drm.CauseFenced) {
			t.Errorf("the function's context ended with %v", cause)
		}
		synctest.Wait()
		if err := l.Handle(t.Context(), claim("a", 2)); err != nil {
			t.Errorf("the next claim of the resource: %v", err)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestLoopRestartsWithGrowingPauses(t *testing.T) {
	boom := errors.New("boom")
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Time
		var told []error
		l := newLoop(t, func(ctx context.Context, _ drm.Claim) error {
			starts = append(starts, time.Now())
			switch len(starts) {
			case 1:
				return nil
			case 2:
				return boom
			case 3:
				panic("ouch")
			case 4:
				time.Sleep(8 * time.Second) // as long as BackoffMax, after which the next pause is Backoff again
				return boom
			}
			<-ctx.Done()
			return nil
		}, handler.LoopConfig{
			Backoff:    time.Second,
			BackoffMax: 8 * time.Second,
			OnReturn: func(_ drm.Claim, err error) {
				told = append(told, err)
				panic("OnReturn panics too")
			},
		})
		if err := l.Handle(t.Context(), claim("a", 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := l.Terminate(t.Context(), claim("a", 1)); err != nil {
			t.Fatal(err)
		}
		if len(starts) != 5 {
			t.Fatalf("started %d times, want 5", len(starts))
		}
		for i, want := range []time.Duration{1, 2, 4, 8 + 1} {
			got := starts[i+1].Sub(starts[i])
			if least, most := want*time.Second*7/10, want*time.Second*13/10; got < least || got > most {
				t.Errorf("pause %d is %v, want about %d s", i, got, want)
			}
		}
		var panicked *drm.PanicError
		if len(told) != 4 || told[0] != nil || !errors.Is(told[1], boom) || !errors.As(told[2], &panicked) {
			t.Errorf("OnReturn was told %v", told)
		}
	})
}

// reports is a Validity that keeps all reports with their times.
type reports struct {
	began time.Time
	mu    sync.Mutex
	all   []report
}

type report struct {
	after time.Duration
	text  string
}

func (r *reports) Remaining() time.Duration { return time.Hour }

func (r *reports) Report(err error) {
	text := "well"
	if err != nil {
		text, _, _ = strings.Cut(err.Error(), "\n")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, report{time.Since(r.began), text})
}

func TestLoopReportsAFailureUntilItHasRunForAsLongAsThePauseWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		l := newLoop(t, func(ctx context.Context, _ drm.Claim) error {
			switch runs++; runs {
			case 1:
				return errors.New("boom")
			case 2: // it runs for less than the pause before it
				time.Sleep(time.Second / 2)
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}, handler.LoopConfig{Backoff: time.Second})
		r := &reports{began: time.Now()}
		c := drm.NewClaim("app", "m", drm.Resource{ID: "a"}, 1, r)
		if err := l.Handle(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := l.Terminate(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if len(r.all) != 3 || r.all[0].text != "boom" || !strings.HasPrefix(r.all[1].text, "returned") ||
			r.all[2].text != "well" {
			t.Fatalf("reported %v, want two failures, and that all is well", r.all)
		}
		// The pauses are one and two seconds, each a fifth shorter or longer.
		if again := r.all[2].after - r.all[1].after; again < 2*1600*time.Millisecond ||
			again > 2*2400*time.Millisecond {
			t.Errorf("all was well again %v after the second failure, want the pause of about 2 s twice", again)
		}
	})
}

func TestLoopTerminateDuringAPauseIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, func(context.Context, drm.Claim) error { return nil },
			handler.LoopConfig{Backoff: time.Hour})
		if err := l.Handle(t.Context(), claim("a", 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		if err := l.Terminate(t.Context(), claim("a", 1)); err != nil || time.Since(began) != 0 {
			t.Errorf("Terminate took %v: %v", time.Since(began), err)
		}
	})
}

func TestLoopThatHangsFailsTerminateAndBlocksTheNextHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := newLoop(t, func(context.Context, drm.Claim) error { <-release; return nil }, handler.LoopConfig{})
		if err := l.Handle(t.Context(), claim("a", 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, drm.CauseTimeout)
		defer cancel()
		began := time.Now()
		err := l.Terminate(ctx, claim("a", 1))
		if !errors.Is(err, handler.ErrRunning) || !errors.Is(err, drm.CauseTimeout) ||
			time.Since(began) != 30*time.Second {
			t.Errorf("Terminate after %v: %v", time.Since(began), err)
		}
		next, cancelNext := context.WithTimeoutCause(t.Context(), time.Second, drm.CauseTimeout)
		defer cancelNext()
		err = l.Handle(next, claim("a", 2))
		if !errors.Is(err, handler.ErrRunning) || !errors.Is(err, drm.CauseTimeout) {
			t.Errorf("Handle while the earlier run goes on: %v", err)
		}
		other := drm.NewClaim("app", "m2", claim("a", 3).Resource, 3, nil)
		if err := l.Handle(t.Context(), other); err != nil {
			t.Errorf("another member of the process is hindered: %v", err)
		}
		synctest.Wait()
		if err := l.Close(ctx); !errors.Is(err, handler.ErrRunning) {
			t.Errorf("Close while runs hang: %v", err)
		}
		close(release)
		if err := l.Terminate(t.Context(), claim("a", 1)); err != nil {
			t.Errorf("Terminate once it can end: %v", err)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := l.Handle(t.Context(), claim("b", 1)); !errors.Is(err, handler.ErrClosed) {
			t.Errorf("Handle after Close: %v", err)
		}
	})
}

// A function that ends its goroutine counts as one that has returned, and is started again; so does one whose error has
// methods that end it.
func TestLoopStartsAgainWhatEndedItsGoroutine(t *testing.T) {
	for name, run := range map[string]func() error{
		"the function":    func() error { runtime.Goexit(); return nil },
		"its error":       func() error { return goexitError{} },
		"a nil pointer":   func() error { var p *drm.PanicError; return p },
		"an error's type": func() error { return unwrapPanics{} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runs, reports := 0, &errorReader{}
				l := newLoop(t, func(ctx context.Context, _ drm.Claim) error {
					runs++
					if runs == 1 {
						return run()
					}
					<-ctx.Done()
					return unwrapPanics{}
				}, handler.LoopConfig{OnReturn: func(drm.Claim, error) { runtime.Goexit() }})
				c := drm.NewClaim("app", "m", drm.Resource{ID: "a"}, 1, reports)
				if err := l.Handle(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if runs != 2 {
					t.Errorf("it ran %d times", runs)
				}
				if err := l.Terminate(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// errorReader receives reports and reads the texts of their errors, as a manager does.
type errorReader struct{}

func (*errorReader) Remaining() time.Duration { return time.Hour }

func (*errorReader) Report(err error) {
	if err != nil {
		_ = err.Error()
	}
}

type goexitError struct{}

func (goexitError) Error() string { runtime.Goexit(); return "" }

type unwrapPanics struct{}

func (unwrapPanics) Error() string { return "why" }
func (unwrapPanics) Unwrap() error { panic("unwrap") }

func TestLoopRefusesBadConfig(t *testing.T) {
	run := func(context.Context, drm.Claim) error { return nil }
	_, err := handler.NewLoop(nil, handler.LoopConfig{})
	wantInputError(t, err, "run")
	_, err = handler.NewLoop(run, handler.LoopConfig{Backoff: -time.Second})
	wantInputError(t, err, "Backoff")
	_, err = handler.NewLoop(run, handler.LoopConfig{Backoff: time.Second, BackoffMax: time.Millisecond})
	wantInputError(t, err, "BackoffMax")
	_, err = handler.NewLoop(run, handler.LoopConfig{Backoff: 2 * time.Minute})
	if err != nil {
		t.Errorf("a Backoff above the default maximum: %v", err)
	}
}
