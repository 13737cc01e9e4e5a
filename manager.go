package drm

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/logqueue"
	"github.com/distributed-resource-manager/drm/internal/member"
	"github.com/distributed-resource-manager/drm/internal/object"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/internal/usercode"
	"github.com/distributed-resource-manager/drm/membership"
)

// Manager is one member of an app. Start makes one. Its methods are safe for use from any goroutine, and from inside
// the calls of a Handler or Retriever. Only Stop is better called from elsewhere, since it waits for those calls.
type Manager struct {
	cfg    Config
	client *clientv3.Client
	layout keys.Layout
	member *member.Member
}

// Manager is what a Retriever's Setup is given.
var _ API = (*Manager)(nil)

// Start makes a member, which joins the app, and creates the app if it does not exist. It returns when the member is
// registered, whether or not it is ready (Config.Ready). The member that coordinates a fresh app has also fetched the
// source by then. The first resources are handled soon after. ctx bounds the start only: Stop ends the member.
//
// Errors: an *InputError for a bad Config; ErrUnreachable where etcd does not answer anything within DialTimeout (an
// etcd that is overloaded, and answers late, is waited for until ctx ends); an *IDInUseError for an ID that another
// live member has; ErrSchema where a program has to be upgraded first; ErrResharding; what the Retriever's Setup
// returned; and, in a fresh app, what its first Fetch returned, where that failed for all of FetchRetryBudget, or said
// that trying again is pointless (Retryable). After an error nothing is left behind.
func Start(ctx context.Context, cfg Config) (*Manager, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	m := &Manager{cfg: cfg, layout: keys.New(cfg.Prefix, cfg.App)}
	if !cfg.Health.begin() {
		return nil, fmt.Errorf("config: %w", &InputError{
			Field: "Health", Value: "that of another member", Want: "a Health of its own",
		})
	}
	if err := m.start(ctx); err != nil {
		cfg.Health.end(err)
		return nil, err
	}
	return m, nil
}

// start does the work of Start. After an error nothing is left behind.
func (m *Manager) start(ctx context.Context) error {
	cfg := &m.cfg
	log, logs := logqueue.Wrap(cfg.Logger.With(cfg.LoggerFields...))
	log = log.With(zap.String("app", cfg.App))
	done := func() error { return nil }
	closed := func() {
		_ = done()                 // says only that it was closed
		logs.Close(usercode.Grace) // a sink that blocks is left behind
	}
	err := member.During(ctx, log, &cfg.Health.board, etcdToAnswer(cfg.Etcd), func() error {
		client, end, err := cfg.Etcd.connect(ctx, m.layout.Config(), true)
		if err == nil {
			m.client, done = client, end
		}
		return err
	})
	if err != nil {
		closed()
		return err
	}
	options := member.OptionsFrom(ctx)
	m.member, err = member.New(ctx, m.memberConfig(log, closed), options)
	var shards *appconfig.ShardsError
	switch {
	case errors.As(err, &shards):
		return shardsInput(shards)
	case err != nil:
		return err
	}
	if err := m.member.Start(ctx); err != nil {
		return err
	}
	if options.Observe != nil {
		options.Observe(m.member.Probe())
	}
	return nil
}

