package handler

import (
	"context"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// LoopConfig configures NewLoop, which refuses a value out of its range with a *drm.InputError. Zero values stand for
// the defaults.
type LoopConfig struct {
	// Backoff is the pause before the function is started again after it returned. It doubles each time up to
	// BackoffMax, and is moved by up to a fifth at random. Once the function has run for BackoffMax without returning,
	// the next pause is Backoff again. Raised, whatever the function depends on gets more rest; lowered, the resource
	// is back sooner after a short failure. Default 1 s; 1 ms to 24 h.
	Backoff time.Duration
	// BackoffMax is the longest pause. Default 1 min, or Backoff if that is longer; Backoff to 24 h.
	BackoffMax time.Duration
	// OnReturn is called before the pause each time the function has returned though it should keep running: with the
	// function's error, which may be nil, or with a *drm.PanicError if it panicked. It also gets panics of a function
	// that is being ended. Optional. It is called from the resource's own goroutine, and the restart waits for it.
	OnReturn func(c drm.Claim, err error)
}

// Loop is a drm.Handler that runs a function for as long as this member has the resource: Handle starts the function
// and returns, Terminate ends its context and waits until it has returned. Whenever the function returns before that,
// Loop starts it again after a pause. The claim's state is failed from the return until the function has run again for
// as long as the pause was.
type Loop struct {
	fn      func(ctx context.Context, c drm.Claim) error
	restart restarter
	tasks   tasks
}

var _ drm.Handler = (*Loop)(nil)

// NewLoop makes a Loop. run should work until ctx ends, and then return as soon as it can. ctx ends when Terminate is
// called (context.Cause is CauseTerminate), or when the claim ends before that (the cause is that of Handle's context).
// run is called for many resources at the same time, but never twice at the same time for one. The error is a
// *drm.InputError that names the field.
func NewLoop(run func(ctx context.Context, c drm.Claim) error, cfg LoopConfig) (*Loop, error) {
	if run == nil {
		return nil, &drm.InputError{Field: "run", Value: "nil", Want: "a function"}
	}
	first, most, err := checkBackoff(cfg.Backoff, cfg.BackoffMax)
	if err != nil {
		return nil, err
	}
	return &Loop{fn: run, restart: restarter{first, most, cfg.OnReturn}}, nil
}

// Handle starts the function. If the function of an earlier Handle of the resource is ending, because an earlier
// Terminate failed or because of drm.Manager.Reannounce, Handle waits until it has returned. If ctx ends before that,
// the error matches ErrRunning and drm.ErrOutcomeUnknown, so that Terminate waits for that function. It matches
// ErrRunning alone if nobody has asked that function to end, and ErrClosed after Close.
func (l *Loop) Handle(ctx context.Context, c drm.Claim) error {
	return l.tasks.start(ctx, c, func(_, _ context.Context) (work, error) {
		return func(ctx, _ context.Context) {
			l.restart.run(ctx, c, c.Report, func(begun func()) error {
				begun()
				return l.fn(ctx, c)
			})
		}, nil
	})
}

// Terminate ends the function's context and waits until the function has returned. If ctx ends before that, the error
// matches ErrRunning: the function still runs, although its context has ended. Another Terminate waits for it again.
func (l *Loop) Terminate(ctx context.Context, c drm.Claim) error { return l.tasks.terminate(ctx, c, 0) }

// HandleFailed does nothing.
func (l *Loop) HandleFailed(context.Context, drm.Claim, error) {}

// TerminateFailed does nothing.
func (l *Loop) TerminateFailed(context.Context, drm.Claim, error) {}

// Close ends the contexts of all functions that still run and waits for them until ctx ends; every later Handle fails
// with ErrClosed. Call it after Manager.Stop, which terminates everything unless it runs out of time. The error says
// how many functions still run when ctx ends. Close may be called again.
func (l *Loop) Close(ctx context.Context) error { return l.tasks.close(ctx, 0) }
