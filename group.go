package drm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/lease"
	"github.com/distributed-resource-manager/drm/membership"
)

// group is this member's place among the members: its key, its lease, and the office of coordinator.
type group struct {
	m      *Manager
	reg    atomic.Pointer[membership.Registration] // nil while not registered
	keeper *lease.Keeper                           // of the member key; run's goroutine owns it
	former map[int64]*lease.Keeper                 // those before, whose leases may live on; run's goroutine owns it
	lost   chan error                              // holds why, when the member's lease was fenced

	mu    sync.Mutex    // orders what the core is told
	views chan struct{} // holds a token when last or reg changed
	last  atomic.Pointer[membership.View]
	first chan struct{} // closed at the first view that has this member
	begun bool

	back     []bool           // shards that are not owned for now, unless there is something in them; with mu
	backWith *membership.View // that held when it was set

	joiners  chan struct{}      // holds a token when last changed, while this member joins
	activeAt time.Duration      // when this member first became active
	retake   chan time.Duration // holds when a view that was not taken in full is to be looked at again

	term     int64        // the coordinator key's create revision while this member coordinates, else 0
	office   *source.Term // nil while this member does not coordinate; run's goroutine owns it
	inherits bool         // a source has had a coordinator since this member came
	resigned atomic.Int64 // the term that this member's office has given up
	rest     rest         // run's goroutine owns it
	figures  *figures
	order    drainOrder // run's goroutine owns it
}

func newGroup(m *Manager) *group {
	return &group{m: m, figures: newFigures(m), former: map[int64]*lease.Keeper{}, lost: make(chan error, 1), views: make(chan struct{}, 1), first: make(chan struct{}), joiners: make(chan struct{}, 1), retake: make(chan time.Duration, 1)}
}

// memberFirst is how long before the leases of a dead member's claims that of its key expires: the others hear at once who
// has died, and follow its shards while etcd is still busy deleting its claims.
const memberFirst = 10 * time.Millisecond

// grant gets the lease of the member's key.
func (g *group) grant(ctx context.Context) error {
	keeper, err := g.m.grant(ctx, memberFirst, func(cause error) {
		select {
		case g.lost <- cause:
		default:
		}
	}, func(error) {})
	if err != nil {
		return err
	}
	g.keeper = keeper
	return nil
}

// dropLease forgets the lease of a member that is not registered yet.
func (g *group) dropLease() {
	g.keeper.Close()
	select {
	case cause := <-g.lost: // of that lease
		g.m.log.Debug("the lease before has ended", zap.Error(cause))
	default:
	}
}

// register puts the member's key.
func (g *group) register(ctx context.Context, state membership.State) error {
	m := g.m
	reg, err := m.registrar.Register(ctx, membership.Record{
		State: state, Weight: m.cfg.Weight, Address: m.cfg.Address, Labels: m.cfg.Labels, Version: m.cfg.Version,
		Started: m.started, Source: m.cfg.Retriever != nil,
	}, g.keeper.ID())
	if err != nil {
		return err
	}
	g.setRegistration(&reg)
	return nil
}

// onView takes a view to the core at once, and leaves it for run. It is called by the follower's goroutine.
func (g *group) onView(v *membership.View) {
	g.mu.Lock()
	g.last.Store(v)
	g.applyLocked()
	g.mu.Unlock()
	select {
	case g.joiners <- struct{}{}:
	default:
	}
}

// setRegistration changes what the views are read by; nil stands for none.
func (g *group) setRegistration(reg *membership.Registration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reg.Store(reg)
	if reg != nil && reg.Record.State == membership.Active && g.activeAt == 0 {
		g.activeAt = g.m.now()
	}
	g.applyLocked()
}

// stepBack has this member not own some shards for now; nil stands for none. One in which it knows of anything stays its own:
// what is handled there goes on, and what others let go of is taken over. That ends when the membership changes: what a member
// had that is gone now is not known here.
func (g *group) stepBack(from []bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.back, g.backWith = from, g.last.Load()
	g.applyLocked()
}

