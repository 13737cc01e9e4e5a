package member

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/outlook"
	"github.com/distributed-resource-manager/drm/membership"
)

// Start runs the member, and returns when it has joined: it has called the source's Setup, has waited for others that
// join, is active, or unready if Ready says so, and knows that the others see it. In a fresh app with a source, the
// source has been fetched as well. Start is called once, after New. After an error the member has ended, and nothing is
// left behind. ctx bounds the start only.
func (m *Member) Start(ctx context.Context) error {
	m.mu.Lock()
	m.ran = true
	err := m.err // not nil if the member has failed since New began, because etcd went back in time
	m.mu.Unlock()
	m.loop.running.Store(true)
	go m.loop.run(m.step, m.place.figures.work)
	if err == nil {
		err = m.join(ctx)
	}
	if err != nil {
		close(m.placed)
		m.undo(ctx)
		return err
	}
	if m.cfg.Joined != nil {
		m.cfg.Joined()
	}
	go func() {
		defer close(m.placed)
		m.place.run(m.placing)
	}()
	if err := m.settle(ctx); err != nil {
		m.undo(ctx)
		return err
	}
	m.started.Store(true)
	m.cfg.Board.Serve()
	return nil
}

// join follows the group, sets up the source, and becomes active, or unready.
func (m *Member) join(ctx context.Context) error {
	if m.place.readiness != nil {
		m.tasks.run(func() { m.place.readiness.run(m.placing) })
	}
	m.tasks.run(func() {
		m.place.registrar.Group.FollowFeed(m.working, m.hub.FeedApart, func(v *membership.View) {
			m.place.onView(v)
			m.executor.moves.see(v)
		})
	})
	m.tasks.run(func() { m.place.flapping.look(m.working) })
	m.tasks.run(func() { m.executor.calls.AskInstance(m.working) })
	m.tasks.run(m.executor.moves.tidy)
	m.tasks.run(m.executor.shards.parts.Run)
	if m.place.hasSource {
		setup := Wait{For: "the retriever's Setup", AtMost: m.cfg.Source.FetchTimeout}
		err := m.during(ctx, setup, func() error { return m.source.SetUp(ctx) })
		if err != nil {
			return fmt.Errorf("set up the retriever: %w", err)
		}
	}
	if err := m.awaitMembers(ctx); err != nil {
		return err
	}
	most := outlook.SettleMost(m.place.joinDelay)
	others := Wait{For: "other members that join", AtMost: most, More: m.place.joining}
	err := m.during(ctx, others, func() error { return m.place.awaitOthers(ctx) })
	if err != nil {
		return err
	}
	if err := m.awaitReady(ctx); err != nil {
		return err
	}
	if err := m.place.flapping.await(ctx, m.done); err != nil {
		return err
	}
	var reg membership.Registration
	why := m.place.whyNotReady()
	if why == "" {
		if err := m.during(ctx, Wait{For: "the coordinator to place shards", AtMost: preparedMost}, func() error {
			return m.place.awaitPrepared(ctx)
		}); err != nil {
			return err
		}
	}
	err = m.asker.patiently(ctx, "etcd to make the member active", func(ctx context.Context) (err error) {
		reg = *m.place.reg.Load()
		if why == "" {
			reg, err = m.place.registrar.Activate(ctx, reg)
			return err
		}
		reg.Record.Reason = why
		reg, err = m.place.registrar.SetState(ctx, reg, membership.Unready)
		return err
	})
	switch {
	case errors.Is(err, membership.ErrGone), errors.Is(err, rpctypes.ErrLeaseNotFound):
		// The lease ended meanwhile: the machine is slow, or somebody revoked the lease. The place registers again, as
		// it does at any later time.
		m.log.Warn("the member's key was gone before the member was active", zap.Error(err))
		return nil
	case err != nil:
		return etcd.Unreachable(ctx, err)
	}
	m.place.setRegistration(&reg)
	if why != "" {
		m.log.Warn("joined, but not ready: this member takes nothing until it is ready, unless too few others are",
			zap.String("reason", why), zap.Duration("asked_every", m.cfg.ReadyInterval))
		return nil
	}
	m.log.Info("joined", zap.Int("slots", reg.Record.Holds()), zap.Int("shards", m.app.Shards))
	return nil
}

// awaitMembers waits until there are as many members as the user wants before the group begins.
func (m *Member) awaitMembers(ctx context.Context) error {
	least, most := m.cfg.MinMembers, m.cfg.MinMembersWait
	if least <= 1 {
		return nil
	}
	enough := Wait{For: "as many members as MinMembers says", AtMost: most, More: func() []zap.Field {
		registered, _ := m.place.registered()
		return []zap.Field{zap.Int("members", registered), zap.Int("min_members", least)}
	}}
	return m.during(ctx, enough, func() error { return m.place.awaitMembers(ctx, least, most) })
}

// awaitReady waits for the first answer of the user's Ready, so that a member that cannot work takes nothing from the
// others. The answer is bounded in time, whatever Ready does.
func (m *Member) awaitReady(ctx context.Context) error {
	r := m.place.readiness
	if r == nil {
		return nil
	}
	return m.during(ctx, Wait{For: "the first answer of Ready", AtMost: r.limit}, func() error {
		select {
		case <-r.decided:
			return nil
		case <-m.done:
			return m.Err()
		case <-ctx.Done():
			return fmt.Errorf("ask whether the member is ready: %w", context.Cause(ctx))
		}
	})
}

// settle waits until a view shows that the member has joined and, in a fresh app with a source, until the first fetch
// is over.
func (m *Member) settle(ctx context.Context) error {
	err := m.during(ctx, Wait{For: "the group to see the member"}, func() error {
		select {
		case <-m.place.first:
			return nil
		case <-m.done:
			return m.Err()
		case <-ctx.Done():
			return fmt.Errorf("join: %w", context.Cause(ctx))
		}
	})
	if err != nil || !m.place.hasSource {
		return err
	}
	return m.during(ctx, Wait{For: "the first fetch of the app's source", More: m.coordinates}, func() error {
		select {
		case err := <-m.firstFetch:
			if err != nil {
				return fmt.Errorf("the first fetch: %w", err)
			}
			return nil
		case <-m.done:
			return m.Err()
		case <-ctx.Done():
			return fmt.Errorf("wait for the first fetch: %w", context.Cause(ctx))
		}
	})
}

// during is During with the member's log and board.
func (m *Member) during(ctx context.Context, w Wait, f func() error) error {
	return During(ctx, m.log, m.cfg.Board, w, f)
}

// coordinates returns the log fields of the wait for the source, with the member that asks it.
func (m *Member) coordinates() []zap.Field {
	fields := []zap.Field{zap.Duration("retry_budget", m.cfg.Source.RetryBudget)}
	if v := m.place.last.Load(); v != nil && v.Coordinator.ID != "" {
		fields = append(fields, zap.String("coordinator", v.Coordinator.ID))
	}
	return fields
}

// undo ends a member whose start failed.
func (m *Member) undo(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.Request)
	defer cancel()
	_ = m.Stop(ctx) // Start returns the error that made it fail
}
