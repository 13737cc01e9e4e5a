package drm

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/lease"
)

// claimLease is one lease of the pool that claims are spread over, because revoking one lease with all of them would
// stall etcd.
type claimLease struct {
	keeper *lease.Keeper
	ctx    context.Context // of everything on it: ends at its deadline, with CauseFenced
	cancel context.CancelCauseFunc
	gone   bool // noteGone knows; the loop's goroutine owns it

	// The handlings' contexts end with ctx without being its children: there may be a hundred thousand, and each would
	// be an entry of a map that all of them share.
	values    context.Context // ctx without its end
	mu        sync.Mutex
	handlings []*handling // each knows its place
	ended     chan struct{}
}

// newClaimLease makes one of a keeper whose end ctx has heard of, or will.
func newClaimLease(ctx context.Context, cancel context.CancelCauseFunc, keeper *lease.Keeper) *claimLease {
	l := &claimLease{keeper: keeper, ctx: ctx, cancel: cancel, values: context.WithoutCancel(ctx), ended: make(chan struct{})}
	context.AfterFunc(ctx, l.endHandlings)
	return l
}

// end ends everything on the lease, and returns when all contexts have.
func (l *claimLease) end(cause error) {
	l.cancel(cause)
	<-l.ended
}

func (l *claimLease) endHandlings() {
	defer close(l.ended)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.handlings {
		h.cancel(context.Cause(l.ctx))
	}
	l.handlings = nil
}

// enter gives a handling its context.
func (l *claimLease) enter(h *handling) {
	h.ctx, h.cancel = context.WithCancelCause(l.values)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil { // endHandlings may have passed
		h.cancel(context.Cause(l.ctx))
		return
	}
	h.place = len(l.handlings)
	l.handlings = append(l.handlings, h)
}

// leave is for a handling whose context has ended.
func (l *claimLease) leave(h *handling) {
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

// over says whether the lease has ended, which ctx may not have heard yet.
func (l *claimLease) over() bool {
	return l.ctx.Err() != nil || l.keeper.Fenced() && l.keeper.Remaining() <= 0
}

// noteGone has the next lease be waited for, once for each that etcd does not know any more.
func (m *Manager) noteGone(l *claimLease) {
	if l != nil && !l.gone {
		l.gone, m.spread = true, true
	}
}

// grantLease gets another lease for the core, however long that takes.
func (m *Manager) grantLease() {
	spread := m.spread
	m.spread = false
	m.tasks.run(func() {
		if spread && !m.pauseSpread(m.tasksCtx) || !m.awaitComeback(m.tasksCtx) {
			return
		}
		ctx, cancel := context.WithCancelCause(m.ctx)
		keeper, err := m.grant(m.tasksCtx, 0, func(error) {}, cancel)
		if err != nil { // stopping
			cancel(CauseStopped)
			return
		}
		l := newClaimLease(ctx, cancel, keeper)
		posted := m.post(func() {
			m.leases[int64(keeper.ID())] = l
			m.core.LeaseReady(m.stamp, int64(keeper.ID()))
			if keeper.Fenced() { // before anyone could be told
				m.core.LeaseFenced(m.stamp, int64(keeper.ID()))
			}
		})
		if !posted {
			keeper.Close()
			l.end(CauseStopped)
		}
	})
}

// grant asks for a lease again and again until it gets one, or ctx ends. The lease expires early before those of claims, if
// its process dies. onFence is told of its fencing besides the core; dead is called with CauseFenced at its deadline.
func (m *Manager) grant(ctx context.Context, early time.Duration, onFence func(error), dead context.CancelCauseFunc) (*lease.Keeper, error) {
	log := m.log
	for tries := 0; ; tries++ {
		asking, cancel := context.WithTimeout(ctx, m.cfg.Etcd.CommandTimeout)
		keeper, err := lease.Grant(asking, m.hub.Leases(), lease.Options{
			TTL:     m.cfg.LeaseTTL,
			Early:   early,
			Clock:   m.clock,
			Probe:   m.probe,
			Outlast: m.cfg.OutagePolicy == KeepOnOutage,
			OnFence: func(k *lease.Keeper, cause error) {
				if !errors.Is(cause, lease.ErrGone) {
					m.comeback.fenced(m.now(), k.TTL())
				}
				onFence(cause)
				id := int64(k.ID())
				m.post(func() {
					if errors.Is(cause, lease.ErrGone) {
						m.noteGone(m.leases[id])
					}
					m.core.LeaseFenced(m.stamp, id)
				})
				log.Warn("lease fenced: what is on it is terminated", zap.Int64("lease", id), zap.Error(cause))
			},
			OnDead: func(*lease.Keeper, error) { dead(CauseFenced) },
		})
		cancel()
		if err == nil {
			return keeper, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		pause := retryPause(tries)
		m.fails("cannot get a lease", err, pause)
		if !pauseFor(ctx, pause) {
			return nil, context.Cause(ctx)
		}
	}
}

// probe answers when the loop does: a wedged member must not hold on to its claims for ever.
func (m *Manager) probe(ctx context.Context) error {
	ran := make(chan struct{})
	if !m.post(func() { close(ran) }) {
		return nil // stopped: the leases are let go of in order
	}
	select {
	case <-ran:
		return nil
	case <-m.loopDone:
		return nil
	case <-ctx.Done():
		return errors.New("the member's loop does not answer")
	}
}

// revokeLease lets go of a lease that nothing is on any more.
func (m *Manager) revokeLease(id int64) {
	l := m.leases[id]
	if l == nil {
		return
	}
	if m.tasks.run(func() { m.letGo(m.tasksCtx, l) }) { // else giveBack does it
		delete(m.leases, id)
	}
}

// letGo ends everything on the lease, and then the lease: its claims are free for others from then on. etcd may have
// thousands of keys to delete then, and answers nobody meanwhile. So a member has one revoked at a time: when etcd takes long
// for each, fewer come, from all members alike. A lease whose turn does not come expires by itself.
func (m *Manager) letGo(ctx context.Context, l *claimLease) {
	defer l.keeper.Close()
	l.end(CauseFenced)
	select {
	case m.revoking <- struct{}{}:
		defer func() { <-m.revoking }()
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Etcd.CommandTimeout)
	defer cancel()
	_ = l.keeper.Revoke(ctx) // it expires by itself otherwise
}

// pauseSpread waits before a lease is asked for in place of one that etcd took away. Whatever did that (a leader that
// stalled, an operator) may have taken everybody's, and all hear of it at the same moment: they are not to come back at the
// same moment too. false means that ctx ended first.
func (m *Manager) pauseSpread(ctx context.Context) bool {
	d := rand.N(min(m.cfg.LeaseTTL/10, 500*time.Millisecond) + 1)
	m.log.Info("a lease is gone from etcd; waiting a moment, since others may have lost theirs too", zap.Duration("pause", d))
	return pauseFor(ctx, d)
}

// retryPause is the pause before a request to etcd that failed is made again: 100 ms doubled with each failure up to 5 s,
// less up to half of it at random.
func retryPause(failures int) time.Duration {
	d := min(100*time.Millisecond<<min(failures, 6), 5*time.Second)
	return d - rand.N(d/2+1)
}

// pauseFor waits; false means that ctx ended first.
func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
