package drm

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/lease"
)

// claimLease is one lease of the pool that the member's claims are spread over.
type claimLease struct {
	*calls.Lease
	gone bool // noteGone knows that etcd does not know the lease any more; the loop owns it
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
			cancel(calls.CauseStopped)
			return
		}
		l := &claimLease{Lease: calls.NewLease(ctx, cancel, keeper)}
		posted := m.post(func() {
			m.leases[int64(keeper.ID())] = l
			m.core.LeaseReady(m.stamp, int64(keeper.ID()))
			if keeper.Fenced() { // before anyone could be told
				m.core.LeaseFenced(m.stamp, int64(keeper.ID()))
			}
		})
		if !posted {
			keeper.Close()
			l.End(calls.CauseStopped)
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
			OnDead: func(*lease.Keeper, error) { dead(calls.CauseFenced) },
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
	defer l.Keeper.Close()
	l.End(calls.CauseFenced)
	select {
	case m.revoking <- struct{}{}:
		defer func() { <-m.revoking }()
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Etcd.CommandTimeout)
	defer cancel()
	_ = l.Keeper.Revoke(ctx) // it expires by itself otherwise
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