// applyLocked gives the core the shards that the last view gives this registration: none, if the view is of another one
// or there is none. A view that is older than the registration says nothing of it, and a later one will come. g.mu is
// held, so that what the core hears is in order.
func (g *group) applyLocked() {
	m, v, reg := g.m, g.last.Load(), g.reg.Load()
	if v == nil {
		return
	}
	owned := make([]bool, v.Shards)
	if reg != nil {
		if v.Revision < reg.CreateRevision {
			return
		}
		switch me := v.Members[m.id]; {
		case me.CreateRevision != reg.CreateRevision:
		case me.State == membership.Joining:
			owned = g.prospect(v)
		default:
			owned = v.Owned(m.id)
		}
	}
	if g.back != nil && !v.SameMembers(g.backWith) {
		g.back = nil
	}
	back := g.back
	alone := v.Alone(m.id)
	held, until := g.hold(v)
	if held && until > 0 {
		select {
		case g.retake <- until:
		default:
		}
	}
	m.post(func() {
		if held { // before there is anything to claim; or after it is known what
			m.core.PauseClaims(m.stamp, true)
		}
		for n, from := range back {
			owned[n] = owned[n] && (!from || m.core.Knows(n))
		}
		m.core.SetAlone(m.stamp, alone)
		m.core.SetOwned(m.stamp, owned)
		m.core.PauseClaims(m.stamp, held)
	})
	g.wake()
}

// wake makes run look at the last view again.
func (g *group) wake() {
	select {
	case g.views <- struct{}{}:
	default:
	}
}

// run keeps the member registered and in office until ctx ends.
func (g *group) run(ctx context.Context) {
	m := g.m
	stats := time.NewTicker(m.statsInterval)
	defer stats.Stop()
	defer g.figures.timer.Stop()
	g.figures.stir()
	retry, retake, rested := time.NewTimer(time.Hour), time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	defer retry.Stop()
	defer retake.Stop()
	defer rested.Stop()
	var before *membership.View
	failures := 0
	again := func() { // in a while, and later and later: etcd may be full for hours
		retry.Reset(retryPause(3 + failures))
		failures++
	}
	for {
		select {
		case <-ctx.Done():
			g.leaveOffice()
			return
		case cause := <-g.lost:
			g.reregister(ctx, errors.Is(cause, lease.ErrGone))
			continue
		case <-stats.C:
			g.figures.tick(ctx, g.reg.Load())
			continue
		case <-g.figures.stirred:
			g.figures.plan()
			continue
		case <-g.figures.timer.C:
			g.figures.look(ctx, g.reg.Load())
			continue
		case until := <-g.retake:
			retake.Reset(max(until-m.now(), 0))
			continue
		case <-retake.C:
			g.mu.Lock()
			g.applyLocked()
			g.mu.Unlock()
			continue
		case <-retry.C:
		case <-rested.C:
		case <-g.views:
		}
		v, reg := g.last.Load(), g.reg.Load()
		if v == nil || reg == nil || v.Revision < reg.CreateRevision {
			continue
		}
		switch kept, err := g.keepKey(ctx, v, *reg); {
		case err != nil:
			g.warn(ctx, "cannot put the member's key again", err)
			again()
			continue
		case !kept:
			m.log.Warn("the member's key or slots are gone; registering again")
			g.reregister(ctx, true) // they go with the lease
			continue
		}
		if !g.begun && v.Members[m.id].State == membership.Active {
			g.begun = true
			close(g.first)
		}
		if g.office != nil && before != nil && !before.SameMembers(v) {
			g.office.MembersChanged()
		}
		before = v
		g.order.heed(m, v)
		if g.stand(ctx, v) {
			failures = 0
		} else {
			again()
		}
		if left := g.rest.left(m); left > 0 {
			rested.Reset(left)
		}
	}
}

