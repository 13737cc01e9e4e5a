package member

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
)

// run keeps the member registered, and in office, until ctx ends.
func (p *place) run(ctx context.Context, figuresInterval time.Duration) {
	interval := time.NewTicker(figuresInterval)
	defer interval.Stop()
	defer p.figures.timer.Stop()
	p.figures.stir()
	retry, retake, rested := time.NewTimer(time.Hour), time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	defer retry.Stop()
	defer retake.Stop()
	defer rested.Stop()
	pauses := pace.New(800*time.Millisecond, pace.MostRetry, 0.5)
	for {
		select {
		case <-ctx.Done():
			p.leaveOffice()
			return
		case cause := <-p.lost:
			p.reregister(ctx, isGone(cause))
			continue
		case <-interval.C:
			p.figures.tick(ctx, p.reg.Load())
			continue
		case <-p.figures.stirred:
			p.figures.plan()
			continue
		case <-p.figures.timer.C:
			p.figures.look(ctx, p.reg.Load())
			continue
		case until := <-p.retake:
			retake.Reset(max(until-p.loop.clock.Now(), 0))
			continue
		case <-retake.C:
			p.mu.Lock()
			p.applyLocked()
			p.mu.Unlock()
			continue
		case <-retry.C:
		case <-rested.C:
		case <-p.views:
		}
		switch p.heed(ctx) {
		case heeded:
			pauses.Reset()
		case failed: // again in a while, and later and later: etcd may be full for hours
			retry.Reset(pauses.Next())
		case tooEarly:
			continue
		}
		if left := p.rest.left(p.loop.clock.Now(), p.source.Hangs()); left > 0 {
			rested.Reset(left)
		}
	}
}

// What came of a look at the last view.
const (
	heeded   = iota // everything that follows from it is done
	failed          // it is to be looked at again
	tooEarly        // the next view tells
)

// heed does what the last view asks for: it keeps the member's key, and takes or leaves the office.
func (p *place) heed(ctx context.Context) int {
	v, reg := p.last.Load(), p.reg.Load()
	if v == nil || reg == nil || v.Revision < reg.CreateRevision {
		return tooEarly
	}
	switch kept, err := p.keepKey(ctx, v, *reg); {
	case err != nil:
		p.warn(ctx, "cannot put the member's key again", err)
		return failed
	case !kept:
		p.log.Warn("the member's key or slots are gone; registering again")
		p.reregister(ctx, true) // they go with the lease
		return tooEarly
	}
	if !p.begun && v.Members[p.id].State == membership.Active {
		p.begun = true
		close(p.first)
	}
	if p.term != nil && p.before != nil && !p.before.SameMembers(v) {
		p.term.MembersChanged()
	}
	p.before = v
	p.order.heed(p.log, p.id, v)
	if !p.stand(ctx, v) {
		return failed
	}
	return heeded
}

// keepKey sees to it that the member's key is the one that it put. A key that somebody has overwritten by hand is put
// again: the others cannot read it, and it may be without a lease now. False says that the key is gone, or that its
// slots are another's: only another registration helps then.
func (p *place) keepKey(ctx context.Context, v *membership.View, reg membership.Registration) (kept bool, err error) {
	me, understood := v.Members[p.id]
	switch {
	case understood && me.CreateRevision != reg.CreateRevision:
		return false, nil
	case understood && me.Lease == int64(reg.Lease):
		return v.HasItsSlots(p.id), nil
	case !understood && !slices.Contains(v.Corrupt, p.key):
		return false, nil
	}
	p.log.Warn("the member's key was overwritten; putting it again")
	_, err = p.registrar.SetState(ctx, reg, membership.Active)
	if errors.Is(err, membership.ErrGone) {
		return false, nil
	}
	return err == nil, err
}

// reregister gets a new lease and key, again and again until ctx ends. It fails the member where somebody else has the
// id for longer than a crashed member's key lives. Where etcd took the registration away, it has taken others' too,
// perhaps.
func (p *place) reregister(ctx context.Context, gone bool) {
	p.leaveOffice()
	p.setRegistration(nil)
	p.figures.forget() // they go with the lease
	old := p.keeper
	p.former[int64(old.ID())] = old
	if gone && !p.grants.pauseSpread(ctx) {
		return
	}
	var takenSince time.Time
	for pauses := pace.Retry(); ; {
		if old != nil {
			revoking, cancel := context.WithTimeout(ctx, p.timeout)
			_ = old.Revoke(revoking) // it expires by itself otherwise
			cancel()
			old.Close()
			old = nil
			p.forgetLost()
		}
		if !p.grants.awaitComeback(ctx) {
			return
		}
		granted, err := p.registerAnew(ctx)
		if err == nil {
			return
		}
		if granted {
			old = p.keeper
			p.former[int64(old.ID())] = old
		}
		if ctx.Err() != nil {
			return
		}
		var taken *membership.TakenError
		switch {
		case errors.Is(err, membership.ErrAppGone):
			p.told.failed(appconfig.ErrGone)
			return
		case !errors.As(err, &taken):
			takenSince = time.Time{}
		case p.former[taken.Holder.Lease] != nil: // this member's old key: etcd did not hear that its lease is revoked
			old = p.former[taken.Holder.Lease]
		case takenSince.IsZero():
			takenSince = time.Now()
		case time.Since(takenSince) > p.ttl+time.Second:
			p.told.failed(p.told.inUse(taken))
			return
		}
		p.warn(ctx, "cannot register", err)
		if !pauses.Wait(ctx) {
			return
		}
	}
}

// registerAnew gets a lease and puts the member's key once. granted says that it got a lease, though putting the key
// failed.
func (p *place) registerAnew(ctx context.Context) (granted bool, err error) {
	// A member that is wedged stays away: were it to come back, the others would hand over to it.
	if err := p.answers(ctx); err != nil {
		return false, err
	}
	if err := p.grant(ctx); err != nil {
		return false, err
	}
	if err := p.register(ctx, membership.Active); err != nil {
		return true, err
	}
	clear(p.former)
	p.figures.stir()
	p.log.Info("registered again")
	return true, nil
}

// drainOrder is what a member has last logged of the order that it hold nothing. Such an order outlives the member, and
// whoever wonders why a name sits idle looks at its log.
type drainOrder struct{ is string }

// heed logs whenever the order comes, goes, or begins or ceases to be ignored.
func (o *drainOrder) heed(log *zap.Logger, id string, v *membership.View) {
	is := picture.DrainOf(v, id)
	if is == o.is {
		return
	}
	o.is = is
	since := zap.Skip()
	if at := v.Drains[id]; !at.IsZero() {
		since = zap.String("since", at.Format(time.RFC3339))
	}
	switch is {
	case picture.DrainOrdered:
		log.Warn("drained by order: this member takes nothing until it is undrained (drmctl undrain "+id+")", since)
	case picture.DrainIgnored:
		log.Warn("this member is ordered to be drained, which is ignored, since so is every other one", since)
	default:
		log.Info("the order to be drained was taken back")
	}
}