// memberConfig is the part of the Config that the member needs.
func (m *Manager) memberConfig(log *zap.Logger, closed func()) member.Config {
	c := &m.cfg
	id := c.ID
	if id == "" {
		id = defaultID()
	}
	return member.Config{
		ID: id, AnyID: c.ID == "",
		Record: membership.Record{Weight: c.Weight, Address: c.Address, Labels: c.Labels, Version: c.Version},
		Client: m.client, Shared: c.Etcd.streams(), Layout: m.layout, Request: c.Etcd.CommandTimeout,
		Shards: c.Shards, Default: DefaultShards,
		LeaseTTL: c.LeaseTTL, Outlast: c.OutagePolicy == KeepOnOutage, JoinDelay: c.JoinDelay, Resync: c.ResyncInterval,
		MinMembers: c.MinMembers, MinMembersWait: c.MinMembersWait, Rejoin: c.Rejoin,
		Balance: c.balance(), Weigh: c.weigh(),
		InFlight:      c.MaxInFlight,
		Handler:       func(id string) calls.Handler { return userHandler{c.Handler, c.App, id} },
		HandleTimeout: c.HandleTimeout, TerminateTimeout: c.TerminateTimeout, StopTimeout: c.StopTimeout,
		Handles: c.HandleConcurrency, Terminates: c.TerminateConcurrency, HandleAttempts: c.HandleAttempts,
		MaxResources: c.MaxResources, Quota: c.quota(),
		HandleRate: core.Rate(c.HandleRate), KeyRate: core.Rate(c.KeyRate), BudgetKey: budgetKey(c.BudgetKey),
		MoveAfter: c.MoveAfter, Backoff: c.HandleBackoff, BackoffMax: c.HandleBackoffMax,
		QuarantineAfter: c.quarantineAfter(), QuarantineWindow: c.QuarantineWindow,
		HoldUntilTerminated: c.TerminatePolicy == HoldUntilTerminated,
		Instance:            instanceOf(c.Handler),
		Checks:              c.checks(),
		CanUpdate:           isUpdater(c.Handler), FinishCalls: finishesCalls(c.Handler),
		Ready: readyCheck(c.Ready), ReadyInterval: c.ReadyInterval, UnreadyAfter: c.UnreadyAfter,
		ReadyAfter: c.ReadyAfter, MinReady: c.MinReady, FailedShare: max(c.FailedShare, 0), // Never is below 0
		Source: m.sourceOptions(), Supervisor: c.Supervisor, Log: log, InUse: idInUse, Close: closed,
		Board: &c.Health.board, Joined: func() { c.Health.manager.Store(m) },
	}
}

// quota is the part of the Config that is about quotas.
func (c *Config) quota() catalogue.Quota {
	return catalogue.Quota{Resources: c.MaxAppResources, Bytes: c.MaxResourceBytes}
}

// checks is the part of the Config that is about checks.
func (c *Config) checks() calls.Checks {
	if !isChecker(c.Handler) {
		return calls.Checks{}
	}
	return calls.Checks{
		Interval: c.CheckInterval, Timeout: c.CheckTimeout,
		Failures: c.CheckFailures, Concurrency: c.CheckConcurrency,
	}
}

// balance is the part of the Config that is about the placement of shards.
func (c *Config) balance() placement.Rules {
	return placement.Rules{
		Off: c.BalanceMoves == NoBalance, Quiet: c.BalanceAfter, PerMinute: c.balanceMoves(),
		Moving: int64(c.MaxMoving) * object.OneWeight, MovingPerMember: int64(c.MaxMovingPerMember) * object.OneWeight,
		Again: 10 * time.Minute,
	}
}

// balanceMoves is how much weight may move for balance in a minute.
func (c *Config) balanceMoves() int64 {
	if c.BalanceMoves == NoBalance {
		return 0
	}
	return int64(c.BalanceMoves) * object.OneWeight
}

// weigh returns the function that finds the weight of a resource's object; nil if all weigh the same.
func (c *Config) weigh() func(data []byte) (int64, error) {
	if c.WeightField == "" {
		return nil
	}
	field := c.WeightField
	return func(data []byte) (int64, error) { return object.Weight(data, field) }
}

// quarantineAfter is QuarantineAfter with 0 for NeverQuarantine.
func (c *Config) quarantineAfter() int {
	if c.QuarantineAfter == NeverQuarantine {
		return 0
	}
	return c.QuarantineAfter
}

// sourceOptions is the part of the Config that is about the source.
func (m *Manager) sourceOptions() source.Options {
	c := &m.cfg
	o := source.Options{
		OnError: onSourceError(c.OnSourceError), FetchTimeout: c.FetchTimeout, RetryBudget: c.FetchRetryBudget,
		PollInterval: c.PollInterval, SettleDelay: c.SettleDelay, CacheResources: c.CacheResources,
		Strict: c.SourceStrict, ExitOnError: c.SourcePolicy == ExitOnSourceError, Gone: c.SourceGone,
		Removals: catalogue.Rules{
			Share: c.MaxRemovals.Share, MoreThan: c.MaxRemovals.MoreThan,
			Delay: max(c.RemovalDelay, c.PollInterval), Hold: c.RemovalPolicy == HoldRemovals,
		},
	}
	if c.Retriever != nil {
		o.Retriever = userRetriever{c.Retriever, m, c.quota()}
	}
	return o
}

