package drm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/ready"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// What the user's code returns or panics with has methods, which are the user's code again: an Error method may panic
// (that of a nil pointer often does), block, or call back into the manager. So the goroutine that called the user's
// code takes down the text, under the limits of that call, and everyone else reads the text.

// toldError is an error of the user's code whose text has been taken down. It unwraps to that error, so that the user
// can test for it.
type toldError struct {
	text string
	err  error
}

func (e *toldError) Error() string { return e.text }
func (e *toldError) Unwrap() error { return e.err }

// told takes down the text of an error of the user's code. It is to be called in the goroutine that called that code.
func told(err error) error {
	switch err := err.(type) { //nolint:errorlint // these very types, whose methods are not the user's
	case nil:
		return nil
	case *toldError:
		return err
	case *PanicError:
		if err != nil && err.text != "" { // else newPanicError did not make it
			return err
		}
	}
	return &toldError{textOf(err), err}
}

// textOf returns the text of an error of the user's code, or what is wrong with its Error method.
func textOf(err error) (text string) {
	defer func() {
		if v := recover(); v != nil {
			why := excerpt.Clip(usercode.PanicText(v), usercode.MaxText)
			text = fmt.Sprintf("an error of type %T, whose Error method panics: %s", err, why)
		}
	}()
	return excerpt.Clip(err.Error(), usercode.MaxText)
}

// isPanic says whether an error of the user's code stands for a panic.
func isPanic(err error) bool {
	return asked(func() bool {
		var p *PanicError
		return errors.As(err, &p)
	})
}

// matches says whether an error of the user's code matches one of DRM's.
func matches(err, target error) bool { return asked(func() bool { return errors.Is(err, target) }) }

// asked returns what an error of the user's code says of itself, and false where it panics. It is to be called where
// told is: an error's Unwrap, Is and As methods are the user's code too.
func asked(question func() bool) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	return question()
}

// safely calls the user's code, turns a panic into a *PanicError, and takes down the text of what it returns. It does
// not return where the call ends its goroutine.
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = newPanicError(v)
		}
	}()
	return told(f())
}

// newPanicError makes an error of what a recovered panic was about.
func newPanicError(v any) *PanicError {
	text := excerpt.Clip("panic: "+usercode.PanicText(v), usercode.MaxText)
	return &PanicError{Value: v, Stack: debug.Stack(), text: text}
}

// userHandler adapts a Handler to what package calls calls. Whatever the user's code does in a call, and whatever the
// methods of its errors do, happens here, in the goroutine and within the limits of that call.
type userHandler struct {
	handler     Handler
	app, member string
}

// Handle implements calls.Handler.
func (u userHandler) Handle(ctx context.Context, c calls.Claim) calls.Answer {
	return answerOf(core.Handle, func() error { return u.handler.Handle(ctx, u.claim(c)) })
}

// Update implements calls.Handler. It is called where isUpdater says yes.
func (u userHandler) Update(ctx context.Context, c calls.Claim) calls.Answer {
	return answerOf(core.Update, func() error { return u.handler.(Updater).Update(ctx, u.claim(c)) })
}

// Terminate implements calls.Handler.
func (u userHandler) Terminate(ctx context.Context, c calls.Claim) calls.Answer {
	return answerOf(core.Terminate, func() error { return u.handler.Terminate(ctx, u.claim(c)) })
}

// HandleFailed implements calls.Handler.
func (u userHandler) HandleFailed(ctx context.Context, c calls.Claim, err error) (panicked string) {
	return panicOf(func() { u.handler.HandleFailed(ctx, u.claim(c), err) })
}

// TerminateFailed implements calls.Handler.
func (u userHandler) TerminateFailed(ctx context.Context, c calls.Claim, err error) (panicked string) {
	return panicOf(func() { u.handler.TerminateFailed(ctx, u.claim(c), err) })
}

