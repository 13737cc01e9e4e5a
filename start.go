package drm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/logqueue"
	"github.com/distributed-resource-manager/drm/internal/member"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/internal/txn"
	"github.com/distributed-resource-manager/drm/lease"
	"github.com/distributed-resource-manager/drm/membership"
)

// Start makes a member and joins the app, which is created if need be. It returns when the member is registered and, if
// it is the one that coordinates a fresh app, the source has been fetched for the first time; the first resources are
// handled soon after. ctx bounds the start only: Stop ends the member.
//
// Errors: an *InputError for a bad Config; ErrUnreachable where etcd does not answer anything within DialTimeout (one that has too
// much to do, and answers late, is waited for until ctx ends); an
// *IDInUseError for an ID that another live member has; what the Retriever's Setup returned; and what its first Fetch
// returned, if it failed for all of FetchRetryBudget in a fresh app, or said that trying again is pointless (Retryable).
// After an error nothing is left behind.
func Start(ctx context.Context, cfg Config) (*Manager, error) {
	options := member.OptionsFrom(ctx)
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	layout := keys.New(cfg.Prefix, cfg.App)
	log, logs := logqueue.Wrap(cfg.Logger.With(cfg.LoggerFields...))
	log = log.With(zap.String("app", cfg.App))
	var client *clientv3.Client
	var own bool
	err = during(ctx, log, "etcd to answer", endpointsOf(cfg.Etcd), func() (err error) {
		client, own, err = connect(ctx, cfg.Etcd, layout.Config(), true)
		return err
	})
	if err != nil {
		return nil, err
	}
	m := &Manager{
		cfg: cfg, id: cfg.ID, started: options.Wall().UTC().Truncate(time.Millisecond), clock: options.Clock, wall: options.Wall,
		statsInterval: options.StatsInterval,
		log:           log, logs: logs,
		client: client, ownClient: own, layout: layout,
		mailbox: newMailbox(), loopDone: make(chan struct{}), endLoop: make(chan struct{}),
		idle: make(chan struct{}), quiet: make(chan struct{}), hurry: make(chan struct{}), done: make(chan struct{}), groupDone: make(chan struct{}),
		leases: map[int64]*claimLease{}, revoking: make(chan struct{}, 1), followers: map[int]*shardFollower{},
		sourceReady: make(chan error, 1),
	}
	if err := m.start(ctx); err != nil {
		return nil, err
	}
	if options.Observe != nil {
		options.Observe(probe{m})
	}
	return m, nil
}