// keepKey sees to it that the member's key is the one that it put. One that somebody has overwritten by hand is put
// again: the others cannot read it, and it may be without a lease now. False stands for a key that is gone, or whose slots
// are another's: only another registration helps.
func (g *group) keepKey(ctx context.Context, v *membership.View, reg membership.Registration) (kept bool, err error) {
	m := g.m
	me, understood := v.Members[m.id]
	switch {
	case understood && me.CreateRevision != reg.CreateRevision:
		return false, nil
	case understood && me.Lease == int64(reg.Lease):
		return v.HasItsSlots(m.id), nil
	case !understood && !slices.Contains(v.Corrupt, m.layout.Member(m.id)):
		return false, nil
	}
	m.log.Warn("the member's key was overwritten; putting it again")
	_, err = m.registrar.SetState(ctx, reg, membership.Active)
	if errors.Is(err, membership.ErrGone) {
		return false, nil
	}
	return err == nil, err
}

// reregister gets a new lease and key, again and again until ctx ends. It fails the manager where somebody else has the id
// for longer than a crashed member's key lives. Where etcd took the registration away, it has taken others' too, perhaps.
func (g *group) reregister(ctx context.Context, gone bool) {
	m := g.m
	g.leaveOffice()
	g.setRegistration(nil)
	g.figures.forget() // they go with the lease
	old := g.keeper
	g.former[int64(old.ID())] = old
	if gone && !m.pauseSpread(ctx) {
		return
	}
	var takenSince time.Time
	for failures := 0; ; failures++ {
		if old != nil {
			revoking, cancel := context.WithTimeout(ctx, m.cfg.Etcd.CommandTimeout)
			_ = old.Revoke(revoking) // it expires by itself otherwise
			cancel()
			old.Close()
			old = nil
			select {
			case cause := <-g.lost: // of the old lease, which is done with
				m.log.Debug("the lease before has ended", zap.Error(cause))
			default:
			}
		}
		if !m.awaitComeback(ctx) {
			return
		}
		// A member that is wedged stays away: were it to come back, the others would hand over to it.
		err := g.answers(ctx)
		if err == nil {
			err = g.grant(ctx)
		}
		if err == nil {
			if err = g.register(ctx, membership.Active); err == nil {
				clear(g.former)
				g.figures.stir()
				m.log.Info("registered again")
				return
			}
			old = g.keeper
			g.former[int64(old.ID())] = old
		}
		if ctx.Err() != nil {
			return
		}
		var taken *membership.TakenError
		switch {
		case errors.Is(err, membership.ErrAppGone):
			m.fail(ErrAppGone)
			return
		case !errors.As(err, &taken):
			takenSince = time.Time{}
		case g.former[taken.Holder.Lease] != nil: // our own old key: etcd did not hear that its lease is revoked
			old = g.former[taken.Holder.Lease]
		case takenSince.IsZero():
			takenSince = time.Now()
		case time.Since(takenSince) > m.cfg.LeaseTTL+time.Second:
			m.fail(idInUse(taken))
			return
		}
		g.warn(ctx, "cannot register", err)
		if !pauseFor(ctx, retryPause(failures)) {
			return
		}
	}
}

// answers says whether the member's loop does.
func (g *group) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.m.cfg.LeaseTTL/5) // as long as a keepalive waits for it
	defer cancel()
	return g.m.probe(ctx)
}

func idInUse(taken *membership.TakenError) error {
	return &IDInUseError{ID: taken.Holder.ID, Address: taken.Holder.Address, Since: taken.Holder.Started}
}

// warn logs what failed, unless it did so because the member stops: ctx is run's.
func (g *group) warn(ctx context.Context, message string, err error) {
	if ctx.Err() == nil {
		g.m.log.Warn(message, zap.Error(err))
	}
}

// setLeaving tells the others that this member is stopping, so that they take over what it releases.
func (g *group) setLeaving(ctx context.Context) error {
	reg := g.reg.Load()
	if reg == nil {
		return nil
	}
	if _, err := g.m.registrar.SetState(ctx, *reg, membership.Leaving); err != nil {
		return fmt.Errorf("tell the others: %w", err)
	}
	return nil
}