// Check implements calls.Handler. It is called where isChecker says yes.
func (u userHandler) Check(ctx context.Context, c calls.Claim) (got calls.Checked) {
	claim := u.claim(c)
	claim.validity = checking{handled{c.Of}, time.Now()}
	err := safely(func() error {
		err := u.handler.(Checker).Check(ctx, claim)
		got.Unsupported = err != nil && matches(err, errors.ErrUnsupported)
		return err
	})
	if got.OK = err == nil; !got.OK {
		got.Text = err.Error()
	}
	return got
}

// claim is what the user's code is given.
func (u userHandler) claim(c calls.Claim) Claim {
	r := Resource{ID: c.ID, Data: c.Data}
	return Claim{App: u.app, Member: u.member, Resource: r, Token: c.Token, validity: handled{c.Of}}
}

// handled makes a handling the Validity of its claim, which takes all that a Claim may be told.
type handled struct{ *calls.Handling }

// Report implements Reporter.
func (h handled) Report(err error) {
	if err == nil {
		h.Handling.Report(false, "")
		return
	}
	h.Handling.Report(true, textOf(err))
}

// Fail implements Failer.
func (h handled) Fail(err error) { h.Handling.Fail(failureText(err)) }

// failureText returns the text of the error that a Fail is given, which may be nil.
func failureText(err error) string {
	if err == nil {
		return "failed"
	}
	return textOf(err)
}

// checking is the Validity of the claim of a check. An instance that answers a check need not have the resource.
type checking struct {
	handled
	began time.Time
}

// ServedBy implements Instances.
func (c checking) ServedBy(instance string) { c.Answered(instance, c.began) }

// answerOf calls the user's code, and takes down what it returns or panics with.
func answerOf(kind core.ActionKind, f func() error) (got calls.Answer) {
	defer func() {
		if v := recover(); v != nil {
			p := newPanicError(v)
			got = calls.Answer{Outcome: core.Panicked, Err: p, Text: p.Error()}
		}
	}()
	switch err := f(); {
	case err == nil:
		return calls.Answer{Outcome: core.OK}
	case isPanic(err):
		return calls.Answer{Outcome: core.Panicked, Err: err, Text: textOf(err)}
	case kind == core.Handle && matches(err, ErrOutcomeUnknown): // it may have begun
		return calls.Answer{Outcome: core.Unclear, Err: err, Text: textOf(err)}
	default:
		return calls.Answer{Outcome: core.Error, Err: err, Text: textOf(err)}
	}
}

// panicOf calls the user's code, and returns the text of its panic; "" where it returned.
func panicOf(f func()) string {
	if p := safely(func() error { f(); return nil }); p != nil {
		return p.Error()
	}
	return ""
}

// instanceOf returns the question which instance of the handler's service answers; nil if there is no such service.
func instanceOf(h Handler) func(context.Context) (string, error) {
	r, ok := h.(Restartable)
	if !ok {
		return nil
	}
	return func(ctx context.Context) (instance string, err error) {
		err = safely(func() (err error) {
			instance, err = r.Instance(ctx)
			return err
		})
		return instance, err
	}
}

// budgetKey adapts Config.BudgetKey, which may be nil.
func budgetKey(f func(Resource) string) func(id string, data []byte) (string, error) {
	if f == nil {
		return nil
	}
	return func(id string, data []byte) (key string, err error) {
		err = safely(func() error {
			key = f(Resource{ID: id, Data: bytes.Clone(data)}) // the core's own data must not be changed
			return nil
		})
		return key, err
	}
}

func isUpdater(h Handler) bool {
	_, ok := h.(Updater)
	return ok
}

func isChecker(h Handler) bool {
	_, ok := h.(Checker)
	return ok
}

func finishesCalls(h Handler) bool {
	f, ok := h.(Finisher)
	return ok && f.FinishesCalls()
}

// readyCheck adapts Config.Ready, which may be nil.
func readyCheck(f func(context.Context) error) func(context.Context) error {
	if f == nil {
		return nil
	}
	return func(ctx context.Context) error {
		restarted := false
		err := safely(func() error {
			err := f(ctx)
			restarted = matches(err, ErrServiceRestarted)
			return err
		})
		if restarted {
			return ready.ErrRestarted
		}
		return err
	}
}