func (m *Manager) start(ctx context.Context) (err error) {
	cfg := m.cfg
	err = m.patiently(ctx, "etcd to tell the app's config", func(ctx context.Context) error {
		opening, cancel := context.WithTimeout(ctx, cfg.Etcd.CommandTimeout)
		defer cancel()
		var err error
		m.app, err = appconfig.Open(opening, m.client, m.layout, cfg.Shards, DefaultShards)
		return err
	})
	if err != nil {
		m.closeClient()
		var shards *appconfig.ShardsError
		if errors.As(err, &shards) {
			return shardsInput(shards)
		}
		return withUnreachable(ctx, err)
	}
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	m.staying, m.leave = context.WithCancel(context.Background())
	m.tasksCtx, m.endTasks = context.WithCancel(context.Background())
	m.setLog(m.log)
	m.hub = follow.NewHub(m.client, follow.Options{
		ListTimeout: cfg.Etcd.CommandTimeout, Probe: m.layout.Config(), Resync: cfg.ResyncInterval,
		OnError: func(prefix string, err error) {
			m.failures.Add(failures.Failure{
				Message: "watch failed; retrying", Level: zap.WarnLevel, Error: err.Error(), Fields: []zap.Field{zap.String("prefix", prefix)},
			})
		},
		OnRewound: m.rewound,
	})
	m.kv = m.hub.KV()
	etcd := m.hub.Committer(txn.New(m.client))
	limits := new(txn.Limits) // of one etcd: what one of the writers learns spares the others the same refusal
	m.store = newStore(etcd, limits, m.layout, m.app, cfg.Etcd.CommandTimeout)
	m.store.Wall = m.wall
	m.core = core.New(core.Config{
		HandleConcurrency: cfg.HandleConcurrency, TerminateConcurrency: cfg.TerminateConcurrency,
		ReleaseBacklog: max(64, cfg.TerminateConcurrency), ReleaseLeast: 8, ReleaseSlow: cfg.LeaseTTL / 25,
		Handover: min(cfg.LeaseTTL, cfg.StopTimeout/4), HandleAttempts: cfg.HandleAttempts,
		Backoff: cfg.HandleBackoff, BackoffMax: cfg.HandleBackoffMax,
		RetryMin: 100 * time.Millisecond, RetryMax: 5 * time.Second, UncertainFor: time.Minute,
		HoldUntilTerminated: cfg.TerminatePolicy == HoldUntilTerminated, CanUpdate: isUpdater(cfg.Handler), FinishCalls: finishesCalls(cfg.Handler), KeysPerLease: 8192, LeaseIdle: time.Minute,
		WriteBacklog: 8192, StateDelay: 10 * time.Second, SummaryLeast: 4,
		Rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	})
	guard := lease.Guard{Key: m.layout.Config(), CreateRevision: m.app.CreateRevision}
	// The core has one write of a claim under way at a time, and one of what it says.
	writing := lease.WriterOptions{MaxInFlight: cfg.MaxInFlight, Slow: cfg.LeaseTTL / 10, Distinct: true, Timeout: cfg.Etcd.CommandTimeout, Limits: limits}
	m.claims = lease.NewWriter(etcd, guard, writing, m.written)
	m.states = lease.NewWriter(etcd, guard, writing, m.written)
	m.group = newGroup(m)

	groupCtx, endGroup := context.WithCancel(context.Background())
	m.endGroup = endGroup
	go m.runLoop()
	if err := m.join(ctx); err != nil {
		close(m.groupDone)
		m.undo(ctx)
		return err
	}
	go func() {
		defer close(m.groupDone)
		m.group.run(groupCtx)
	}()
	if err := m.settle(ctx); err != nil {
		m.undo(ctx)
		return err
	}
	return nil
}

// newCalls makes what calls the handler, once it is known who the member is and how long its leases live.
func (m *Manager) newCalls() *calls.Calls {
	atLeast := time.Duration(0)
	if m.cfg.OutagePolicy == KeepOnOutage {
		atLeast = m.cfg.LeaseTTL / 2
	}
	return calls.New(calls.Options{
		Handler:       userHandler{m.cfg.Handler, m.cfg.App, m.id},
		HandleTimeout: m.cfg.HandleTimeout, TerminateTimeout: m.cfg.TerminateTimeout,
		HoldFailed: m.cfg.TerminatePolicy == HoldUntilTerminated, AtLeast: atLeast,
		Core: m.core, Post: func(f func(time.Duration)) bool { return m.post(func() { f(m.stamp) }) }, Wall: m.wall,
		Parent: m.ctx, Staying: m.staying, Log: m.log, Failures: m.failures,
	})
}

