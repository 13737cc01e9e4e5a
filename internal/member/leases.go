package member

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/lease"
)

// leases is the pool of leases that a member's claims are spread over: those that the core has asked for. Its methods
// are for the loop only, where they say nothing else.
type leases struct {
	grants *grants
	core   *core.Core
	post   func(func(now time.Duration)) bool
	tasks  *tasks
	// revocation is under way for as long as ctx has not ended; handling is the parent of everything that is handled.
	ctx, handling context.Context

	all      map[int64]*claimLease
	spread   bool          // the next lease replaces one that etcd does not know any more
	revoking chan struct{} // holds a token while a lease is being revoked
}

// claimLease is one lease of the pool.
type claimLease struct {
	*calls.Lease
	gone bool // noteGone knows that etcd does not know the lease any more
}

func newLeases(
	ctx, handling context.Context,
	g *grants,
	c *core.Core,
	post func(func(time.Duration)) bool,
	t *tasks,
) *leases {
	return &leases{
		grants: g, core: c, post: post, tasks: t, ctx: ctx, handling: handling,
		all: map[int64]*claimLease{}, revoking: make(chan struct{}, 1),
	}
}

// of is a lease of the pool; nil where there is no such lease any more.
func (ls *leases) of(id int64) *calls.Lease {
	if l := ls.all[id]; l != nil {
		return l.Lease
	}
	return nil
}

// noteGone makes the next lease wait for a moment, once for each lease that etcd does not know any more.
func (ls *leases) noteGone(id int64) {
	if l := ls.all[id]; l != nil && !l.gone {
		l.gone, ls.spread = true, true
	}
}

// lost fences a lease that etcd says to be gone.
func (ls *leases) lost(id int64, why error) {
	if l := ls.all[id]; l != nil {
		l.Keeper.Fence(why)
		ls.noteGone(id)
	}
}

// fence ends all leases at once, without a word to etcd.
func (ls *leases) fence(why error) {
	for _, l := range ls.all {
		l.Keeper.Fence(fmt.Errorf("%w: %w", lease.ErrGone, why))
	}
}

// noLonger renews no lease for longer than it lives now: what cannot be given back is not waited for.
func (ls *leases) noLonger() {
	for _, l := range ls.all {
		l.Keeper.NoLonger()
	}
}

// grant gets another lease for the core, however long that takes.
func (ls *leases) grant() {
	spread := ls.spread
	ls.spread = false
	ls.tasks.run(func() {
		if spread && !ls.grants.pauseSpread(ls.ctx) || !ls.grants.awaitComeback(ls.ctx) {
			return
		}
		ctx, cancel := context.WithCancelCause(ls.handling)
		keeper, err := ls.grants.grant(ls.ctx, 0, ls.fenced, func() { cancel(calls.CauseFenced) })
		if err != nil { // the member stops
			cancel(calls.CauseStopped)
			return
		}
		l := &claimLease{Lease: calls.NewLease(ctx, cancel, keeper)}
		id := int64(keeper.ID())
		posted := ls.post(func(now time.Duration) {
			ls.all[id] = l
			ls.core.LeaseReady(now, id)
			if keeper.Fenced() { // before anyone could be told
				ls.core.LeaseFenced(now, id)
			}
		})
		if !posted {
			keeper.Close()
			l.End(calls.CauseStopped)
		}
	})
}

// fenced tells the core that a lease was fenced. Any goroutine may call it.
func (ls *leases) fenced(k *lease.Keeper, cause error) {
	id := int64(k.ID())
	ls.post(func(now time.Duration) {
		if errors.Is(cause, lease.ErrGone) {
			ls.noteGone(id)
		}
		ls.core.LeaseFenced(now, id)
	})
}

// revoke lets go of a lease that nothing is on any more.
func (ls *leases) revoke(id int64) {
	l := ls.all[id]
	if l == nil {
		return
	}
	if ls.tasks.run(func() { ls.letGo(ls.ctx, l) }) { // else giveBack does it
		delete(ls.all, id)
	}
}

// letGo ends everything on a lease, and then the lease: its claims are free for others from then on. etcd may have
// thousands of keys to delete then, and answers nobody meanwhile. So a member has one lease revoked at a time: when
// etcd takes long for each, fewer come, from all members alike. A lease whose turn does not come before ctx ends
// expires by itself. Any goroutine may call it.
func (ls *leases) letGo(ctx context.Context, l *claimLease) {
	defer l.Keeper.Close()
	l.End(calls.CauseFenced)
	select {
	case ls.revoking <- struct{}{}:
		defer func() { <-ls.revoking }()
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ls.grants.timeout)
	defer cancel()
	_ = l.Keeper.Revoke(ctx) // it expires by itself otherwise
}

// list returns the leases of the pool.
func (ls *leases) list() []*claimLease {
	all := make([]*claimLease, 0, len(ls.all))
	for _, l := range ls.all {
		all = append(all, l)
	}
	return all
}

// giveBack ends leases, and returns when they have ended. With keepClaims they are left to expire, since what is on
// them may still be handled. Any goroutine may call it, once nothing uses them any more.
func (ls *leases) giveBack(ctx context.Context, all []*claimLease, keepClaims bool) {
	var wg sync.WaitGroup
	for _, l := range all {
		wg.Go(func() {
			if keepClaims {
				l.Keeper.Close()
				l.End(calls.CauseStopped)
			} else {
				ls.letGo(ctx, l)
			}
		})
	}
	wg.Wait()
}
