package member

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/lease"
	"github.com/distributed-resource-manager/drm/membership"
)

// run keeps the member registered, and in office if it coordinates, until ctx ends. Start starts it in a goroutine of
// its own.
func (p *place) run(ctx context.Context) {
	defer p.figures.close()
	defer p.failing.back.Stop()
	defer p.flapping.back.Stop()
	p.figures.stir(p.loop.clock.Now())
	p.figures.resume()
	retry, retake, rested := pace.Stopped(), pace.Stopped(), pace.Stopped()
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
			p.reregister(ctx, errors.Is(cause, lease.ErrGone))
			continue
		case <-p.figures.woken:
			p.figures.resume()
			continue
		case <-p.figures.ticks.C:
			if counted, ok := p.figures.tick(ctx, p.reg.Load()); !ok || !p.failing.look(ctx, counted.Figures) {
				continue
			}
		case <-p.failing.back.C:
			if !p.failing.isBack() {
				continue
			}
		case <-p.flapping.back.C:
			if !p.flapping.isBack() {
				continue
			}
		case <-p.figures.stirred:
			p.figures.plan()
			continue
		case <-p.figures.timer.C:
			if counted, ok := p.figures.look(ctx, p.reg.Load()); !ok || !p.failing.look(ctx, counted.Figures) {
				continue
			}
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
		case failed: // look again, after longer and longer pauses, because etcd may be full for hours
			retry.Reset(pauses.Next())
		case tooEarly:
			continue
		}
		if left := p.rest.left(p.loop.clock.Now(), p.source.Hangs()); left > 0 {
			rested.Reset(left)
		}
	}
}

// The results of heed.
const (
	heeded   = iota // it has done everything that follows from the last view
	failed          // it must be called again
	tooEarly        // the last view does not show this registration; the next one will
)

// heed acts on the last view: it keeps the member's key in etcd, and takes or leaves the office.
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
		p.reregister(ctx, true) // true: the lease is probably gone, since key and slots go with it
		return tooEarly
	}
	if err := p.tellGoing(ctx, *reg); err != nil {
		p.warn(ctx, "cannot tell the coordinator that this member stops", err)
		return failed
	}
	if err := p.heedReadiness(ctx, v, *p.reg.Load()); err != nil {
		p.warn(ctx, "cannot tell the other members whether this one is ready", err)
		return failed
	}
	if err := p.heedWeight(ctx, v, *p.reg.Load()); err != nil {
		p.warn(ctx, "cannot change the weight of this member", err)
		return failed
	}
	if !p.begun && v.Members[p.id].HasJoined() {
		p.begun = true
		close(p.first)
	}
	if p.term != nil && p.before != nil && !p.before.SameMembers(v) {
		p.term.MembersChanged()
	}
	p.before = v
	p.guide.see(v)
	if err := p.schemas.heed(ctx, p.log, p.registrar, *reg, v); err != nil {
		p.warn(ctx, "cannot remember which schema the members know", err)
		return failed
	}
	p.orders.heed(p.log, p.id, v)
	p.unready.heed(p.log, p.id, v)
	said := p.sayDeclined(ctx, v, *reg)
	if !p.stand(ctx, v) || !said {
		return failed
	}
	return heeded
}

// keepKey checks that the member's key is the one that it has put. It puts a key again that somebody has overwritten by
// hand, because the others cannot read it, and because it may have no lease now. It returns false if the key is gone,
// or if another member has its slots, so that the member must register again.
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
	state := reg.Record.State
	if state == membership.Joining { // it had joined by then, and the answer was lost
		state = membership.Active
	}
	_, err = p.registrar.SetState(ctx, reg, state)
	if errors.Is(err, membership.ErrGone) {
		return false, nil
	}
	return err == nil, err
}

// reregister gets a new lease and key, and tries until it succeeds or ctx ends. It fails the member if another member
// has the id for longer than the key of a crashed one lives. gone says that etcd took the registration away; it may
// have taken those of other members too.
func (p *place) reregister(ctx context.Context, gone bool) {
	p.leaveOffice()
	p.setRegistration(nil)
	p.unregistered(gone)
	p.figures.forget() // etcd deletes them with the lease
	old := p.keeper
	p.former[int64(old.ID())] = old
	if gone && !p.grants.pauseSpread(ctx) {
		return
	}
	var takenSince time.Time
	for pauses := pace.Retry(); ; {
		if old != nil {
			revoking, cancel := context.WithTimeout(ctx, p.grants.timeout)
			_ = old.Revoke(revoking) // the lease expires by itself otherwise
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
		case p.former[taken.Holder.Lease] != nil: // this member's old key: etcd did not get the revocation of its lease
			old = p.former[taken.Holder.Lease]
		case takenSince.IsZero():
			takenSince = time.Now()
		case time.Since(takenSince) > p.grants.ttl+time.Second:
			p.told.failed(p.told.inUse(taken))
			return
		}
		p.unable(ctx, err, takenSince)
		if !pauses.Wait(ctx) {
			return
		}
	}
}

// unregistered shows that the member is not registered for now, and so has nothing. gone says that etcd took the
// registration away.
func (p *place) unregistered(gone bool) {
	why := "the lease of the member's key was fenced, because etcd did not renew it in time"
	if gone {
		why = "the member's key is gone from etcd"
	}
	p.away = why
	p.hindered(why+"; registering again", time.Time{})
}

// unable logs and shows that the member cannot register. takenSince is since when another member has had its id; zero
// if none has.
func (p *place) unable(ctx context.Context, err error, takenSince time.Time) {
	p.warn(ctx, "cannot register", err)
	var until time.Time
	if !takenSince.IsZero() {
		until = takenSince.Add(p.grants.ttl + time.Second)
	}
	p.hindered(p.away+"; cannot register again yet: "+err.Error(), until)
}

// hindered shows why the member is not registered, and until when at most; an empty reason says that it is.
func (p *place) hindered(reason string, until time.Time) {
	p.told.board.Hinder("registration", reason, until)
}

// registerAnew makes one try to get a lease and put the member's key on it. If putting the key fails, granted says
// that there is a new lease to revoke.
func (p *place) registerAnew(ctx context.Context) (granted bool, err error) {
	// A member whose loop hangs stays away: if it came back, the others would hand over resources to it.
	if err := p.answers(ctx); err != nil {
		return false, err
	}
	if err := p.grant(ctx); err != nil {
		return false, err
	}
	if err := p.register(ctx, p.standing()); err != nil {
		return true, err
	}
	clear(p.former)
	p.hindered("", time.Time{})
	p.figures.stir(p.loop.clock.Now())
	p.log.Info("registered again")
	return true, nil
}
