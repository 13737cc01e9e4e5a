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

// Middleware wraps a handler in another one. With the middleware of this package, the result has an Update exactly if
// the wrapped handler has one, and the FinishesCalls, the Instance and the Check of the wrapped handler.
type Middleware func(drm.Handler) drm.Handler

// Chain wraps h in all of ms. The first of ms is the outermost, and is called first.
func Chain(h drm.Handler, ms ...Middleware) drm.Handler {
	for i := len(ms) - 1; i >= 0; i-- {
		h = ms[i](h)
	}
	return h
}

// Timeout bounds each call of one handler more tightly than drm.Config bounds the calls of all. handle is the limit of
// Handle and of Update, terminate that of Terminate: 1 ms to 24 h each, or drm.Forever. Another value is a
// *drm.InputError.
//
// When the limit has passed, the call's context ends with drm.CauseTimeout. Timeout then waits for the call, however
// long that takes, because a resource must never have two calls at once. After a Handle that returned in time, its
// context lives as long as the one that DRM gave. After a late Handle, Timeout calls the wrapped handler's Terminate,
// as DRM would, and the error matches drm.CauseTimeout.
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
			if late && ctx.Err() == nil { // else DRM has given up as well, and calls Terminate itself
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

// terminated adds to the error of a Handle the error of the Terminate that followed it. If Terminate failed too, the
// handler may still have something of the resource, so drm.ErrOutcomeUnknown makes DRM call Terminate again.
func terminated(err, terminate error) error {
	if terminate != nil {
		err = errors.Join(err, terminate, drm.ErrOutcomeUnknown)
	}
	return err
}

// within calls f with a context that ends after d. If f returns before that without an error, the context lives as long
// as ctx.
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
	cancel(drm.CauseTimeout) // the cancel of the timer may not have been called yet
	return true, errors.Join(fmt.Errorf("%w (limit %v)", drm.CauseTimeout, d), err)
}

// DefaultRetryAttempts is the default number of attempts of Retry, including the first one.
const DefaultRetryAttempts = 3

// RetryConfig configures Retry, which refuses a value out of its range with a *drm.InputError. Zero values stand for
// the defaults.
type RetryConfig struct {
	// Attempts is how many times Handle is called at most, including the first time. Default 3; 2 to 1000.
	Attempts int
	// Backoff is the pause after the first failure. It doubles with each further failure up to BackoffMax, and is moved
	// by up to a fifth at random. Default 1 s; 1 ms to 24 h.
	Backoff time.Duration
	// BackoffMax is the longest pause. Default 1 min, or Backoff if that is longer; Backoff to 24 h.
	BackoffMax time.Duration
}

// Retry calls Handle again when it returns an error. All attempts are one Handle for DRM, which learns only of the last
// error. Retry is for failures that pass within drm.Config.HandleTimeout; DRM itself tries again after that. Retry
// stops when the context ends.
//
// After an attempt of unknown outcome (drm.ErrOutcomeUnknown), Retry calls Terminate before the next attempt, as DRM
// would. If that fails, there is no next attempt. If the wrapped handler is a drm.Finisher (a Webhook, say), DRM does
// not end the context when the resource moves or the member stops, so the move or the stop waits for the attempts that
// are left.
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
				if unknown && n < attempts && ctx.Err() == nil { // after the last attempt, DRM calls Terminate
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

// Recover turns panics of the wrapped handler into *drm.PanicError, so that middleware around Recover (Retry, say) gets
// an error. DRM itself survives panics without it. After a Handle that panicked, Recover calls the wrapped handler's
// Terminate, as DRM would. HandleFailed and TerminateFailed return nothing, so their panics are passed to report, which
// may be nil.
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
		if check := f.Check; check != nil {
			f.Check = func(ctx context.Context, c drm.Claim) error {
				return protect(func() error { return check(ctx, c) })
			}
		}
		if instance := f.Instance; instance != nil {
			f.Instance = func(ctx context.Context) (name string, err error) {
				err = protect(func() (err error) {
					name, err = instance(ctx)
					return err
				})
				return name, err
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

// Log writes one line per call: a success at info level, and a failure at warn level when DRM reports it to
// HandleFailed or TerminateFailed. A line has the fields app, member, resource (its id) and token, and took for a
// success or error for a failure. It never has the resource's data. To get one line per Handle of DRM, put Log outside
// of Retry. A nil logger writes nothing.
func Log(logger *zap.Logger) Middleware {
	if logger == nil {
		logger = zap.NewNop()
	}
	return func(h drm.Handler) drm.Handler {
		f := funcsOf(h)
		type method func(ctx context.Context, c drm.Claim) error
		timed := func(message string, call method) method {
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
