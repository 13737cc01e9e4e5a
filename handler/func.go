package handler

import (
	"context"

	"github.com/distributed-resource-manager/drm"
)

// Funcs are the functions of a handler. Each may be nil: Handle and Terminate then succeed, the others do nothing.
// What each is for, and when it is called, is told at drm.Handler and drm.Updater.
type Funcs struct {
	Handle          func(ctx context.Context, c drm.Claim) error
	HandleFailed    func(ctx context.Context, c drm.Claim, err error)
	Terminate       func(ctx context.Context, c drm.Claim) error
	TerminateFailed func(ctx context.Context, c drm.Claim, err error)
	// Update, if given, makes the handler a drm.Updater. Without it, a resource whose data changed is terminated and
	// handled anew.
	Update func(ctx context.Context, c drm.Claim) error
	// FinishesCalls, if true, makes DRM wait for the return of a Handle or Update in progress where it would else end
	// its context: when the resource moves, changes or is removed, and when the member stops. drm.Finisher tells what
	// it is for.
	FinishesCalls bool
}

// New makes a handler of functions. It is a drm.Updater exactly if f.Update is given, and a drm.Finisher that says what
// f.FinishesCalls does.
func New(f Funcs) drm.Handler {
	if f.Update != nil {
		return updatingFuncs{funcs{f}}
	}
	return funcs{f}
}

// funcsOf is the inverse of New for any handler: middleware changes what it needs to, and keeps the rest.
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

type updatingFuncs struct{ funcs }

func (h updatingFuncs) Update(ctx context.Context, c drm.Claim) error { return h.f.Update(ctx, c) }
