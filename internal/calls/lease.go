package calls

import (
	"context"
	"sync"

	"github.com/distributed-resource-manager/drm/lease"
)

// Lease is a lease with claims on it, and the contexts of everything that is handled under those claims, which all end
// at the lease's deadline. A member spreads its claims over several leases, because revoking one lease with all of them
// would stall etcd. The loop calls enter; any goroutine may call the other methods.
type Lease struct {
	Keeper *lease.Keeper

	ctx    context.Context // the context of everything on the lease; ends at its deadline, with CauseFenced
	cancel context.CancelCauseFunc

	// The contexts of the handlings end with ctx without being its children: there may be a hundred thousand of them,
	// and each would be an entry of a map that all of them share.
	values    context.Context // ctx without its end
	mu        sync.Mutex
	handlings []*Handling   // Handling.place is the index
	ended     chan struct{} // closed when all contexts have ended
}

// NewLease makes a Lease. The caller must see to it that cancel ends ctx at the keeper's deadline.
func NewLease(ctx context.Context, cancel context.CancelCauseFunc, keeper *lease.Keeper) *Lease {
	l := &Lease{
		Keeper: keeper, ctx: ctx, cancel: cancel, values: context.WithoutCancel(ctx), ended: make(chan struct{}),
	}
	context.AfterFunc(ctx, l.endHandlings)
	return l
}

// End ends everything on the lease because of cause, and returns when all contexts have ended.
func (l *Lease) End(cause error) {
	l.cancel(cause)
	<-l.ended
}

func (l *Lease) endHandlings() {
	defer close(l.ended)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.handlings {
		h.cancel(context.Cause(l.ctx))
	}
	l.handlings = nil
}

// enter gives a handling its context.
func (l *Lease) enter(h *Handling) {
	h.ctx, h.cancel = context.WithCancelCause(l.values)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil { // endHandlings may have passed already
		h.cancel(context.Cause(l.ctx))
		return
	}
	h.place = len(l.handlings)
	l.handlings = append(l.handlings, h)
}

// leave takes out a handling whose context has ended.
func (l *Lease) leave(h *Handling) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.place >= len(l.handlings) || l.handlings[h.place] != h {
		return
	}
	last := len(l.handlings) - 1
	l.handlings[h.place] = l.handlings[last]
	l.handlings[h.place].place = h.place
	l.handlings[last] = nil
	l.handlings = l.handlings[:last]
}

// over says whether the lease has ended, even if ctx has not ended yet.
func (l *Lease) over() bool {
	return l.ctx.Err() != nil || l.Keeper.Fenced() && l.Keeper.Remaining() <= 0
}