// ID is the member's id: Config.ID, or the default that Start chose.
func (m *Manager) ID() string { return m.member.ID() }

// App is the app that the member is in.
func (m *Manager) App() string { return m.cfg.App }

// Health tells how the member is: Config.Health, or else one that Start has made.
func (m *Manager) Health() *Health { return m.cfg.Health }

// Done is closed when the manager has ended: after Stop, or because of the error that Err tells.
func (m *Manager) Done() <-chan struct{} { return m.member.Done() }

// Err returns why the manager ended by itself, and nil while it runs and after Stop. The error matches ErrStoreRewound,
// ErrIDInUse, ErrAppGone or ErrSourceFailed; nothing is handled any more.
func (m *Manager) Err() error { return m.member.Err() }

// Stop ends the member in order: it stops polling, tells the others that it leaves, terminates every resource that it
// handles, releases each claim when its Terminate has returned, calls the Retriever's TearDown, and revokes its leases.
// It returns when all that is done, or soon after ctx ends or StopTimeout has passed, whatever the user's code does:
// calls that still run then are cancelled and left behind, their claims expire, and the error says how many there are
// and why (it matches ErrLeftBehind). Stop may be called several times, by several goroutines; all get the same answer.
func (m *Manager) Stop(ctx context.Context) error { return m.member.Stop(ctx) }

// Allocate adds a resource to the catalogue: the member that it belongs to handles it, until it is deallocated.
// Allocate returns once etcd has the entry. Where the catalogue has the id already, the resource gets these data
// (unless they have no field but the id), and is not suspended any more, unless an operator has suspended it
// (Client.Suspend).
//
// An *InputError says what is wrong with the resource; ErrStopped that the manager has ended; ErrUnreachable that etcd
// did not answer, so that it is not known whether the resource was allocated. It may even be allocated some seconds
// later, after a Deallocate that was acknowledged meanwhile.
func (m *Manager) Allocate(ctx context.Context, r Resource) error {
	if err := m.running(); err != nil {
		return fmt.Errorf("allocate %q: %w", r.ID, err)
	}
	return allocate(ctx, m.member.Store(), m.cfg.Etcd.CommandTimeout, r)
}

// Deallocate ends the handling of a resource. It returns once etcd knows, before the resource is terminated. While a
// source has the id, the resource stays in the catalogue, suspended, until it is allocated. In an app that has no
// source, or whose source is gone (Config.SourceGone), it is removed from the catalogue. ErrNotFound says that there is
// nothing to deallocate.
func (m *Manager) Deallocate(ctx context.Context, id string) error {
	if err := m.running(); err != nil {
		return fmt.Errorf("deallocate %q: %w", id, err)
	}
	return deallocate(ctx, m.member.Store(), m.cfg.Etcd.CommandTimeout, id)
}

// Refetch makes the member ask the source again soon, if it is the coordinator. Another member only remembers it, in
// case it becomes the coordinator. A source that has failed is asked again 1 s after that at the earliest, and a source
// that wants to be left alone (Retryable) when that time is over.
func (m *Manager) Refetch() { m.member.Refetch() }

// Wait returns when the resource is active, on any member. Where ctx ends first, the error says why the resource is not
// active, and the Assignment in which state it is. ErrNotFound says that the catalogue does not want it handled.
func (m *Manager) Wait(ctx context.Context, id string) (Assignment, error) {
	if err := m.running(); err != nil {
		return Assignment{}, fmt.Errorf("wait for resource %q: %w", id, err)
	}
	return waitActive(ctx, m.reader(), id)
}

// running returns ErrStopped once the manager has ended. While it stops, a Terminate may still allocate and deallocate.
func (m *Manager) running() error {
	select {
	case <-m.member.Done():
		return ErrStopped
	default:
		return nil
	}
}

