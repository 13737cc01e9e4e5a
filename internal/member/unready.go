package member

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/membership"
)

// reasonPause is how often a member's key is written again only because the reason for its unreadiness is another one.
const reasonPause = 30 * time.Second

// whyNotReady returns why this member should be unready; "" if it should be active. It also shows that to those who
// probe the member. Only run's goroutine calls it, or Start before that.
func (p *place) whyNotReady() string {
	var reasons []string
	if p.readiness != nil {
		if why := p.readiness.whyNot(); why != "" {
			reasons = append(reasons, why)
		}
	}
	for _, why := range []string{p.failing.reason, p.flapping.reason} {
		if why != "" {
			reasons = append(reasons, why)
		}
	}
	why := strings.Join(reasons, "; ")
	p.told.board.Hinder("readiness", why, time.Time{})
	return why
}

// standing returns the record that the member's key should have now, without the slots.
func (p *place) standing() membership.Record {
	record := p.record
	record.Weight = int(p.weights.own.Load())
	record.State, record.Reason = membership.Active, p.whyNotReady()
	if record.Reason != "" {
		record.State = membership.Unready
	}
	return record
}

// heedReadiness writes whether this member is ready into its key, if the key says something else. It is called for as
// long as it fails, and so a change is written in the end, whatever etcd does meanwhile.
func (p *place) heedReadiness(ctx context.Context, v *membership.View, reg membership.Registration) error {
	has, want := reg.Record, p.standing()
	shown := v.Members[p.id]
	if has.HasJoined() && shown.HasJoined() && shown.CreateRevision == reg.CreateRevision &&
		v.Revision >= reg.Revision {
		has.State = shown.State // a write whose answer was lost may have been applied after all, at any time
	}
	if has.State == membership.Joining { // the key was gone before the member had joined; it registers again
		return nil
	}
	registrar, now := p.registrar, p.loop.clock.Now()
	var write func() (membership.Registration, error)
	switch {
	case want.State == membership.Active && has.State == membership.Active:
		return nil
	case want.State == membership.Active && has.Holds() == 0:
		write = func() (membership.Registration, error) { return registrar.Activate(ctx, reg) }
	case want.State == membership.Active:
		write = func() (membership.Registration, error) { return registrar.SetState(ctx, reg, membership.Active) }
	case has.State == membership.Unready && has.Holds() == 0 && v.UnreadyIgnored() && v.WeightOf(p.id) > 0:
		write = func() (membership.Registration, error) { return registrar.TakeSlots(ctx, reg) }
	case has.State == membership.Unready && (has.Reason == want.Reason || now-p.reasonAt < reasonPause):
		return nil
	default:
		p.reasonAt = now
		reg.Record.Reason = want.Reason
		write = func() (membership.Registration, error) { return registrar.SetState(ctx, reg, membership.Unready) }
	}
	written, err := write()
	switch {
	case errors.Is(err, membership.ErrGone): // the next view says so, too, and then the member registers again
		return nil
	case err != nil:
		p.reasonAt = 0
		return err
	}
	p.setRegistration(&written)
	return nil
}

// unreadiness logs when this member's unreadiness begins or ceases to be ignored.
type unreadiness struct{ ignored bool }

// heed looks at a view.
func (u *unreadiness) heed(log *zap.Logger, id string, v *membership.View) {
	me := v.Members[id]
	ignored := me.State == membership.Unready && v.UnreadyIgnored()
	if ignored == u.ignored {
		return
	}
	u.ignored = ignored
	ready, of := v.Readiness()
	switch {
	case ignored:
		log.Warn("too few members are ready, so this one goes on though it is not ready", zap.Int("ready", ready),
			zap.Int("members", of), zap.String("reason", me.Reason))
	case me.State == membership.Unready:
		log.Warn("enough members are ready again: they take over what this one has, since it is not ready",
			zap.Int("ready", ready), zap.Int("members", of), zap.String("reason", me.Reason))
	}
}
