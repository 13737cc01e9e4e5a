package handler

import (
	"context"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// LoopConfig is what NewLoop may be told. Zero values take the defaults; a value out of its range is a *drm.InputError.
type LoopConfig struct {
	// Backoff is the pause before the function is started again after it returned. It doubles each time up to
	// BackoffMax, is moved by up to a fifth at random, and begins anew once the function ran for BackoffMax without
	// returning. Raised, what it depends on has more rest; lowered, a hiccup is over sooner. Default 1 s; 1 ms to 24 h.
	Backoff time.Duration
	// BackoffMax bounds that pause. Default 1 min, or Backoff if that is more; Backoff to 24 h.
	BackoffMax time.Duration
	// OnReturn is told of each return of the function, while it should be running, before the pause: with its error
	// (nil if it returned nil), or a *drm.PanicError if it panicked. Panics are told even while it is being ended.
	// Optional. It is called from the resource's own goroutine, and the restart waits for it.
	OnReturn func(c drm.Claim, err error)
}

// Loop is a drm.Handler that runs a function for as long as a resource is this member's: Handle starts it and returns,
// Terminate ends its context and waits for it. In between it is started again whenever it returns; the claim's state is
// failed from then until it has run for as long as the pause was.
type Loop struct {
	fn      func(ctx context.Context, c drm.Claim) error
	restart restarter
	tasks   tasks
}

var _ drm.Handler = (*Loop)(nil)

// NewLoop makes a Loop. run should do its work until ctx ends, and then return as soon as it can. ctx ends when
// Terminate is called (context.Cause is then CauseTerminate) or when the claim ends before that (the cause is the
// drm.Cause… of Handle's context). run is called for many resources at once, and never twice at once for one.
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

// Handle starts the function. The error is ErrRunning if an earlier run for the resource has not ended yet (a
// Terminate failed), or ErrClosed.
func (l *Loop) Handle(ctx context.Context, c drm.Claim) error {
	return l.tasks.start(ctx, c, func(_, _ context.Context) (work, error) {
		return func(ctx, _ context.Context) {
			l.restart.run(ctx, c, c.Report, func() error { return l.fn(ctx, c) })
		}, nil
	})
}

// Terminate ends the function's context and waits until it returned. If ctx ends first the error is ErrRunning: the
// function then still runs, against a context that ended. Calling Terminate again waits again.
func (l *Loop) Terminate(ctx context.Context, c drm.Claim) error { return l.tasks.terminate(ctx, c, 0) }

// HandleFailed does nothing.
func (l *Loop) HandleFailed(context.Context, drm.Claim, error) {}

// TerminateFailed does nothing.
func (l *Loop) TerminateFailed(context.Context, drm.Claim, error) {}

// Close ends what still runs, waits for it until ctx ends, and makes every further Handle fail with ErrClosed. It is
// for after Manager.Stop, which terminates everything unless it ran out of time. It may be called again.
func (l *Loop) Close(ctx context.Context) error { return l.tasks.close(ctx, 0) }
