package handler

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
)

// Middleware makes a handler of a handler. Those of this package keep Update and FinishesCalls exactly where the
// wrapped one has them.
type Middleware func(drm.Handler) drm.Handler

// Chain wraps h in all of ms; the first one is the outermost, which is called first.
func Chain(h drm.Handler, ms ...Middleware) drm.Handler {
	for i := len(ms) - 1; i >= 0; i-- {
		h = ms[i](h)
	}
	return h
}

// Timeout bounds each call of a handler more tightly than the drm.Config does for all: handle is for Handle and Update,
// terminate for Terminate; 1 ms to 24 h each, or drm.Forever; else the error is a *drm.InputError. Past it the call's
// context ends with drm.CauseTimeout; the call is waited for, however long that takes, since a resource must never have
// two at once. After a Handle in time, its context lives on as DRM's does. After one that was late, the wrapped
// handler's Terminate is called, as DRM would, and the error matches drm.CauseTimeout.
func Timeout(handle, terminate time.Duration) (Middleware, error) {
	for _, limit := range []struct {
		field string
		d     time.Duration
	}{{"handle", handle}, {"terminate", terminate}} {
		if limit.d == drm.Forever {
			continue
		}
		if limit.d == 0 {
			return nil, &drm.InputError{Field: limit.field, Value: "0s", Want: "1ms to 24h, or drm.Forever"}
		}
		if _, err := checkDuration(limit.field, limit.d, 0, minDuration); err != nil {
			return nil, err
		}
	}
	return func(h drm.Handler) drm.Handler {
		f := funcsOf(h)
		f.Terminate = func(ctx context.Context, c drm.Claim) error {
			ctx, cancel := context.WithTimeoutCause(ctx, terminate, drm.CauseTimeout)
			defer cancel()
			return h.Terminate(ctx, c)
		}
		f.Handle = func(ctx context.Context, c drm.Claim) error {
			late, err := within(ctx, handle, func(ctx context.Context) error { return h.Handle(ctx, c) })
			if late && ctx.Err() == nil { // if DRM gave up as well, it calls Terminate itself
				err = terminated(err, f.Terminate(ctx, c))
			}
			return err
		}
		if update := f.Update; update != nil {
			f.Update = func(ctx context.Context, c drm.Claim) error {
				_, err := within(ctx, handle, func(ctx context.Context) error { return update(ctx, c) })
				return err
			}
		}
		return New(f)
	}, nil
}

// terminated adds to the error of a Handle what came of the Terminate after it. Where that failed too, the handler may
// have the resource still, and DRM is to call Terminate again.
func terminated(err, terminate error) error {
	if terminate != nil {
		err = errors.Join(err, terminate, drm.ErrOutcomeUnknown)
	}
	return err
}

// within calls f with a context that ends after d, unless f returned before: then it lives for as long as ctx.
func within(ctx context.Context, d time.Duration, f func(context.Context) error) (late bool, err error) {
	inner, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(d, func() { cancel(drm.CauseTimeout) })
	defer timer.Stop()
	err = f(inner)
	if timer.Stop() {
		if err != nil {
			cancel(err)
		}
		return false, err
	}
	cancel(drm.CauseTimeout) // the timer's own may still be under way
	return true, errors.Join(fmt.Errorf("%w (limit %v)", drm.CauseTimeout, d), err)
}

// DefaultRetryAttempts is how many times Retry tries a Handle in all.
const DefaultRetryAttempts = 3

// RetryConfig is what Retry needs to know. A value out of its range is a *drm.InputError.
type RetryConfig struct {
	// Attempts is how many times a Handle is tried in all. Default 3; 2 to 1000.
	Attempts int
	// Backoff is the pause after the first failure; it doubles with each further one up to BackoffMax, and is moved by
	// up to a fifth at random. Default 1 s; 1 ms to 24 h.
	Backoff time.Duration
	// BackoffMax bounds that pause. Default 1 min, or Backoff if that is more; Backoff to 24 h.
	BackoffMax time.Duration
}

