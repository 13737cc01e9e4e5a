package member

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/clock"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/leaselink"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/lease"
	"github.com/distributed-resource-manager/drm/membership"
)

// New makes a member: it opens the app, creates it if need be, takes a lease and an id, and makes every part. Nothing
// but the renewal of that lease runs then, and the other members see a member that is joining. The caller calls Start
// next. After an error nothing is left behind.
//
// Errors: *appconfig.ShardsError; *appconfig.SchemaError; the error of Config.InUse if another live member has the id;
// an error that matches etcd.ErrUnreachable if etcd does not answer.
func New(ctx context.Context, cfg Config, o Options) (_ *Member, err error) {
	m := &Member{
		cfg:        cfg,
		loop:       newLoop(o.Clock),
		placed:     make(chan struct{}),
		firstFetch: make(chan error, 1),
		stopper:    newStopper(),
	}
	m.handling, m.endHandling = context.WithCancelCause(context.Background())
	m.working, m.endWork = context.WithCancel(context.Background())
	m.staying, m.leave = context.WithCancel(context.Background())
	m.placing, m.endPlace = context.WithCancel(context.Background())
	m.asker = asker{client: cfg.Client, timeout: cfg.Request, log: cfg.Log, board: cfg.Board}
	b := builder{Member: m, o: o}
	defer func() {
		if err != nil {
			b.abandon(ctx)
		}
	}()
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	b.connect()
	if err := b.register(ctx); err != nil {
		return nil, err
	}
	b.assemble()
	return m, nil
}

// builder makes the parts of a member. New calls open, connect, register and assemble, in this order.
type builder struct {
	*Member
	o      Options
	shared *follow.Shared
}

// open reads the app's config, and creates it if need be.
func (b *builder) open(ctx context.Context) error {
	err := b.asker.patiently(ctx, "etcd to return the app's config", func(ctx context.Context) (err error) {
		opening, cancel := context.WithTimeout(ctx, b.cfg.Request)
		defer cancel()
		b.app, err = appconfig.Open(opening, b.cfg.Client, b.cfg.Layout, b.cfg.Shards, b.cfg.Default)
		return err
	})
	return etcd.Unreachable(ctx, err)
}

// connect makes the hub and the store, which every part uses to talk to etcd, and the link to the supervisor.
func (b *builder) connect() {
	limits := new(txn.Limits) // shared by all, so that only one of them has to learn what etcd allows
	if b.shared = b.cfg.Shared; b.shared == nil {
		b.shared = follow.NewShared(b.cfg.Client)
	}
	b.hub = b.shared.NewHub(follow.Options{
		ListTimeout: b.cfg.Request, Probe: b.cfg.Layout.Config(), Resync: b.cfg.Resync, Limits: limits,
		OnError: func(prefix string, err error) {
			b.failures.Add(failures.Failure{
				Message: "watch failed; retrying", Level: zap.WarnLevel, Error: err.Error(),
				Fields: []zap.Field{zap.String("prefix", prefix)},
			})
		},
		OnRewound: b.rewound,
	})
	b.asker.heard = b.hub.Heard
	b.loop.pulse = b.hub.Rounds().NewPulse()
	b.link = leaselink.Dial(b.cfg.Supervisor, b.cfg.Log)
	b.store = &catalogue.Store{
		Etcd:    b.hub.Committer(txn.New(b.cfg.Client)),
		Limits:  limits,
		Layout:  b.cfg.Layout,
		Shards:  b.app.Shards,
		Config:  b.app.CreateRevision,
		Timeout: b.cfg.Request,
		Quota:   b.cfg.Quota,
		Wall:    b.o.Wall,
	}
}

// register takes an id and a lease. Another id needs another place, with a lease of its own, because everything that is
// logged about a lease names the member's id.
func (b *builder) register(ctx context.Context) error {
	began := time.Now()
	for n := 1; ; n++ {
		id := b.cfg.ID
		if n > 1 {
			id = fmt.Sprintf("%s-%d", id, n)
		}
		b.setPlace(id)
		taken, err := b.take(ctx, n == 1)
		switch {
		case err != nil:
			return etcd.Unreachable(ctx, err)
		case taken == nil:
			return nil
		case !b.cfg.AnyID:
			took := time.Since(began).Round(100 * time.Millisecond)
			return fmt.Errorf("%w (after %v of waiting for it to be free)", b.cfg.InUse(taken), took)
		}
		b.log.Info("the member id is still in use; trying another one", zap.String("taken", id),
			zap.String("id", fmt.Sprintf("%s-%d", b.cfg.ID, n+1)))
		b.dropPlace(ctx)
	}
}

