package member

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/lease"
	"github.com/distributed-resource-manager/drm/membership"
)

// memberFirst is how long before the leases of a dead member's claims that of its key expires: the others hear at once
// who has died, and follow its shards while etcd is still busy deleting its claims.
const memberFirst = 10 * time.Millisecond

// place is this member's place among the members: its key with the lease, what the views say of it, and the office of
// the coordinator.
type place struct {
	id        string
	record    membership.Record // what its key says, but for the state
	key       string            // its key in etcd
	registrar *membership.Registrar
	grants    *grants
	timeout   time.Duration // of each request
	ttl       time.Duration // of the lease
	joinDelay time.Duration
	core      *core.Core
	loop      *loop
	wall      func() time.Time
	source    *source.Source
	hasSource bool
	figures   *figures
	log       *zap.Logger
	told      told
	terms     context.Context // of what a coordinator does: ends when Stop's time is up

	reg    atomic.Pointer[membership.Registration] // nil while the member is not registered
	keeper *lease.Keeper                           // of the member's key; run's goroutine owns it
	former map[int64]*lease.Keeper                 // those before, whose leases may live on; run's goroutine owns it
	lost   chan error                              // holds why, when the member's lease was fenced

	mu    sync.Mutex    // orders what the core is told
	views chan struct{} // holds a token when last or reg changed
	last  atomic.Pointer[membership.View]
	first chan struct{} // closed at the first view that has this member active
	begun bool

	back     []bool           // shards that are not owned for now, unless there is something in them; with mu
	backWith *membership.View // that held when it was set

	joiners  chan struct{}      // holds a token when last changed, while this member joins
	activeAt time.Duration      // when this member first became active
	retake   chan time.Duration // holds when a view that was not taken in full is to be looked at again

	office // run's goroutine owns it, but for what it says of itself
	order  drainOrder
}

// told is whom the place tells what is not its own affair.
type told struct {
	failed     func(error)                        // the member has to end, for good
	inUse      func(*membership.TakenError) error // makes the error that somebody else has the member's id
	firstFetch func(error)                        // the first fetch of a fresh app's source is over, or is not this member's affair
}

// prepare makes the place ready for use, once its dependencies are set.
func (p *place) prepare() *place {
	p.former, p.lost = map[int64]*lease.Keeper{}, make(chan error, 1)
	p.views, p.first = make(chan struct{}, 1), make(chan struct{})
	p.joiners, p.retake = make(chan struct{}, 1), make(chan time.Duration, 1)
	return p
}

// fenced takes note that the lease of the member's key was fenced.
func (p *place) fenced(_ *lease.Keeper, cause error) {
	select {
	case p.lost <- cause:
	default:
	}
}

// grant gets a lease for the member's key.
func (p *place) grant(ctx context.Context) error {
	keeper, err := p.grants.grant(ctx, memberFirst, p.fenced, func() {})
	if err == nil {
		p.keeper = keeper
	}
	return err
}

// forgetLost drops the news of the end of a lease that is done with.
func (p *place) forgetLost() {
	select {
	case cause := <-p.lost:
		p.log.Debug("the lease before has ended", zap.Error(cause))
	default:
	}
}

// register puts the member's key.
func (p *place) register(ctx context.Context, state membership.State) error {
	record := p.record
	record.State = state
	reg, err := p.registrar.Register(ctx, record, p.keeper.ID())
	if err != nil {
		return err
	}
	p.setRegistration(&reg)
	return nil
}

// onView takes a view to the core at once, and leaves it for run. The goroutine that follows the group calls it.
func (p *place) onView(v *membership.View) {
	p.mu.Lock()
	p.last.Store(v)
	p.applyLocked()
	p.mu.Unlock()
	select {
	case p.joiners <- struct{}{}:
	default:
	}
}

// setRegistration changes what the views are read by; nil stands for none.
func (p *place) setRegistration(reg *membership.Registration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reg.Store(reg)
	if reg != nil && reg.Record.State == membership.Active && p.activeAt == 0 {
		p.activeAt = p.loop.clock.Now()
	}
	p.applyLocked()
}

// stepBack makes this member not own some shards for now; nil stands for none. A shard in which it knows of anything
// stays its own: what is handled there goes on, and what others let go of is taken over. That ends when the membership
// changes: what a member had that is gone now is not known here.
func (p *place) stepBack(from []bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.back, p.backWith = from, p.last.Load()
	p.applyLocked()
}

// applyLocked gives the core the shards that the last view gives this registration: none, if the view is of another
// one, or if there is none. A view that is older than the registration says nothing of it, and a later one will come.
// p.mu is held, so that what the core hears is in order.
func (p *place) applyLocked() {
	v, reg := p.last.Load(), p.reg.Load()
	if v == nil {
		return
	}
	owned := make([]bool, v.Shards)
	if reg != nil {
		if v.Revision < reg.CreateRevision {
			return
		}
		switch me := v.Members[p.id]; {
		case me.CreateRevision != reg.CreateRevision:
		case me.State == membership.Joining:
			owned = p.prospect(v)
		default:
			owned = v.Owned(p.id)
		}
	}
	if p.back != nil && !v.SameMembers(p.backWith) {
		p.back = nil
	}
	back, alone := p.back, v.Alone(p.id)
	waits, until := p.waits(v)
	if waits && until > 0 {
		select {
		case p.retake <- until:
		default:
		}
	}
	p.loop.post(func(now time.Duration) {
		if waits { // before there is anything to claim; or after it is known what there is
			p.core.PauseClaims(now, true)
		}
		for n, from := range back {
			owned[n] = owned[n] && (!from || p.core.Knows(n))
		}
		p.core.SetAlone(now, alone)
		p.core.SetOwned(now, owned)
		p.core.PauseClaims(now, waits)
	})
	p.wake()
}

// wake makes run look at the last view again.
func (p *place) wake() {
	select {
	case p.views <- struct{}{}:
	default:
	}
}

// answers says whether the member's loop does.
func (p *place) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.ttl/5) // as long as a keepalive waits for it
	defer cancel()
	return p.loop.probe(ctx)
}

// warn logs what failed, unless it did so because the member stops: ctx is run's.
func (p *place) warn(ctx context.Context, message string, err error) {
	if ctx.Err() == nil {
		p.log.Warn(message, zap.Error(err))
	}
}

// setLeaving tells the others that this member is stopping, so that they take over what it releases.
func (p *place) setLeaving(ctx context.Context) error {
	reg := p.reg.Load()
	if reg == nil {
		return nil
	}
	if _, err := p.registrar.SetState(ctx, *reg, membership.Leaving); err != nil {
		return fmt.Errorf("tell the others: %w", err)
	}
	return nil
}

// giveBack revokes the lease of the member's key, once run has ended.
func (p *place) giveBack(ctx context.Context) {
	if p.keeper != nil {
		_ = p.keeper.Revoke(ctx) // it expires by itself otherwise
		p.keeper.Close()
	}
}

// isGone says whether a lease was fenced because etcd does not know it any more.
func isGone(cause error) bool { return errors.Is(cause, lease.ErrGone) }