// newSource makes what calls the retriever, once it is known who the member is.
func (m *Manager) newSource() *source.Source {
	cfg := &m.cfg
	o := source.Options{
		OnError:      onSourceError(cfg.OnSourceError),
		FetchTimeout: cfg.FetchTimeout, RetryBudget: cfg.FetchRetryBudget, PollInterval: cfg.PollInterval,
		SettleDelay: cfg.SettleDelay, CacheResources: cfg.CacheResources,
		Strict: cfg.SourceStrict, ExitOnError: cfg.SourcePolicy == ExitOnSourceError,
		Removals: catalogue.Rules{
			Share: cfg.MaxRemovals.Share, MoreThan: cfg.MaxRemovals.MoreThan,
			Delay: max(cfg.RemovalDelay, cfg.PollInterval), Hold: cfg.RemovalPolicy == HoldRemovals, Now: m.now,
		},
		Gone: cfg.SourceGone, CommandTimeout: cfg.Etcd.CommandTimeout,
		Now: m.now, Wall: m.wall,
		KV: m.kv, Hub: m.hub, Layout: m.layout, Store: m.store, Created: m.app.CreateRevision,
		Log: m.log, Failures: m.failures,
		FirstFetch: m.firstFetch, Fail: m.fail, Resign: m.group.resign, FetchReturned: m.group.wake,
		StepBack: m.group.stepBack, Hurry: m.hurry,
	}
	if cfg.Retriever != nil {
		o.Retriever = userRetriever{cfg.Retriever, m}
	}
	return source.New(o)
}

// shardsInput says of an app that it has another number of shards than was asked for.
func shardsInput(e *appconfig.ShardsError) error {
	return fmt.Errorf("config: %w", &InputError{"Shards", fmt.Sprint(e.Asked), fmt.Sprintf("0, or the %d that the app was created with", e.Has)})
}

// join takes an id and a lease, sets up the retriever, and becomes active.
func (m *Manager) join(ctx context.Context) error {
	for {
		err := m.takeLeaseAndID(ctx)
		if err == nil {
			break
		}
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) || ctx.Err() != nil {
			return err
		}
		m.log.Warn("the lease has ended before the member was registered; asking for another", zap.Error(err))
		m.group.dropLease()
	}
	m.encoder = claims.NewEncoder(m.id)
	m.setLog(m.log.With(zap.String("member", m.id)))
	m.calls = m.newCalls()
	m.source = m.newSource()
	m.tasks.run(func() { membership.Follow(m.tasksCtx, m.hub, m.layout, m.app.Shards, m.group.onView) })
	if m.cfg.Retriever != nil {
		if err := during(ctx, m.log, "the retriever's Setup", upTo(m.cfg.FetchTimeout), func() error { return m.source.SetUp(ctx) }); err != nil {
			return fmt.Errorf("set up the retriever: %w", err)
		}
	}
	if err := during(ctx, m.log, "other members that join", m.group.joining, func() error { return m.group.awaitOthers(ctx) }); err != nil {
		return err
	}
	var reg membership.Registration
	err := m.patiently(ctx, "etcd to make the member active", func(ctx context.Context) (err error) {
		reg, err = m.registrar.Activate(ctx, *m.group.reg.Load())
		return err
	})
	switch {
	case errors.Is(err, membership.ErrGone), errors.Is(err, rpctypes.ErrLeaseNotFound):
		// Its lease ended meanwhile: the machine is slow, or somebody revoked it. As at any later time, the group sees to it.
		m.log.Warn("the member's key is gone before it is active", zap.Error(err))
		return nil
	case err != nil:
		return withUnreachable(ctx, err)
	}
	m.group.setRegistration(&reg)
	m.log.Info("joined", zap.Ints("slots", reg.Record.Slots), zap.Int("shards", m.app.Shards))
	return nil
}

// takeLeaseAndID gets the lease of the member's key, and registers the member on it.
func (m *Manager) takeLeaseAndID(ctx context.Context) error {
	err := m.patiently(ctx, "a lease from etcd", func(ctx context.Context) error {
		granting, cancel := context.WithTimeout(ctx, m.cfg.Etcd.CommandTimeout)
		defer cancel()
		return m.group.grant(granting)
	})
	if err != nil {
		return withUnreachable(ctx, fmt.Errorf("grant a lease: %w", err))
	}
	if ttl := m.group.keeper.TTL(); ttl > m.cfg.LeaseTTL {
		m.log.Warn("etcd granted a longer lease than was asked for: its minimum follows from its election timeout",
			zap.Duration("asked", m.cfg.LeaseTTL), zap.Duration("granted", ttl))
		m.cfg.LeaseTTL = ttl
	}
	return m.takeID(ctx)
}

