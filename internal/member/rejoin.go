package member

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/membership"
)

// reserves says whether a stop that begins now keeps the member's shards for its return: the user has asked for that,
// the start had succeeded, the member does not end because of an error, and it owns something.
func (m *Member) reserves() bool {
	return m.cfg.Rejoin > 0 && m.started.Load() && m.Err() == nil && m.place.ownsAny()
}

// ownsAny says whether this member owns a shard by the last view. One that has just become unready does not: others
// take over what it has, even if the view does not show that yet.
func (p *place) ownsAny() bool {
	v, reg := p.last.Load(), p.reg.Load()
	if v == nil || reg == nil || reg.Record.State == membership.Unready && !v.UnreadyIgnored() {
		return false
	}
	for n := range v.Shards {
		if v.Owner(n) == p.id {
			return true
		}
	}
	return false
}

// tellLeaving tells the others that this member leaves. With reserve, its shards wait for its return; if that cannot be
// reserved, the others take over.
func (m *Member) tellLeaving(ctx context.Context, reserve bool) error {
	if !reserve {
		return m.place.setLeaving(ctx)
	}
	until, err := m.place.reserve(ctx, m.cfg.Rejoin)
	if err == nil {
		m.log.Info("stopping; what belongs to this member waits for its return", zap.Time("until", until))
		return nil
	}
	m.place.warn(ctx, "cannot reserve what belongs to this member; the others take it over", err)
	return m.place.setLeaving(ctx)
}

// reserve tells the other members that this one is stopping, and that its shards wait for it until the time that it
// returns.
func (p *place) reserve(ctx context.Context, wait time.Duration) (until time.Time, err error) {
	reg := p.reg.Load()
	if reg == nil {
		return until, membership.ErrGone
	}
	since := p.wall().UTC()
	lease, err := p.grants.lessor.Grant(ctx, int64((wait+time.Second-1)/time.Second))
	if err != nil {
		return until, err
	}
	until = since.Add(time.Duration(lease.TTL) * time.Second)
	r := membership.Reservation{Since: since, Until: until}
	if v := p.last.Load(); v != nil {
		r.Keeps = v.Owned(p.id)
	}
	_, err = p.registrar.Leave(ctx, *reg, r, lease.ID)
	return until, err
}