// Held lists what this member handles now: each resource whose Handle succeeded, under a claim that is valid. It is
// empty once the manager has stopped. The order has no meaning.
func (m *Manager) Held() []Assignment {
	held := m.member.Held()
	if len(held) == 0 {
		return nil
	}
	all := make([]Assignment, len(held))
	for i, h := range held {
		all[i] = Assignment{
			Resource: h.Claim.ID, Shard: h.Shard, Expected: h.Expected, Member: m.ID(),
			State: StateActive, Token: h.Claim.Token, Since: h.Since,
		}
		if h.Failed {
			all[i].State, all[i].Error = StateFailed, h.Error
		}
	}
	return all
}

// Reannounce makes the member handle everything again that it handles, within the usual limits and without Terminate:
// for a service that has been restarted, and knows nothing of what it was given. What runs in this process, such as a
// function of handler.Loop or a process of handler.Exec, ends in order, and begins anew. What has to leave this member
// before its Handle comes is terminated. Failed resources are tried again at once too. The claims stay, and so do their
// tokens; nothing moves. It returns how many resources that are. ErrStopped says that the manager has ended.
func (m *Manager) Reannounce() (int, error) {
	n, ok := m.member.Reannounce()
	if !ok {
		return 0, fmt.Errorf("reannounce: %w", ErrStopped)
	}
	return n, nil
}

// SetWeight gives the member another weight than Config.Weight, 0 to 1000, for as long as it runs, and returns once
// etcd has it. The member takes or gives away what the difference makes; the coordinator corrects the rest. With weight
// 0 it gives away everything at once; where that leaves nobody, nothing is handled. An operator's order
// (Client.SetWeight) comes first while it stands. If ctx ends before etcd has the weight, the member goes on trying.
// ErrStopped says that the manager stops or has ended.
func (m *Manager) SetWeight(ctx context.Context, weight int) error {
	if weight < 0 || weight > membership.MaxWeight {
		want := fmt.Sprintf("0 to %d", membership.MaxWeight)
		return fmt.Errorf("set the weight: %w", &InputError{"weight", fmt.Sprint(weight), want})
	}
	err := m.member.SetWeight(ctx, weight)
	if errors.Is(err, member.ErrStopping) {
		err = ErrStopped
	}
	if err != nil {
		return fmt.Errorf("set the weight to %d: %w", weight, err)
	}
	return nil
}

// Fail is Claim.Fail for one who has no Claim, but knows the id and token that Handle was given: a service that runs
// what a handler has begun. ErrNotHeld says that nothing is handled under that token now, so that the report comes too
// late or too early; ErrStopped that the manager has ended.
func (m *Manager) Fail(id string, token int64, err error) error {
	if err := m.member.Fail(id, token, failureText(err)); err != nil {
		return fmt.Errorf("fail resource %q under token %d: %w", id, token, m.orStopped(err))
	}
	return nil
}

// Report is Claim.Report for one who has no Claim, as Fail is Claim.Fail.
func (m *Manager) Report(id string, token int64, err error) error {
	text := ""
	if err != nil {
		text = textOf(err)
	}
	if err := m.member.Report(id, token, err != nil, text); err != nil {
		return fmt.Errorf("report on resource %q under token %d: %w", id, token, m.orStopped(err))
	}
	return nil
}

// orStopped returns ErrStopped in place of an error of a member that has ended.
func (m *Manager) orStopped(err error) error {
	if m.running() != nil {
		return ErrStopped
	}
	return err
}

func (m *Manager) reader() *picture.Reader {
	return &picture.Reader{
		Client: m.client, Layout: m.layout, Shards: m.member.App().Shards, Timeout: m.cfg.Etcd.CommandTimeout,
	}
}

func idInUse(taken *membership.TakenError) error {
	return &IDInUseError{ID: taken.Holder.ID, Address: taken.Holder.Address, Since: taken.Holder.Started}
}

// etcdToAnswer is the first thing that a start waits for.
func etcdToAnswer(c EtcdConfig) member.Wait {
	if c.Connection != nil {
		c.Endpoints = c.Connection.cfg.Endpoints
	}
	return member.Wait{For: "etcd to answer", AtMost: c.DialTimeout, More: func() []zap.Field {
		return []zap.Field{zap.Strings("endpoints", c.Endpoints)}
	}}
}