// setLog sets what is logged to, before anyone logs.
func (m *Manager) setLog(log *zap.Logger) {
	m.log = log
	if m.failures != nil {
		m.failures.Close()
	}
	m.failures = failures.New(log)
}

// fails logs what will be tried again after a pause.
func (m *Manager) fails(message string, err error, pause time.Duration) {
	m.failures.Add(failures.Failure{
		Message: message, Level: zap.WarnLevel, Error: err.Error(), Fields: []zap.Field{zap.Duration("retry_in", pause)},
	})
}

// takeID registers the member. An id that is in use is waited for, as long as the key of a crashed member lives; a
// default one then takes a suffix.
func (m *Manager) takeID(ctx context.Context) error {
	explicit, began := m.cfg.ID != "", time.Now()
	if !explicit {
		m.id = defaultID()
	}
	base := m.id
	for suffix := 2; ; suffix++ {
		m.registrar = &membership.Registrar{
			Client: m.kv, Layout: m.layout, Shards: m.app.Shards, Config: m.app.CreateRevision,
			ID: m.id, Timeout: m.cfg.Etcd.CommandTimeout,
		}
		taken, err := m.registerWithin(ctx, m.cfg.LeaseTTL+time.Second, suffix == 2)
		switch {
		case err != nil:
			return withUnreachable(ctx, err)
		case taken == nil:
			return nil
		case explicit:
			return fmt.Errorf("%w (after %v of waiting for it to be free)", idInUse(taken), time.Since(began).Round(100*time.Millisecond))
		}
		m.id = fmt.Sprintf("%s-%d", base, suffix)
		m.log.Info("the member id stays in use; trying another one", zap.String("taken", taken.Holder.ID), zap.String("id", m.id))
	}
}

// registerWithin registers, and while the id is taken tries again for some time, if that is wanted.
func (m *Manager) registerWithin(ctx context.Context, within time.Duration, wait bool) (*membership.TakenError, error) {
	waiting, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for tries, began := 0, time.Now(); ; tries++ {
		err := m.patiently(ctx, "etcd to register the member", func(ctx context.Context) error { return m.group.register(ctx, membership.Joining) })
		var taken *membership.TakenError
		if !errors.As(err, &taken) {
			return nil, err
		}
		if wait && tries == 0 {
			m.log.Info("the member id is in use; waiting for it to be free, as that of a member that died will be",
				zap.String("id", m.id), zap.String("address", taken.Holder.Address), zap.Time("since", taken.Holder.Started), zap.Duration("at_most", within))
		}
		if !wait || !pauseFor(waiting, 100*time.Millisecond) {
			if cause := context.Cause(ctx); cause != nil {
				return nil, fmt.Errorf("%w (after %v of waiting for the member id to be free: %s)", cause, time.Since(began).Round(100*time.Millisecond), idInUse(taken).Error())
			}
			return taken, nil
		}
	}
}

// settle waits until the member is in the view and, in a fresh app that it coordinates, for the first fetch.
func (m *Manager) settle(ctx context.Context) error {
	err := during(ctx, m.log, "the group to see the member", nil, func() error {
		select {
		case <-m.group.first:
			return nil
		case <-m.done:
			return m.Err()
		case <-ctx.Done():
			return fmt.Errorf("join: %w", context.Cause(ctx))
		}
	})
	if err != nil || m.cfg.Retriever == nil {
		return err
	}
	return during(ctx, m.log, "the first fetch of the app's source", m.group.coordinates, func() error {
		select {
		case err := <-m.sourceReady:
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

// undo ends a manager whose start failed.
func (m *Manager) undo(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.Etcd.CommandTimeout)
	defer cancel()
	_ = m.Stop(ctx) // the error that made the start fail is the one to tell
}

func (m *Manager) closeClient() {
	if m.ownClient {
		_ = m.client.Close() // says only that it was closed
	}
}
