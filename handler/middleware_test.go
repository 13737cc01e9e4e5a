package handler_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestNewHasUpdateOnlyIfGiven(t *testing.T) {
	h := handler.New(handler.Funcs{})
	if _, ok := h.(drm.Updater); ok {
		t.Error("a handler without Update is an Updater")
	}
	ctx := t.Context()
	h.HandleFailed(ctx, claim("a", 1), nil)
	h.TerminateFailed(ctx, claim("a", 1), nil)
	if err := errors.Join(h.Handle(ctx, claim("a", 1)), h.Terminate(ctx, claim("a", 1))); err != nil {
		t.Errorf("functions that are not given fail: %v", err)
	}
	h = handler.New(handler.Funcs{Update: func(context.Context, drm.Claim) error { return nil }})
	if _, ok := h.(drm.Updater); !ok {
		t.Error("a handler with Update is no Updater")
	}
}

func TestMiddlewarePassesEverythingOnAndKeepsUpdater(t *testing.T) {
	all := []handler.Middleware{
		must[handler.Middleware](t)(handler.Timeout(time.Minute, drm.Forever)),
		must[handler.Middleware](t)(handler.Retry(handler.RetryConfig{})),
		handler.Recover(nil),
		handler.Log(nil),
	}
	for _, updates := range []bool{false, true} {
		var calls []string
		call := func(name string) func(context.Context, drm.Claim) error {
			return func(context.Context, drm.Claim) error { calls = append(calls, name); return nil }
		}
		told := func(name string) func(context.Context, drm.Claim, error) {
			return func(context.Context, drm.Claim, error) { calls = append(calls, name) }
		}
		f := handler.Funcs{
			Handle:          call("h"),
			Terminate:       call("t"),
			HandleFailed:    told("hf"),
			TerminateFailed: told("tf"),
		}
		if updates {
			f.Update = call("u")
		}
		h := handler.Chain(handler.New(f), all...)
		u, ok := h.(drm.Updater)
		if ok != updates {
			t.Fatalf("wrapped handler is an Updater: %v, want %v", ok, updates)
		}
		ctx, c := t.Context(), claim("a", 1)
		want := []string{"h", "hf", "t", "tf"}
		err := h.Handle(ctx, c)
		h.HandleFailed(ctx, c, nil)
		err = errors.Join(err, h.Terminate(ctx, c))
		h.TerminateFailed(ctx, c, nil)
		if updates {
			want = append(want, "u")
			err = errors.Join(err, u.Update(ctx, c))
		}
		if err != nil || !slices.Equal(calls, want) {
			t.Errorf("calls %v, want %v: %v", calls, want, err)
		}
	}
}

func TestMiddlewareKeepsFinishesCalls(t *testing.T) {
	hook := must[*handler.Webhook](t)(handler.NewWebhook(handler.WebhookConfig{URL: "http://localhost/"}))
	updates := func(context.Context, drm.Claim) error { return nil }
	for name, tc := range map[string]struct {
		h    drm.Handler
		want bool
	}{
		"a webhook":                    {hook, true},
		"functions":                    {handler.New(handler.Funcs{}), false},
		"functions that say so":        {handler.New(handler.Funcs{FinishesCalls: true}), true},
		"functions with Update":        {handler.New(handler.Funcs{Update: updates}), false},
		"with Update, and that say so": {handler.New(handler.Funcs{Update: updates, FinishesCalls: true}), true},
		"a printer":                    {handler.NewPrinter(io.Discard), false},
	} {
		for middleware, m := range map[string]handler.Middleware{
			"nothing": func(h drm.Handler) drm.Handler { return h },
			"Timeout": must[handler.Middleware](t)(handler.Timeout(time.Minute, drm.Forever)),
			"Retry":   must[handler.Middleware](t)(handler.Retry(handler.RetryConfig{})),
			"Recover": handler.Recover(nil),
			"Log":     handler.Log(nil),
		} {
			f, ok := handler.Chain(tc.h, m, m).(drm.Finisher)
			if got := ok && f.FinishesCalls(); got != tc.want {
				t.Errorf("%s in %s finishes its calls: %v, want %v", name, middleware, got, tc.want)
			}
		}
	}
}

func TestMiddlewareKeepsTheCheck(t *testing.T) {
	wedged := errors.New("wedged")
	checks := func(context.Context, drm.Claim) error { return wedged }
	updates := func(context.Context, drm.Claim) error { return nil }
	for name, tc := range map[string]struct {
		h    drm.Handler
		want error
	}{
		"functions":             {handler.New(handler.Funcs{}), errors.ErrUnsupported},
		"functions with Check":  {handler.New(handler.Funcs{Check: checks}), wedged},
		"with Check and Update": {handler.New(handler.Funcs{Check: checks, Update: updates}), wedged},
		"a printer":             {handler.NewPrinter(io.Discard), errors.ErrUnsupported},
	} {
		for middleware, m := range map[string]handler.Middleware{
			"Timeout": must[handler.Middleware](t)(handler.Timeout(time.Minute, drm.Forever)),
			"Retry":   must[handler.Middleware](t)(handler.Retry(handler.RetryConfig{})),
			"Recover": handler.Recover(nil),
			"Log":     handler.Log(nil),
		} {
			c, ok := handler.Chain(tc.h, m, m).(drm.Checker)
			if !ok {
				t.Errorf("%s in %s is no drm.Checker", name, middleware)
			} else if err := c.Check(t.Context(), claim("a", 1)); !errors.Is(err, tc.want) {
				t.Errorf("%s in %s: %v, want %v", name, middleware, err, tc.want)
			}
		}
	}
}