// setPlace makes the place of a member that has this id. assemble adds what the place needs to run.
func (b *builder) setPlace(id string) {
	b.log = b.cfg.Log.With(zap.String("member", id))
	b.asker.log = b.log
	b.failures = failures.New(b.log)
	record := b.cfg.Record
	record.State, record.MinReady = membership.Joining, b.cfg.MinReady
	record.Started, record.Source = b.o.Wall().UTC().Truncate(time.Millisecond), b.cfg.Source.Retriever != nil
	b.place = (&place{
		id: id, record: record, key: b.cfg.Layout.Member(id),
		registrar: &membership.Registrar{
			Client: b.hub.KV(), ID: id, Timeout: b.cfg.Request,
			Group: membership.Group{Root: b.cfg.Layout.Root(), Shards: b.app.Shards, Config: b.app.CreateRevision},
		},
		grants: &grants{
			lessor: b.hub.Leases(), link: b.link, deaths: b.cfg.Layout.Deaths(id),
			ttl: b.cfg.LeaseTTL, timeout: b.cfg.Request, outlast: b.cfg.Outlast,
			clock: b.loop.clock, pulse: b.loop.pulse, probe: b.loop.probe, log: b.log, failures: b.failures,
		},
		joinDelay: b.cfg.JoinDelay, loop: b.loop, wall: b.o.Wall,
		hasSource: b.cfg.Source.Retriever != nil, log: b.log, terms: b.handling,
		told: told{failed: b.fail, firstFetch: b.fetched, inUse: b.cfg.InUse, board: b.cfg.Board},
	}).prepare()
	if b.loop.clock == clock.System() { // what the members of a connection share goes by it
		b.place.grants.leaps, b.place.grants.rounds = b.shared.Leaps(), b.hub.Rounds()
	}
}

// dropPlace gives back the lease of the place, and with it the id.
func (b *builder) dropPlace(ctx context.Context) {
	if b.place == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.Request)
	defer cancel()
	b.place.giveBack(ctx)
	b.failures.Close()
	b.place = nil
}

// take gets a lease and registers the member on it. If the lease ends before the member is registered, take gets
// another one. taken is not nil if another live member has the id.
func (b *builder) take(ctx context.Context, wait bool) (taken *membership.TakenError, err error) {
	for {
		err := b.asker.patiently(ctx, "a lease from etcd", func(ctx context.Context) error {
			granting, cancel := context.WithTimeout(ctx, b.cfg.Request)
			defer cancel()
			return b.place.grant(granting)
		})
		if err != nil {
			return nil, fmt.Errorf("grant a lease: %w", err)
		}
		b.takeTTL()
		taken, err = b.registerWithin(ctx, b.cfg.LeaseTTL+time.Second, wait)
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) || ctx.Err() != nil {
			return taken, err
		}
		b.log.Warn("the lease ended before the member was registered; requesting another one", zap.Error(err))
		b.place.keeper.Close()
		b.place.forgetLost()
	}
}

// takeTTL makes the TTL that etcd granted the member's TTL, if etcd granted more than the member requested.
func (b *builder) takeTTL() {
	if ttl := b.place.keeper.TTL(); ttl > b.cfg.LeaseTTL {
		b.log.Warn("etcd granted a longer lease than requested: its election timeout sets a minimum",
			zap.Duration("asked", b.cfg.LeaseTTL), zap.Duration("granted", ttl))
		b.cfg.LeaseTTL = ttl
	}
	b.place.grants.ttl = b.cfg.LeaseTTL
}

