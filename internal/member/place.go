package member

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/health"
	"github.com/distributed-resource-manager/drm/internal/outlook"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/lease"
	"github.com/distributed-resource-manager/drm/membership"
)

// memberFirst is how much earlier the lease of a dead member's key expires than those of its claims. So the others see
// at once who has died, and follow its shards while etcd is still busy deleting its claims.
const memberFirst = 10 * time.Millisecond

// shareGrace is how long news of a change of the group may take to reach each member, so that the rates of keys hold.
const shareGrace = time.Second

// place is this member's place among the members: its key with the lease, what the views say of it, and the office of
// the coordinator.
//
// New makes it, with prepare, and uses grant and register to take the id; assemble sets core, source and the other
// parts that need the id. Start then follows the group with onView, and starts run once the member has joined. Stop
// ends run, and calls giveBack.
type place struct {
	id        string
	record    membership.Record // the record of its key while it is joining
	key       string            // its key in etcd
	registrar *membership.Registrar
	grants    *grants
	joinDelay time.Duration
	core      *core.Core
	loop      *loop
	wall      func() time.Time
	source    *source.Source
	hasSource bool
	figures   *figures
	log       *zap.Logger
	told      told
	terms     context.Context // the parent of each term's context; ends when Stop's time is up

	reg    atomic.Pointer[membership.Registration] // nil while the member is not registered
	keeper *lease.Keeper                           // of the member's key; run's goroutine owns it
	former map[int64]*lease.Keeper                 // earlier ones whose leases may live on; run's goroutine owns it
	lost   chan error                              // holds the cause when the lease of the member's key was fenced
	away   string                                  // why the member registers again; run's goroutine owns it

	mu    sync.Mutex    // keeps the order of what is posted to the core
	views chan struct{} // holds a token when run should look at last and reg
	last  atomic.Pointer[membership.View]
	first chan struct{} // closed at the first view in which this member is active or unready
	begun bool          // first is closed

	back     []bool           // shards that this member does not own for now if they are empty; mu guards it
	backWith *membership.View // the last view when back was set; mu guards it
	acted    int64            // the revision of the newest view that the core was told of; for the loop
	actedAt  time.Duration    // when that was; for the loop

	joiners  chan struct{}      // holds a token when who waits for views should look at last
	activeAt time.Duration      // when this member first became active or unready; mu guards it
	retake   chan time.Duration // holds the time at which run must apply the last view again

	office // run's goroutine owns it, unless a field says otherwise
	guide  guide
	goes   atomic.Bool // the member is about to stop, and tells the coordinator
	orders standingOrders

	weights weights

	schemas schemas // run's goroutine owns it

	readiness *readiness // nil if the user has no Ready
	failing   *failing   // run's goroutine owns it
	flapping  *flapping
	unready   unreadiness
	reasonAt  time.Duration // when this member's key was last written because it is unready; run's goroutine owns it
	declines  declines
}

// told are the functions by which the place tells the member what concerns other parts too.
type told struct {
	failed     func(error)                        // the member has to end, for good
	board      *health.Board                      // shows whether the member is registered
	inUse      func(*membership.TakenError) error // makes the error which says that another member has the id
	firstFetch func(error)                        // ends the wait of Start for the first fetch
}

// prepare completes a place whose dependencies are set.
func (p *place) prepare() *place {
	p.former, p.lost = map[int64]*lease.Keeper{}, make(chan error, 1)
	p.views, p.first = make(chan struct{}, 1), make(chan struct{})
	p.joiners, p.retake = make(chan struct{}, 1), make(chan time.Duration, 1)
	p.weights.own.Store(int64(p.record.Weight))
	return p
}

// fenced makes run register the member again, because the lease of its key was fenced. Any goroutine may call it.
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

// forgetLost drops the report that a lease was fenced which has been replaced, or is about to be.
func (p *place) forgetLost() {
	select {
	case cause := <-p.lost:
		p.log.Debug("the previous lease has ended", zap.Error(cause))
	default:
	}
}

// register puts the member's key.
func (p *place) register(ctx context.Context, record membership.Record) error {
	reg, err := p.registrar.Register(ctx, record, p.keeper.ID())
	if err != nil {
		return err
	}
	p.setRegistration(&reg)
	return nil
}

// onView applies a view to the core at once, and wakes run. The goroutine that follows the group calls it.
func (p *place) onView(v *membership.View) {
	p.mu.Lock()
	p.last.Store(v)
	p.applyLocked()
	p.mu.Unlock()
	p.stir()
}

// setRegistration sets the registration that the views are read for; nil: the member is not registered.
func (p *place) setRegistration(reg *membership.Registration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reg.Store(reg)
	p.weights.tell()
	if reg != nil && reg.Record.State != membership.Joining && p.activeAt == 0 {
		p.activeAt = p.loop.clock.Now()
	}
	p.applyLocked()
}

// stepBack makes this member not own some shards for now; nil: it owns all of its shards again. It goes on to own a
// shard in which it knows of anything: what is handled there goes on, and what others release is taken over. This ends
// when the membership changes, because this member does not know what a member had that is gone. Any goroutine may call
// it.
func (p *place) stepBack(from []bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.back, p.backWith = from, p.last.Load()
	p.applyLocked()
}

// applyLocked tells the core what the last view means for this member. It ignores a view that is older than the
// registration, because a later one will come. The caller holds p.mu, so that the core gets the views in order.
func (p *place) applyLocked() {
	v, reg := p.last.Load(), p.reg.Load()
	if v == nil {
		return
	}
	self := outlook.Self{ID: p.id, ActiveAt: p.activeAt, Now: p.loop.clock.Now(), JoinDelay: p.joinDelay}
	if reg != nil {
		self.Registered = reg.CreateRevision
	}
	o, ok := outlook.Of(v, self)
	if !ok {
		return
	}
	if p.back != nil && !v.SameMembers(p.backWith) {
		p.back = nil
	}
	if o.Waits && o.Until > 0 {
		select {
		case p.retake <- o.Until:
		default:
		}
	}
	back := p.back
	p.loop.post(func(now time.Duration) {
		for n, from := range back {
			o.Owned[n] = o.Owned[n] && (!from || p.core.Knows(n))
		}
		o.Tell(p.core, now)
		p.acted, p.actedAt = v.Revision, now
	})
	p.wake()
}

// wake makes run look at the last view again. Any goroutine may call it.
func (p *place) wake() {
	select {
	case p.views <- struct{}{}:
	default:
	}
}

// answers returns an error if the member's loop does not answer.
func (p *place) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.grants.ttl/5) // as long as a keepalive waits for the loop
	defer cancel()
	return p.loop.probe(ctx)
}

// warn logs a failure, unless run's context has ended, which is then the reason for it.
func (p *place) warn(ctx context.Context, message string, err error) {
	if ctx.Err() == nil {
		p.log.Warn(message, zap.Error(err))
	}
}

// setLeaving tells the other members that this one is stopping, so that they take over what it releases.
func (p *place) setLeaving(ctx context.Context) error {
	reg := p.reg.Load()
	if reg == nil {
		return nil
	}
	if _, err := p.registrar.SetState(ctx, *reg, membership.Leaving); err != nil {
		return fmt.Errorf("set the state of the member's key: %w", err)
	}
	return nil
}

// giveBack revokes the lease of the member's key. It is called when run has ended, or was never started.
func (p *place) giveBack(ctx context.Context) {
	if p.keeper != nil {
		_ = p.keeper.Revoke(ctx) // the lease expires by itself otherwise
		p.keeper.Close()
	}
}