func TestTimeoutKeepsTheContextOfAHandleInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var handled context.Context
		h := must[handler.Middleware](t)(handler.Timeout(time.Second, time.Second))(handler.New(handler.Funcs{
			Handle: func(ctx context.Context, _ drm.Claim) error { handled = ctx; return nil },
		}))
		ctx, cancel := context.WithCancelCause(t.Context())
		if err := h.Handle(ctx, claim("a", 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if handled.Err() != nil {
			t.Fatalf("the context ended after Handle returned: %v", context.Cause(handled))
		}
		cancel(drm.CauseMoved)
		if cause := context.Cause(handled); !errors.Is(cause, drm.CauseMoved) {
			t.Errorf("the context ended with %v", cause)
		}
	})
}

func TestTimeoutOfHandleWaitsForItThenTerminates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []string
		h := must[handler.Middleware](t)(handler.Timeout(time.Second, time.Minute))(handler.New(handler.Funcs{
			Handle: func(ctx context.Context, _ drm.Claim) error {
				<-ctx.Done()
				time.Sleep(time.Second) // it cleans up
				calls = append(calls, context.Cause(ctx).Error())
				return nil // a success that came too late
			},
			Terminate: func(ctx context.Context, _ drm.Claim) error {
				calls = append(calls, "terminate")
				return ctx.Err()
			},
			Update: func(ctx context.Context, _ drm.Claim) error { <-ctx.Done(); return context.Cause(ctx) },
		}))
		err := h.Handle(t.Context(), claim("a", 1))
		if !errors.Is(err, drm.CauseTimeout) || !slices.Equal(calls, []string{drm.CauseTimeout.Error(), "terminate"}) {
			t.Errorf("calls %v: %v", calls, err)
		}
		if err := h.(drm.Updater).Update(t.Context(), claim("a", 1)); !errors.Is(err, drm.CauseTimeout) {
			t.Errorf("Update: %v", err)
		}
		calls = nil
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := h.Handle(ctx, claim("a", 2)); len(calls) != 1 {
			t.Errorf("when DRM gives up first it terminates, not the middleware: %v: %v", calls, err)
		}
	})
}

func TestTimeoutOfTerminate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := must[handler.Middleware](t)(handler.Timeout(drm.Forever, time.Second))(handler.New(handler.Funcs{
			Terminate: func(ctx context.Context, _ drm.Claim) error { <-ctx.Done(); return context.Cause(ctx) },
		}))
		if err := h.Terminate(t.Context(), claim("a", 1)); !errors.Is(err, drm.CauseTimeout) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRetryStopsAtSuccessAttemptsOrContext(t *testing.T) {
	boom := errors.New("boom")
	for _, tc := range []struct {
		name             string
		fails, wantCalls int
		timeout          time.Duration
		wantErr          error
	}{
		{"success at once", 0, 1, time.Hour, nil},
		{"success at last", 3, 4, time.Hour, nil},
		{"all attempts", 9, 4, time.Hour, boom},
		{"context ends in a pause", 9, 2, 2 * time.Second, boom},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				h := must[handler.Middleware](t)(handler.Retry(handler.RetryConfig{Attempts: 4, Backoff: time.Second}))(
					handler.New(handler.Funcs{Handle: func(context.Context, drm.Claim) error {
						if calls++; calls <= tc.fails {
							return boom
						}
						return nil
					}}))
				ctx, cancel := context.WithTimeout(t.Context(), tc.timeout)
				defer cancel()
				if err := h.Handle(ctx, claim("a", 1)); !errors.Is(err, tc.wantErr) || calls != tc.wantCalls {
					t.Errorf("%d calls, want %d: %v", calls, tc.wantCalls, err)
				}
			})
		})
	}
}