// registerWithin registers the member. If another member has the id and wait is set, it tries again for the duration
// within, which is how long the key of a crashed member lives.
func (b *builder) registerWithin(ctx context.Context, within time.Duration, wait bool) (*membership.TakenError, error) {
	waiting, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	w := idWait{log: b.log, board: b.cfg.Board, id: b.place.id, anyID: b.cfg.AnyID, within: within}
	defer w.end()
	for tries, began := 0, time.Now(); ; tries++ {
		err := b.asker.patiently(ctx, "etcd to register the member", func(ctx context.Context) error {
			return b.place.register(ctx, b.place.record) // it is joining
		})
		var taken *membership.TakenError
		if !errors.As(err, &taken) {
			return nil, err
		}
		if wait && tries == 0 {
			w.begin(taken.Holder)
		}
		if !wait || !pace.Wait(waiting, 100*time.Millisecond) {
			if cause := context.Cause(ctx); cause != nil {
				took := time.Since(began).Round(100 * time.Millisecond)
				return nil, fmt.Errorf("%w (after %v of waiting for the member id to be free: %s)",
					cause, took, b.cfg.InUse(taken).Error())
			}
			return taken, nil
		}
	}
}

// assemble makes the parts that need the member's id and the TTL of its leases.
func (b *builder) assemble() {
	m, cfg, place := b.Member, &b.cfg, b.place
	m.core = core.New(b.rules())
	leases := newLeases(m.working, m.handling, place.grants, m.core, m.loop.post, &m.tasks)
	m.executor = &executor{
		core:    m.core,
		post:    m.loop.post,
		id:      place.id,
		life:    strconv.FormatUint(rand.Uint64(), 36),
		layout:  cfg.Layout,
		encoder: claims.NewEncoder(place.id),
		wall:    b.o.Wall,
		log:     m.log,
		leases:  leases,
		shards: &shards{
			parts: m.hub.Parts(m.working, cfg.Layout.Shards()), layout: cfg.Layout, count: m.app.Shards, core: m.core,
			post: m.loop.post, failures: m.failures, followers: map[int]*shardFollower{},
			weigh: cfg.Weigh, epoch: func() time.Time { return b.o.Wall().Add(-m.loop.clock.Now()) },
		},
		claimed: map[int]int64{},
		endings: endings{ended: map[int64]struct{}{}, waiting: map[int64][]lease.Op{}},
		tasks:   &m.tasks, kv: m.hub.KV(), leased: cfg.Client, working: m.working, timeout: cfg.Request,
		calls: b.calls(),
		moves: &moves{
			id: place.id, layout: cfg.Layout, kv: m.hub.KV(), timeout: cfg.Request,
			interval: tidyEvery * b.o.StatsInterval, wall: b.o.Wall, view: place.last.Load, reg: place.reg.Load,
			ctx: m.working, tasks: &m.tasks, failures: m.failures, some: make(chan struct{}, 1),
		},
		keys: &keyFinder{
			key: cfg.BudgetKey, answer: m.core.KeyFound, post: m.loop.post, timeout: keyTimeout, failures: m.failures,
		},
	}
	guard := lease.Guard{Key: cfg.Layout.Config(), CreateRevision: m.app.CreateRevision}
	writing := lease.WriterOptions{
		MaxInFlight: cfg.InFlight,
		Gather:      min(2, cfg.InFlight), // in a takeover, shards are listed one after the other
		Slow:        cfg.LeaseTTL / 10,
		Distinct:    true, // the core writes a claim's key again only when it has the result of the last write
		Timeout:     cfg.Request,
		Limits:      m.store.Limits,
	}
	m.executor.claims = lease.NewWriter(m.store.Etcd, guard, writing, m.executor.written)
	m.executor.states = lease.NewWriter(m.store.Etcd, guard, writing, m.executor.written)
	writing.MaxInFlight = min(2, writing.MaxInFlight) // so that what comes in a row goes in few transactions
	m.executor.trails = lease.NewWriter(m.store.Etcd, guard, writing, m.executor.traced)

	place.core = m.core
	place.figures = (&figures{
		now: m.loop.clock.Now, wall: b.o.Wall, count: m.count, kv: m.hub.KV(), key: cfg.Layout.Stats(place.id),
		loads: cfg.Layout.Load(place.id), timeout: cfg.Request, log: m.log, interval: b.o.StatsInterval,
	}).prepare()
	m.executor.stir, m.executor.decline = place.figures.stir, place.setDeclined
	place.failing, place.flapping = b.newFailing(b.o.StatsInterval), b.newFlapping()
	if cfg.Ready != nil {
		place.readiness = newReadiness(cfg, m.loop.clock.Now, m.log, place.wake, m.serviceRestarted)
	}
	m.source = source.New(b.sourceOptions())
	place.source = m.source
	place.guide.weigh, place.guide.options = cfg.Weigh, placement.Options{
		Rules: cfg.Balance, Member: place.id, Shards: m.app.Shards, Layout: cfg.Layout, KV: m.hub.KV(), Hub: m.hub,
		Timeout: cfg.Request, Limits: m.store.Limits, Now: m.loop.clock.Now, Wall: b.o.Wall,
		Log: m.log, Failures: m.failures,
	}
}

