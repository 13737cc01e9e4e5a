package member

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/clock"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/leaselink"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/lease"
)

// grants gets the leases of a member from etcd: the lease of its key, and those of its claims. It makes the member
// pause where leases end again and again. Any goroutine may call its methods.
type grants struct {
	lessor   lease.Lessor
	link     *leaselink.Link // is told of each lease; nil: the process has no supervisor
	deaths   string          // the key in which the supervisor writes how this process ended
	ttl      time.Duration   // of the next lease
	timeout  time.Duration   // of each request
	outlast  bool            // KeepOnOutage: no lease is fenced before etcd says that it is gone
	clock    clock.Clock
	leaps    lease.Leaps                 // nil: each lease looks at the clock for itself
	rounds   *lease.Rounds               // nil: each lease is renewed for itself
	pulse    *lease.Pulse                // tells when the member certainly works, so that nobody needs to probe
	probe    func(context.Context) error // a lease is renewed only while it returns nil
	log      *zap.Logger
	failures *failures.Log

	comeback comeback
}

// grant requests a lease until it gets one, or ctx ends. early is how long before the leases of claims this one expires
// if the process dies. fenced is called when the lease is fenced, and dead at its deadline.
func (g *grants) grant(
	ctx context.Context, early time.Duration, fenced func(k *lease.Keeper, cause error), dead func(),
) (*lease.Keeper, error) {
	for pauses := pace.Retry(); ; {
		asking, cancel := context.WithTimeout(ctx, g.timeout)
		keeper, err := lease.Grant(asking, g.told(early), lease.Options{
			// The Renewer asks around streams that are silent, so an answer that is merely late is worth waiting for.
			AttemptTimeout: g.ttl / 2,
			TTL:            g.ttl, Early: early, Clock: g.clock, Leaps: g.leaps, Rounds: g.rounds,
			Pulse: g.pulse, Probe: g.probe, Outlast: g.outlast,
			OnFence: func(k *lease.Keeper, cause error) {
				if !errors.Is(cause, lease.ErrGone) {
					g.comeback.fenced(g.clock.Now(), k.TTL())
				}
				fenced(k, cause)
				g.log.Warn("lease fenced; terminating everything on it",
					zap.Int64("lease", int64(k.ID())), zap.Error(cause))
			},
			OnDead: func(*lease.Keeper, error) { dead() },
		})
		cancel()
		if err == nil {
			return keeper, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		wait := pauses.Next()
		g.failures.Add(failures.Failure{
			Message: "cannot get a lease", Level: zap.WarnLevel, Error: err.Error(),
			Fields: []zap.Field{zap.Duration("retry_in", wait)},
		})
		if !pace.Wait(ctx, wait) {
			return nil, context.Cause(ctx)
		}
	}
}

// told returns the lessor of a lease that expires so early, which tells the supervisor of the lease.
func (g *grants) told(early time.Duration) lease.Lessor {
	switch {
	case g.link == nil:
		return g.lessor
	case early > 0:
		return linkedLessor{g.lessor, g.link, leaselink.Member, g.deaths}
	default:
		return linkedLessor{g.lessor, g.link, leaselink.Claims, ""}
	}
}

// linkedLessor tells the supervisor which leases there are.
type linkedLessor struct {
	lease.Lessor
	link   *leaselink.Link
	of     leaselink.Of
	deaths string
}

// Grant implements lease.Lessor.
func (l linkedLessor) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	resp, err := l.Lessor.Grant(ctx, ttl)
	if err == nil {
		l.link.Holds(resp.GetClusterId(), int64(resp.ID), l.of, l.deaths)
	}
	return resp, err
}

// Revoke implements lease.Lessor.
func (l linkedLessor) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	resp, err := l.Lessor.Revoke(ctx, id)
	if err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound) {
		l.link.Dropped(int64(id))
	}
	return resp, err
}

// awaitComeback waits until the next lease may be requested. It returns false if ctx ended first.
func (g *grants) awaitComeback(ctx context.Context) bool {
	for {
		left, times := g.comeback.left(g.clock.Now())
		if left <= 0 {
			return true
		}
		g.log.Warn("leases are fenced again and again; waiting before requesting the next one",
			zap.Int("times", times), zap.Duration("pause", left))
		if !pace.Wait(ctx, left) {
			return false
		}
	}
}

// pauseSpread waits for a random time before a lease replaces one that etcd took away. Whatever took it (a leader that
// stalled, an operator) may have taken the leases of all members. They all notice at the same moment, and should not
// all come back at the same moment. It returns false if ctx ended first.
func (g *grants) pauseSpread(ctx context.Context) bool {
	d := pace.Less(min(g.ttl/10, 500*time.Millisecond), 1)
	g.log.Info("a lease is gone from etcd; waiting a moment, since other members may have lost theirs too",
		zap.Duration("pause", d))
	return pace.Wait(ctx, d)
}