func TestRecoverTurnsPanicsIntoErrors(t *testing.T) {
	var reported []error
	terminated := 0
	h := handler.Recover(func(err error) { reported = append(reported, err) })(handler.New(handler.Funcs{
		Handle:          func(context.Context, drm.Claim) error { panic("h") },
		HandleFailed:    func(context.Context, drm.Claim, error) { panic("hf") },
		Terminate:       func(context.Context, drm.Claim) error { terminated++; panic("t") },
		TerminateFailed: func(context.Context, drm.Claim, error) { panic("tf") },
		Update:          func(context.Context, drm.Claim) error { panic("u") },
	}))
	ctx, c := t.Context(), claim("a", 1)
	var panicked *drm.PanicError
	err := h.Handle(ctx, c)
	if !errors.As(err, &panicked) || panicked.Value != "h" || terminated != 1 {
		t.Errorf("Handle: %v, then terminated %d times", err, terminated)
	}
	if err := h.(drm.Updater).Update(ctx, c); !errors.As(err, &panicked) || panicked.Value != "u" {
		t.Errorf("Update: %v", err)
	}
	if err := h.Terminate(ctx, c); !errors.As(err, &panicked) || panicked.Value != "t" || len(panicked.Stack) == 0 {
		t.Errorf("Terminate: %v", err)
	}
	h.HandleFailed(ctx, c, nil)
	h.TerminateFailed(ctx, c, nil)
	if len(reported) != 2 {
		t.Errorf("reported %v", reported)
	}
}

func TestLogHasIDsAndTokensAndNoData(t *testing.T) {
	core, lines := observer.New(zapcore.DebugLevel)
	boom := errors.New("boom")
	h := handler.Log(zap.New(core))(handler.New(handler.Funcs{
		Update: func(context.Context, drm.Claim) error { return boom },
	}))
	ctx, c := t.Context(), claim("res-7", 42)
	_ = h.Handle(ctx, c)
	_ = h.(drm.Updater).Update(ctx, c)
	h.HandleFailed(ctx, c, boom)
	_ = h.Terminate(ctx, c)
	h.TerminateFailed(ctx, c, boom)
	var got []string
	enc := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	for _, line := range lines.All() {
		got = append(got, line.Message)
		buf, err := enc.EncodeEntry(line.Entry, line.Context)
		if err != nil {
			t.Fatal(err)
		}
		text := buf.String()
		if strings.Contains(text, "s3cret") || !strings.Contains(text, "res-7") || !strings.Contains(text, "42") {
			t.Errorf("line %s", text)
		}
	}
	if want := []string{"handled", "handle failed", "terminated", "terminate failed"}; !slices.Equal(got, want) {
		t.Errorf("lines %v, want %v", got, want)
	}
}

func TestMiddlewareRefusesBadConfig(t *testing.T) {
	_, err := handler.Timeout(0, time.Second)
	wantInputError(t, err, "handle")
	_, err = handler.Timeout(time.Second, -1)
	wantInputError(t, err, "terminate")
	_, err = handler.Retry(handler.RetryConfig{Attempts: 1})
	wantInputError(t, err, "Attempts")
	_, err = handler.Retry(handler.RetryConfig{Backoff: 48 * time.Hour})
	wantInputError(t, err, "Backoff")
}

// After an attempt of unknown outcome, Retry calls Terminate before the next attempt. If Terminate fails, Retry leaves
// the rest to DRM.
func TestRetryTerminatesWhatMayHaveBegun(t *testing.T) {
	for name, tc := range map[string]struct {
		end  error
		want string
	}{
		"terminated":     {nil, "handle, terminate, handle"},
		"not terminated": {errors.New("no answer"), "handle, terminate"},
	} {
		var calls []string
		retry := must[handler.Middleware](t)(handler.Retry(handler.RetryConfig{Attempts: 2, Backoff: time.Millisecond}))
		h := retry(handler.New(handler.Funcs{
			Handle: func(context.Context, drm.Claim) error {
				calls = append(calls, "handle")
				return drm.ErrOutcomeUnknown
			},
			Terminate: func(context.Context, drm.Claim) error { calls = append(calls, "terminate"); return tc.end },
		}))
		if err := h.Handle(t.Context(), claim("a", 1)); !errors.Is(err, drm.ErrOutcomeUnknown) {
			t.Errorf("%s: %v", name, err)
		}
		if got := strings.Join(calls, ", "); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// If the Terminate after a late Handle, or after one that panicked, fails, DRM must learn that something may be left.
func TestMiddlewareTellsOfATerminateThatFailed(t *testing.T) {
	late := must[handler.Middleware](t)(handler.Timeout(time.Millisecond, time.Minute))
	for name, tc := range map[string]struct {
		m      handler.Middleware
		handle func(context.Context) error
	}{
		"Timeout": {late, func(ctx context.Context) error { <-ctx.Done(); return nil }},
		"Recover": {handler.Recover(nil), func(context.Context) error { panic("no") }},
	} {
		for _, end := range []error{nil, errors.New("cannot")} {
			h := tc.m(handler.New(handler.Funcs{
				Handle:    func(ctx context.Context, _ drm.Claim) error { return tc.handle(ctx) },
				Terminate: func(context.Context, drm.Claim) error { return end },
			}))
			if err := h.Handle(t.Context(), claim("a", 1)); err == nil ||
				errors.Is(err, drm.ErrOutcomeUnknown) != (end != nil) {
				t.Errorf("%s, Terminate returns %v: %v", name, end, err)
			}
		}
	}
}
