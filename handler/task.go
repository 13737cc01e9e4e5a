package handler

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// Errors and causes of Loop and Exec.
var (
	// ErrRunning says that the function or process that an earlier Handle of the resource started has not ended yet.
	// Where a Handle has waited for that end in vain, its error matches drm.ErrOutcomeUnknown too.
	ErrRunning = errors.New("still running")
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("handler closed")
	// CauseTerminate is the cause (context.Cause) with which the context of a Loop's function ends when Terminate is
	// called. If the claim ended before that, the cause is the one of Handle's context.
	CauseTerminate = errors.New("handler: Terminate was called")
)

// key names a resource of one member. The member is part of it because several managers of a process may share a
// handler.
type key struct{ app, member, id string }

func keyOf(c drm.Claim) key { return key{c.App, c.Member, c.Resource.ID} }

// task is what one Handle started.
type task struct {
	soft context.Context
	stop context.CancelCauseFunc // ends soft: the task should end in an orderly way
	kill context.CancelCauseFunc // ends hard: the task must end at once. soft has ended before
	done chan struct{}           // closed when nothing of the task runs any more
}

// orderly are the causes for which a task ends while this member still has the claim, so that the task may take its
// time to end.
var orderly = []error{
	CauseTerminate, ErrClosed, drm.CauseStopped, drm.CauseMoved, drm.CauseRemoved, drm.CauseChanged, drm.CauseTimeout,
	drm.CauseServiceRestarted, // what this package runs is in no other process, and nothing of it is gone
}

// inOrder reports whether a context ended for one of the orderly causes.
func inOrder(ctx context.Context) bool { return slices.Contains(orderly, context.Cause(ctx)) }

// tasks are the running tasks of a handler, at most one per resource. terminate waits for a task's goroutine, or else
// close does.
type tasks struct {
	mu      sync.Mutex
	running map[key]*task
	closed  bool
}

// work is what a task's goroutine does. It must end soon after soft does, and at once when hard does.
type work func(soft, hard context.Context)

// start calls begin, and runs the work that begin returned, if any, in a goroutine. It returns the error of begin. soft
// ends with ctx. hard ends with ctx too, unless ctx ends in order. If the task of an earlier call is ending, start
// waits for that first.
func (t *tasks) start(
	ctx context.Context,
	c drm.Claim,
	begin func(soft, hard context.Context) (work, error),
) (err error) {
	soft, stop := context.WithCancelCause(ctx)
	hard, kill := context.WithCancelCause(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		if !inOrder(ctx) {
			kill(context.Cause(ctx))
		}
	})
	tk := &task{soft: soft, stop: stop, kill: kill, done: make(chan struct{})}
	release := func() {
		unhook()
		stop(nil)
		kill(nil)
	}
	end := func() {
		release()
		t.mu.Lock()
		delete(t.running, keyOf(c))
		t.mu.Unlock()
		close(tk.done)
	}

	if err := t.enter(ctx, keyOf(c), tk); err != nil {
		release()
		return failure("start", c, err)
	}

	begun := false
	defer func() {
		if !begun { // begin returned no work or panicked
			end()
		}
	}()
	run, err := begin(soft, hard)
	if run != nil {
		begun = true
		go func() {
			defer end()
			run(soft, hard)
		}()
	}
	if err != nil {
		return failure("start", c, err)
	}
	return nil
}

// enter makes tk the task of a resource. It waits for the one before if that has been asked to end, so that a resource
// that is handled again at once does not fail. If ctx ends before that, nobody knows when the one before ends, and the
// error makes DRM call Terminate, which waits for it too.
func (t *tasks) enter(ctx context.Context, of key, tk *task) error {
	for {
		t.mu.Lock()
		before := t.running[of]
		if before == nil {
			defer t.mu.Unlock()
			if t.closed {
				return ErrClosed
			}
			if t.running == nil {
				t.running = make(map[key]*task)
			}
			t.running[of] = tk
			return nil
		}
		t.mu.Unlock()
		if before.soft.Err() == nil {
			return ErrRunning
		}
		select {
		case <-before.done:
		case <-ctx.Done():
			return fmt.Errorf("%w: an earlier one is %w: %w", drm.ErrOutcomeUnknown, ErrRunning, context.Cause(ctx))
		}
	}
}

