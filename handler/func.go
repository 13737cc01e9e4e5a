package handler

import (
	"context"
	"errors"

	"github.com/distributed-resource-manager/drm"
)

// Funcs are the functions of a handler. Each may be nil: Handle and Terminate then succeed, the others do nothing.
// drm.Handler and drm.Updater say what each is for and when it is called.
type Funcs struct {
	Handle          func(ctx context.Context, c drm.Claim) error
	HandleFailed    func(ctx context.Context, c drm.Claim, err error)
	Terminate       func(ctx context.Context, c drm.Claim) error
	TerminateFailed func(ctx context.Context, c drm.Claim, err error)
	// Update, if not nil, makes the handler a drm.Updater. Without it, DRM terminates a resource whose data changed and
	// handles it anew.
	Update func(ctx context.Context, c drm.Claim) error
	// FinishesCalls makes DRM wait until a Handle or Update in progress returns when the resource moves, changes or is
	// removed, or when the member stops. Otherwise DRM ends the context of the call. drm.Finisher says what that is
	// for.
	FinishesCalls bool
	// Instance tells which instance of a service answers (drm.Restartable).
	Instance func(ctx context.Context) (string, error)
	// Check says whether what Handle began still works (drm.Checker).
	Check func(ctx context.Context, c drm.Claim) error
}

// New makes a handler from functions. The handler is a drm.Updater exactly if f.Update is not nil. It is always a
// drm.Finisher, whose answer is f.FinishesCalls, always drm.Restartable (without f.Instance it tells nothing), and
// always a drm.Checker (without f.Check it says, when it is asked first, that it cannot check).
func New(f Funcs) drm.Handler {
	if f.Update != nil {
		return updatingFuncs{funcs{f}}
	}
	return funcs{f}
}

// funcsOf is the inverse of New for any handler. Middleware replaces some of the functions and keeps the rest.
func funcsOf(h drm.Handler) Funcs {
	f := Funcs{
		Handle:          h.Handle,
		HandleFailed:    h.HandleFailed,
		Terminate:       h.Terminate,
		TerminateFailed: h.TerminateFailed,
	}
	if u, ok := h.(drm.Updater); ok {
		f.Update = u.Update
	}
	if u, ok := h.(drm.Finisher); ok {
		f.FinishesCalls = u.FinishesCalls()
	}
	if r, ok := h.(drm.Restartable); ok {
		f.Instance = r.Instance
	}
	if c, ok := h.(drm.Checker); ok {
		f.Check = c.Check
	}
	return f
}

type funcs struct{ f Funcs }

func (h funcs) Handle(ctx context.Context, c drm.Claim) error {
	if h.f.Handle == nil {
		return nil
	}
	return h.f.Handle(ctx, c)
}

func (h funcs) HandleFailed(ctx context.Context, c drm.Claim, err error) {
	if h.f.HandleFailed != nil {
		h.f.HandleFailed(ctx, c, err)
	}
}

func (h funcs) Terminate(ctx context.Context, c drm.Claim) error {
	if h.f.Terminate == nil {
		return nil
	}
	return h.f.Terminate(ctx, c)
}

func (h funcs) TerminateFailed(ctx context.Context, c drm.Claim, err error) {
	if h.f.TerminateFailed != nil {
		h.f.TerminateFailed(ctx, c, err)
	}
}

func (h funcs) FinishesCalls() bool { return h.f.FinishesCalls }

func (h funcs) Instance(ctx context.Context) (string, error) {
	if h.f.Instance == nil {
		return "", nil
	}
	return h.f.Instance(ctx)
}

func (h funcs) Check(ctx context.Context, c drm.Claim) error {
	if h.f.Check == nil {
		return errors.ErrUnsupported
	}
	return h.f.Check(ctx, c)
}

type updatingFuncs struct{ funcs }

func (h updatingFuncs) Update(ctx context.Context, c drm.Claim) error { return h.f.Update(ctx, c) }