// Retry calls Handle again when it returned an error, within one Handle of DRM, which so learns of the last error only.
// It is for failures that pass within drm.Config.HandleTimeout; DRM itself tries again after that. It stops when the
// context ends. After an attempt of unknown outcome (drm.ErrOutcomeUnknown) Terminate is called before the next one, as
// DRM would; where that fails, there is none. DRM does not end the context for a move or a stop where the wrapped
// handler is a drm.Finisher (a Webhook): these then wait for the attempts that are left.
func Retry(cfg RetryConfig) (Middleware, error) {
	attempts := cfg.Attempts
	if attempts == 0 {
		attempts = DefaultRetryAttempts
	}
	if attempts < 2 || attempts > 1000 {
		return nil, &drm.InputError{Field: "Attempts", Value: strconv.Itoa(attempts), Want: "2 to 1000"}
	}
	first, most, err := checkBackoff(cfg.Backoff, cfg.BackoffMax)
	if err != nil {
		return nil, err
	}
	return func(h drm.Handler) drm.Handler {
		f := funcsOf(h)
		f.Handle = func(ctx context.Context, c drm.Claim) error {
			pauses := newBackoff(first, most)
			for n := 1; ; n++ {
				err := h.Handle(ctx, c)
				if err == nil {
					return nil
				}
				unknown := errors.Is(err, drm.ErrOutcomeUnknown)
				if unknown && n < attempts && ctx.Err() == nil { // as DRM would; after the last one it does
					end := h.Terminate(ctx, c)
					err, unknown = errors.Join(err, end), end != nil
				}
				if n == attempts || unknown || !pauses.Wait(ctx) {
					return fmt.Errorf("attempt %d of %d: %w", n, attempts, err)
				}
			}
		}
		return New(f)
	}, nil
}

// Recover turns panics of the wrapped handler into *drm.PanicError, so that middleware around it (Retry, say) sees
// errors. DRM itself survives panics without it. After a Handle that panicked the wrapped handler's Terminate is
// called, as DRM would. HandleFailed and TerminateFailed return nothing: their panics are given to report, if not nil.
func Recover(report func(error)) Middleware {
	return func(h drm.Handler) drm.Handler {
		f := funcsOf(h)
		f.Terminate = func(ctx context.Context, c drm.Claim) error {
			return protect(func() error { return h.Terminate(ctx, c) })
		}
		f.Handle = func(ctx context.Context, c drm.Claim) error {
			panicked := true
			err := protect(func() error {
				err := h.Handle(ctx, c)
				panicked = false
				return err
			})
			if panicked {
				err = terminated(err, f.Terminate(ctx, c))
			}
			return err
		}
		if update := f.Update; update != nil {
			f.Update = func(ctx context.Context, c drm.Claim) error {
				return protect(func() error { return update(ctx, c) })
			}
		}
		notify := func(call func()) {
			if err := protect(func() error { call(); return nil }); err != nil && report != nil {
				report(err)
			}
		}
		f.HandleFailed = func(ctx context.Context, c drm.Claim, err error) {
			notify(func() { h.HandleFailed(ctx, c, err) })
		}
		f.TerminateFailed = func(ctx context.Context, c drm.Claim, err error) {
			notify(func() { h.TerminateFailed(ctx, c, err) })
		}
		return New(f)
	}
}

// Log writes one line per call: successes at info level, and failures, once DRM reports them to HandleFailed or
// TerminateFailed, at warn level. A line has ids, the token and how long the call took, never the resource's data. Put
// it outside of Retry to have one line per Handle. A nil logger writes nothing.
func Log(logger *zap.Logger) Middleware {
	if logger == nil {
		logger = zap.NewNop()
	}
	return func(h drm.Handler) drm.Handler {
		f := funcsOf(h)
		timed := func(message string, call func(context.Context, drm.Claim) error) func(context.Context, drm.Claim) error {
			return func(ctx context.Context, c drm.Claim) error {
				began := time.Now()
				err := call(ctx, c)
				if err == nil {
					logger.Info(message, append(claimFields(c), zap.Duration("took", time.Since(began)))...)
				}
				return err
			}
		}
		f.Handle = timed("handled", h.Handle)
		f.Terminate = timed("terminated", h.Terminate)
		if f.Update != nil {
			f.Update = timed("updated", f.Update)
		}
		f.HandleFailed = func(ctx context.Context, c drm.Claim, err error) {
			logger.Warn("handle failed", append(claimFields(c), zap.Error(err))...)
			h.HandleFailed(ctx, c, err)
		}
		f.TerminateFailed = func(ctx context.Context, c drm.Claim, err error) {
			logger.Warn("terminate failed", append(claimFields(c), zap.Error(err))...)
			h.TerminateFailed(ctx, c, err)
		}
		return New(f)
	}
}

func claimFields(c drm.Claim) []zap.Field {
	return []zap.Field{
		zap.String("app", c.App), zap.String("member", c.Member),
		zap.String("resource", c.Resource.ID), zap.Int64("token", c.Token),
	}
}
