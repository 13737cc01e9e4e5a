package drm

import (
	"context"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/core"
)

// userHandler adapts a Handler to what package calls calls. Whatever the user's code does in a call, and whatever the methods
// of its errors do, happens here, in the goroutine and within the limits of that call.
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

// claim is what the user's code is given.
func (u userHandler) claim(c calls.Claim) Claim {
	return Claim{
		App: u.app, Member: u.member, Token: c.Token, Resource: Resource{ID: c.ID, Data: c.Data}, validity: handled{c.Of},
	}
}

// handled makes a handling the Validity, and the Reporter, of its claim.
type handled struct{ *calls.Handling }

// Report implements Reporter.
func (h handled) Report(err error) {
	if err == nil {
		h.Handling.Report(false, "")
		return
	}
	h.Handling.Report(true, textOf(err))
}

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

func isUpdater(h Handler) bool {
	_, ok := h.(Updater)
	return ok
}

func finishesCalls(h Handler) bool {
	f, ok := h.(Finisher)
	return ok && f.FinishesCalls()
}
