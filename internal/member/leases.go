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

// leases is the pool of leases that a member's claims are spread over: those that the core has asked for. Only the loop
// calls its methods, unless a method says otherwise. giveBack comes last, in Stop.
type leases struct {
	grants   *grants
	core     *core.Core
	post     func(func(now time.Duration)) bool
	tasks    *tasks
	ctx      context.Context // ends requests and revocations
	handling context.Context // the parent of everything that is handled

	all      map[int64]*claimLease
	spread   bool          // the next lease replaces one that etcd no longer knows
	revoking chan struct{} // holds a token while a lease is being revoked
}

// claimLease is one lease of the pool.
type claimLease struct {
	*calls.Lease
	gone bool // noteGone was called for it
}

func newLeases(
	ctx, handling context.Context, g *grants, c *core.Core, post func(func(time.Duration)) bool, t *tasks,
) *leases {
	return &leases{
		grants: g, core: c, post: post, tasks: t, ctx: ctx, handling: handling,
		all: map[int64]*claimLease{}, revoking: make(chan struct{}, 1),
	}
}

// of returns a lease of the pool; nil if the pool no longer has it.
func (ls *leases) of(id int64) *calls.Lease {
	if l := ls.all[id]; l != nil {
		return l.Lease
	}
	return nil
}

// noteGone makes the next lease request wait, so that members that lost their leases together do not return together.
// It does so once for each lease that etcd no longer knows.
func (ls *leases) noteGone(id int64) {
	if l := ls.all[id]; l != nil && !l.gone {
		l.gone, ls.spread = true, true
	}
}

// lost fences a lease of which etcd says that it is gone.
func (ls *leases) lost(id int64, why error) {
	if l := ls.all[id]; l != nil {
		l.Keeper.Fence(why)
		ls.noteGone(id)
	}
}

// fence fences all leases, and sends nothing to etcd.
func (ls *leases) fence(why error) {
	for _, l := range ls.all {
		l.Keeper.Fence(fmt.Errorf("%w: %w", lease.ErrGone, why))
	}
}

// noLonger makes no lease live longer than it does now, so that leases that cannot be given back expire soon.
func (ls *leases) noLonger() {
	for _, l := range ls.all {
		l.Keeper.NoLonger()
	}
}

// grant starts to get another lease for the core, however long that takes.
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
			if keeper.Fenced() { // it was fenced before the core knew it
				ls.core.LeaseFenced(now, id)
			}
		})
		if !posted {
			keeper.Close()
			l.End(calls.CauseStopped)
		}
	})
}

// fenced reports to the core that a lease was fenced. Any goroutine may call it.
func (ls *leases) fenced(k *lease.Keeper, cause error) {
	id := int64(k.ID())
	ls.post(func(now time.Duration) {
		if errors.Is(cause, lease.ErrGone) {
			ls.noteGone(id)
		}
		ls.core.LeaseFenced(now, id)
	})
}

// revoke starts to revoke a lease that has nothing on it any more.
func (ls *leases) revoke(id int64) {
	l := ls.all[id]
	if l == nil {
		return
	}
	if ls.tasks.run(func() { ls.letGo(ls.ctx, l) }) { // giveBack revokes it otherwise
		delete(ls.all, id)
	}
}

// letGo ends everything on a lease, and then revokes it, so that its claims are free for others. etcd may have to
// delete thousands of keys, and answers nobody meanwhile. So a member revokes one lease at a time: when etcd takes long
// for each, it gets fewer revocations from all members. A lease whose turn does not come before ctx ends expires by
// itself. Any goroutine may call it.
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

// giveBack ends leases, and returns when they have ended. With keepClaims it lets them expire, since what is on them
// may still be handled. Any goroutine may call it, once nothing else uses the leases.
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