// rules returns the rules that the core decides by.
func (b *builder) rules() core.Config {
	cfg := &b.cfg
	return core.Config{
		HandleConcurrency: cfg.Handles, TerminateConcurrency: cfg.Terminates,
		HandleRate: cfg.HandleRate, KeyRate: cfg.KeyRate, ShareGrace: shareGrace,
		MaxResources: cfg.MaxResources, RetakeAfter: retakeAfter,
		ReleaseBacklog: max(64, cfg.Terminates), ReleaseLeast: 8, ReleaseSlow: cfg.LeaseTTL / 25,
		Handover: min(cfg.LeaseTTL, cfg.StopTimeout/4), HandleAttempts: cfg.HandleAttempts,
		MoveAfter: cfg.MoveAfter,
		Backoff:   cfg.Backoff, BackoffMax: cfg.BackoffMax,
		RetryMin: 100 * time.Millisecond, RetryMax: 5 * time.Second, UncertainFor: time.Minute,
		HoldUntilTerminated: cfg.HoldUntilTerminated, CanUpdate: cfg.CanUpdate, FinishCalls: cfg.FinishCalls,
		KeysPerLease: 8192, LeaseIdle: time.Minute,
		WriteBacklog: 8192, StateDelay: 10 * time.Second, SummaryLeast: 4,
		QuarantineAfter: cfg.QuarantineAfter, QuarantineWindow: cfg.QuarantineWindow, Young: b.o.Young, Crowd: 32,
		Rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	}
}

// calls makes the part that calls the handler.
func (b *builder) calls() *calls.Calls {
	cfg := &b.cfg
	atLeast := time.Duration(0)
	if cfg.Outlast {
		atLeast = cfg.LeaseTTL / 2
	}
	return calls.New(calls.Options{
		Handler: cfg.Handler(b.place.id), Instance: cfg.Instance, Checks: cfg.Checks,
		HandleTimeout: cfg.HandleTimeout, TerminateTimeout: cfg.TerminateTimeout,
		HoldUntilTerminated: cfg.HoldUntilTerminated, AtLeast: atLeast, Core: b.core, Post: b.loop.post, Wall: b.o.Wall,
		Parent: b.handling, Staying: b.staying, Log: b.log, Failures: b.failures,
	})
}

// sourceOptions adds to the user's options for the source what the source needs from the member.
func (b *builder) sourceOptions() source.Options {
	o := b.cfg.Source
	o.CommandTimeout, o.Now, o.Wall = b.cfg.Request, b.loop.clock.Now, b.o.Wall
	o.Removals.Now = o.Now
	o.KV, o.Hub, o.Layout, o.Store, o.Created = b.hub.KV(), b.hub, b.cfg.Layout, b.store, b.app.CreateRevision
	o.Log, o.Failures = b.log, b.failures
	o.FirstFetch, o.Fail, o.Resign = b.fetched, b.fail, b.place.resign
	o.Place = b.place.guide.first
	o.FetchReturned, o.StepBack, o.Hurry = b.place.wake, b.place.stepBack, b.hurry
	return o
}

// abandon ends everything that New has begun, after an error.
func (b *builder) abandon(ctx context.Context) {
	b.dropPlace(ctx)
	if b.hub != nil {
		b.hub.Close()
	}
	b.link.Close()
	b.leave()
	b.endPlace()
	b.endWork()
	b.endHandling(calls.CauseStopped)
	b.cfg.Close()
}