// terminate asks the resource's task to end and waits for it until ctx ends. Then it kills the task and waits for
// another linger. It succeeds if there is no task: the task ended with its context.
func (t *tasks) terminate(ctx context.Context, c drm.Claim, linger time.Duration) error {
	t.mu.Lock()
	tk := t.running[keyOf(c)]
	t.mu.Unlock()
	if tk == nil {
		return nil
	}
	if err := tk.end(ctx, CauseTerminate, linger); err != nil {
		return failure("terminate", c, err)
	}
	return nil
}

// close ends every task as terminate does, all at the same time. start refuses every later task.
func (t *tasks) close(ctx context.Context, linger time.Duration) error {
	t.mu.Lock()
	t.closed = true
	all := make([]*task, 0, len(t.running))
	for _, tk := range t.running {
		all = append(all, tk)
	}
	t.mu.Unlock()
	for _, tk := range all {
		tk.stop(ErrClosed)
	}
	left := 0
	for _, tk := range all {
		if tk.end(ctx, ErrClosed, linger) != nil {
			left, linger = left+1, 0
		}
	}
	if left > 0 {
		return fmt.Errorf("close handler: %d of %d resources: %w: %w", left, len(all), ErrRunning, context.Cause(ctx))
	}
	return nil
}

// end asks the task to end for a cause and waits for it; see tasks.terminate.
func (tk *task) end(ctx context.Context, cause error, linger time.Duration) error {
	tk.stop(cause)
	select {
	case <-tk.done:
		return nil
	case <-ctx.Done():
	}
	tk.kill(context.Cause(ctx))
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-tk.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("%w: %w", ErrRunning, context.Cause(ctx))
	}
}

// failure says which call about which resource has failed.
func failure(doing string, c drm.Claim, err error) error {
	return fmt.Errorf("%s resource %q (token %d): %w", doing, c.Resource.ID, c.Token, err)
}

// restarter runs a function again whenever it returns.
type restarter struct {
	first, most time.Duration // the pauses
	onReturn    func(c drm.Claim, err error)
}

// errReturned is reported about a function that returned nil while it should be running.
var errReturned = errors.New("returned, though it should go on")

// run calls f again and again until ctx has ended and f has returned. After a call that lasted as long as the longest
// pause, the next pause is the first one again.
//
// run passes the error of each call to report, or errReturned. f calls begun when its work has begun. run reports nil
// once the work of a later call has gone on for as long as the pause before that call.
func (r restarter) run(ctx context.Context, c drm.Claim, report func(error), f func(begun func()) error) {
	pauses := newBackoff(r.first, r.most)
	var pause time.Duration
	for ctx.Err() == nil {
		began := time.Now()
		recovery := &recovery{report: report, after: pause}
		err := apart(func() error { return f(recovery.begin) })
		recovery.stop()
		// The methods of the error are the user's code, as f and onReturn are. Whatever they do, run must go on.
		if ctx.Err() == nil {
			why := err
			if err == nil {
				why = errReturned
			}
			_ = apart(func() error { report(why); return nil })
		}
		tell := ctx.Err() == nil
		if !tell {
			_ = apart(func() error { var p *drm.PanicError; tell = errors.As(err, &p); return nil })
		}
		if r.onReturn != nil && tell {
			_ = apart(func() error { r.onReturn(c, err); return nil })
		}
		if time.Since(began) >= r.most {
			pauses.Reset()
		}
		if pause = pauses.Next(); !pace.Wait(ctx, pause) {
			return
		}
	}
}

// recovery reports, some time after begin was called, that all is well again. It reports nothing once stop has
// returned, nor if the time is 0, as before the first failure.
type recovery struct {
	report func(error)
	after  time.Duration

	mu    sync.Mutex
	timer *time.Timer
	over  bool
	told  chan struct{}
}

func (r *recovery) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.after == 0 || r.over || r.timer != nil {
		return
	}
	told := make(chan struct{})
	r.told = told
	r.timer = time.AfterFunc(r.after, func() {
		defer close(told)
		r.report(nil)
	})
}

func (r *recovery) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.timer != nil && !r.timer.Stop() {
		<-r.told
	}
}

// protect calls f and turns a panic of it into a *drm.PanicError. The root has a function like it for its own calls,
// which takes down the error's text as well; here the error goes on to the user's code or to DRM, which then does that.
func protect(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &drm.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// apart calls protect in a goroutine of its own, because f may end its goroutine: the error is then usercode.ErrGoexit.
func apart(f func() error) error {
	ended := make(chan error, 1)
	usercode.Detached(func() error { return protect(f) }, func(err error) { ended <- err })
	return <-ended
}
