package member

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/outlook"
	"github.com/distributed-resource-manager/drm/membership"
)

// reserves says whether a stop that begins now keeps the member's shards for its return: the user has asked for that,
// the start had succeeded, the member does not end because of an error, and it owns something.
func (m *Member) reserves() bool {
	return m.cfg.Rejoin > 0 && m.started.Load() && m.Err() == nil && m.place.keeps().shards != nil
}

// errKeepsNothing is why nothing is reserved: the member owns nothing any more.
var errKeepsNothing = errors.New("this member owns nothing")

// kept is what waits for a member that stops with Rejoin.
type kept struct {
	shards []bool // nil: none
	seen   int64  // the revision of the view that says so
}

// keeps returns what waits for this member if it stops now with Rejoin. A member that has just become unready has
// nothing: others take over what it has, even if the view does not show that yet.
func (p *place) keeps() kept {
	v, reg := p.last.Load(), p.reg.Load()
	if v == nil || reg == nil || reg.Record.State == membership.Unready && !v.UnreadyIgnored() {
		return kept{}
	}
	shards := outlook.Keeps(v, p.id, p.declines.wanted().Shards)
	if !slices.Contains(shards, true) {
		return kept{}
	}
	return kept{shards, v.Revision}
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
	if !errors.Is(err, errKeepsNothing) {
		m.place.warn(ctx, "cannot reserve what belongs to this member; the others take it over", err)
	}
	return m.place.setLeaving(ctx)
}

// reserve tells the other members that this one is stopping, and that its shards wait for it until the time that it
// returns.
func (p *place) reserve(ctx context.Context, wait time.Duration) (until time.Time, err error) {
	reg := p.reg.Load()
	if reg == nil {
		return until, membership.ErrGone
	}
	keeps := p.keeps()
	if keeps.shards == nil {
		return until, errKeepsNothing
	}
	since := p.wall().UTC()
	lease, err := p.grants.lessor.Grant(ctx, int64((wait+time.Second-1)/time.Second))
	if err != nil {
		return until, err
	}
	until = since.Add(time.Duration(lease.TTL) * time.Second)
	r := membership.Reservation{Since: since, Until: until, Keeps: keeps.shards}
	_, err = p.registrar.Leave(ctx, *reg, r, lease.ID, keeps.seen)
	return until, err
}
