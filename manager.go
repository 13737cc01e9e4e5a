package drm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/clock"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/logqueue"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/internal/usercode"
	"github.com/distributed-resource-manager/drm/lease"
	"github.com/distributed-resource-manager/drm/membership"
)

// Manager is one member of an app. Start makes one. Its methods are safe for use from any goroutine, and from inside of
// a Handler's or Retriever's calls; only Stop is better called from elsewhere, since it waits for those calls.
type Manager struct {
	cfg      Config
	id       string
	started  time.Time
	log      *zap.Logger      // whoever logs does not wait for the sink
	logs     *logqueue.Queue  // of log
	failures *failures.Log    // of log: what fails for many, or again and again, makes few lines
	clock    clock.Clock      // that leases are measured by
	wall     func() time.Time // that nothing is decided by

	statsInterval time.Duration // how often a member that has no rest writes its figures, if they changed

	client    *clientv3.Client
	ownClient bool
	layout    keys.Layout
	app       appconfig.Config
	hub       *follow.Hub
	kv        clientv3.KV // the client's, with all answers checked by the hub
	store     *catalogue.Store
	registrar *membership.Registrar
	group     *group
	encoder   claims.Encoder
	claims    *lease.Writer // claims and releases
	states    *lease.Writer // what claims say of the handling; apart, so that it follows behind
	calls     *calls.Calls  // of the handler; only the loop calls it

	// ctx is the parent of everything that a Handler is given: it ends when Stop's time is up, or at its very end.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// tasksCtx is the parent of what the manager does itself; it ends when nothing is held any more.
	tasksCtx  context.Context
	endTasks  context.CancelFunc
	tasks     tasks // followers, and leases on their way
	groupDone chan struct{}
	endGroup  context.CancelFunc
	source    *source.Source

	mailbox  *mailbox
	loopDone chan struct{}
	endLoop  chan struct{}
	idle     chan struct{} // closed when nothing is held after Stop
	idleOnce sync.Once
	quiet    chan struct{} // closed when nothing is in progress after Stop's time was up
	noise    sync.Once
	appGone  sync.Once

	// Owned by the loop.
	core      *core.Core
	stamp     time.Duration // the time of what is being done, on the clock that leases are measured by
	leases    map[int64]*claimLease
	revoking  chan struct{} // holds a token while a lease of claims is being revoked
	comeback  comeback
	spread    bool // the next lease replaces one that etcd does not know any more
	followers map[int]*shardFollower
	stopping  bool
	halted    bool // Stop's time is up

	writes      []lease.Op // room for the claims and releases that execute sends
	stateWrites []lease.Op // the same for states
	tags        []opTag    // room for the tags of both

	sourceReady chan error // the outcome of a fresh app's first fetch, or nil where there is nothing to wait for
	sourceOnce  sync.Once

	stopOnce sync.Once
	staying  context.Context // ends when Stop begins
	leave    context.CancelFunc
	hurry    chan struct{} // closed when Stop is to wait no longer
	hurried  sync.Once
	done     chan struct{}
	errMu    sync.Mutex
	err      error // why the manager ended by itself
	stopErr  error // what Stop returns; written before done is closed
}

// API returns what a Retriever may do besides answering Fetch; Setup is given the same.
var _ API = (*Manager)(nil)

// ID is the member's id: Config.ID, or the default that Start chose.
func (m *Manager) ID() string { return m.id }

// Done is closed when the manager has ended: after Stop, or because of the error that Err tells.
func (m *Manager) Done() <-chan struct{} { return m.done }

// Err returns why the manager ended by itself; nil while it runs, and after Stop. It matches ErrStoreRewound, ErrIDInUse,
// ErrAppGone or ErrSourceFailed; nothing is handled any more.
func (m *Manager) Err() error {
	m.errMu.Lock()
	defer m.errMu.Unlock()
	return m.err
}

// Allocate makes the resource be handled, by whichever member it belongs to, until it is deallocated; it returns once
// etcd has it. Where the catalogue has the id already, its data become these (data of nothing but the id leave them as
// they are), and a suspended one wakes up. An *InputError says what is wrong with the resource; ErrUnreachable that
// etcd did not answer, so that it may or may not have been done, or be done some seconds later still, even after a Deallocate
// that was acknowledged meanwhile; ErrStopped that the manager has ended.
func (m *Manager) Allocate(ctx context.Context, r Resource) error {
	if err := m.running(); err != nil {
		return fmt.Errorf("allocate %q: %w", r.ID, err)
	}
	return allocate(ctx, m.store, m.cfg.Etcd.CommandTimeout, r)
}

// Deallocate ends the handling of a resource; it returns once etcd has that, before it is terminated. While a source has
// the id, the resource stays suspended until it is allocated. In an app that has no source, or whose source is gone
// (Config.SourceGone), nothing of it is left. ErrNotFound says that there is nothing to deallocate.
func (m *Manager) Deallocate(ctx context.Context, id string) error {
	if err := m.running(); err != nil {
		return fmt.Errorf("deallocate %q: %w", id, err)
	}
	return deallocate(ctx, m.store, m.cfg.Etcd.CommandTimeout, id)
}

// Refetch asks for the source to be asked again soon, if this member coordinates. Else it is only remembered, for the case
// that this member is the next to do so. A source that fails is asked again 1 s after it has at the earliest, and one that wants
// to be left alone (Retryable) not before that is over.
func (m *Manager) Refetch() { m.source.Refetch() }

// Wait returns when the resource is active, wherever that is. Where ctx ends first, the error says why it is not, and
// the Assignment what it is instead. ErrNotFound says that the catalogue does not want it handled.
func (m *Manager) Wait(ctx context.Context, id string) (Assignment, error) {
	if err := m.running(); err != nil {
		return Assignment{}, fmt.Errorf("wait for resource %q: %w", id, err)
	}
	return m.reader().wait(ctx, id)
}

// running returns ErrStopped once the manager has ended. Until then, a Terminate may well allocate and deallocate.
func (m *Manager) running() error {
	select {
	case <-m.done:
		return ErrStopped
	default:
		return nil
	}
}

// Held lists what this member is handling now: each resource whose Handle succeeded, under a claim that is valid. It is
// empty once the manager has stopped. The order is of no meaning.
func (m *Manager) Held() []Assignment {
	var held []Assignment
	m.ask(func() {
		epoch := m.epoch()
		for _, h := range m.core.Handled() {
			a := Assignment{
				Resource: h.ID, Shard: h.Shard, Member: m.id, State: StateActive, Token: h.Token, Since: epoch.Add(h.Since),
			}
			if h.Ailing {
				a.State, a.Error = StateFailed, h.Err
			}
			held = append(held, a)
		}
	})
	if v := m.group.last.Load(); v != nil {
		for i := range held {
			held[i].Expected = v.Owner(held[i].Shard)
		}
	}
	return held
}

func (m *Manager) reader() *reader {
	return &reader{
		client: m.client, layout: m.layout, config: m.app, timeout: m.cfg.Etcd.CommandTimeout,
	}
}

// fail ends the manager because of an error that is for good.
func (m *Manager) fail(err error) {
	m.errMu.Lock()
	if m.err == nil {
		m.err = err
	}
	m.errMu.Unlock()
	m.log.Error("the member ends", zap.Error(err))
	m.firstFetch(err)
	m.beginStop()
}

// rewound ends everything at once, and the manager, because etcd went back in time: who handles what is not known there
// any more, and somebody else may be told that it is theirs. Nothing is written: the revisions that compares go by are
// used a second time.
func (m *Manager) rewound(err error) {
	m.post(func() {
		m.stopping = true
		m.core.Stop(m.stamp)
		for _, l := range m.leases {
			l.Keeper.Fence(fmt.Errorf("%w: %w", lease.ErrGone, err))
		}
	})
	m.fail(err)
}

// firstFetch tells Start that it need not wait any more.
func (m *Manager) firstFetch(err error) { m.sourceOnce.Do(func() { m.sourceReady <- err }) }

// Stop ends the member in order: it stops polling, tells the others that it leaves, terminates all that is held, releases
// each claim when its Terminate has returned, calls the Retriever's TearDown, and gives its leases back. It returns when
// all that is done, or soon after ctx ends or StopTimeout has passed, whatever the user's code does: what still runs then is
// cancelled and left behind, its claims expire, and the error says how many there are and why (it matches ErrLeftBehind).
// It may be called several times, by several goroutines; all get the same answer.
func (m *Manager) Stop(ctx context.Context) error {
	m.beginStop()
	select {
	case <-m.done:
	case <-ctx.Done():
		m.hurried.Do(func() { close(m.hurry) })
		<-m.done
	}
	return m.stopErr
}

func (m *Manager) beginStop() {
	m.stopOnce.Do(func() {
		m.leave()
		go m.shutdown()
	})
}

// outcomesUntil is how long Stop waits for the outcomes of calls that are to be finished: so long that Terminate still has its
// time afterwards, and what tells of a failure too; or for half of its time, where that does not fit.
func (m *Manager) outcomesUntil() time.Duration {
	all := m.cfg.StopTimeout
	if d := all - m.cfg.TerminateTimeout - 3*usercode.Grace; d > 0 && m.cfg.TerminateTimeout != Forever {
		return d
	}
	return all / 2
}

// shutdown is Stop's work. Its steps are in an order: each needs what the next one takes away.
func (m *Manager) shutdown() {
	defer close(m.done)
	deadline, cancel := context.WithTimeout(context.Background(), m.cfg.StopTimeout)
	defer cancel()
	stopHurry := context.AfterFunc(deadline, func() { m.hurried.Do(func() { close(m.hurry) }) })
	defer stopHurry()

	var errs []error
	m.endGroup() // no polling, no standing for coordinator
	select {
	case <-m.groupDone:
	case <-m.hurry:
	}
	leaving, ended := context.WithTimeout(deadline, m.cfg.Etcd.CommandTimeout)
	told := make(chan struct{})
	go func() { // the others take over while this member terminates; it does not wait for etcd to say so
		defer close(told)
		// Cancelled, it was overtaken: nothing is left that others could take over before the member's lease is given back.
		if err := m.group.setLeaving(leaving); err != nil && !errors.Is(leaving.Err(), context.Canceled) {
			m.log.Warn("cannot say that this member leaves", zap.Error(err))
		}
	}()
	had := 0
	m.post(func() {
		m.stopping = true
		had = m.core.Left().Claims
		m.core.Stop(m.stamp)
		for _, l := range m.leases {
			l.Keeper.NoLonger() // what cannot be given back is not waited for longer than its lease lasts
		}
	})
	hasten := time.AfterFunc(m.outcomesUntil(), func() { m.post(func() { m.core.Hasten(m.stamp) }) })
	defer hasten.Stop()
	waiting := tellWait(m.tellStopping)
	select {
	case <-m.idle:
		m.cancel(CauseStopped)
	case <-m.hurry:
		m.giveUp()
	}
	waiting()
	ended()
	<-told

	var left core.Left
	m.ask(func() { left = m.core.Left() })
	if left.Claims+left.Calls > 0 {
		errs = append(errs, leftBehind(left, had))
	}
	if s := m.source; s != nil && s.IsSetUp() { // it is nil where the start failed before it was made
		ending := tellWait(func(waited time.Duration) {
			m.log.Info("waiting for calls of the source, and its TearDown, before the member can stop", zap.Duration("waited", waited))
		})
		if err := s.End(); err != nil {
			errs = append(errs, err)
		}
		ending()
	}
	m.endTasks()
	m.tasks.wait()
	m.claims.Close()
	m.states.Close()
	m.giveBack(left.Claims > 0)
	close(m.endLoop)
	<-m.loopDone
	m.hub.Close()
	if m.ownClient {
		_ = m.client.Close() // says only that it was closed
	}
	m.stopErr = errors.Join(errs...)
	m.failures.Close()
	m.log.Info("stopped", zap.Error(m.stopErr))
	m.logs.Close(usercode.Grace) // a sink that blocks is left behind
}

// giveUp cancels what still runs when Stop's time is up. No call begins any more; those that return soon, and the releases
// that are on their way, are waited for, so that no more than need be is left behind.
func (m *Manager) giveUp() {
	m.post(func() {
		m.core.Halt()
		m.halted = true
	})
	m.cancel(CauseStopped)
	last := time.NewTimer(usercode.Grace)
	defer last.Stop()
	select {
	case <-m.quiet:
	case <-last.C:
	}
}

// leftBehind says what a stop has left, of so many claims that the member had when it began.
func leftBehind(left core.Left, had int) error {
	if left.Claims == 0 {
		return fmt.Errorf("stop: %w: %d calls of the handler have not returned", ErrLeftBehind, left.Calls)
	}
	var why []string
	for _, part := range []struct {
		n    int
		what string
	}{
		{left.Calling, "in a call of the handler that has not returned"},
		{left.Stuck, "in one that was given up"},
		{left.Failing, "held since Terminate failed"},
		{left.Waiting, "not terminated in time"},
		{left.Unreleased, "terminated, and etcd did not take the release"},
	} {
		if part.n > 0 {
			why = append(why, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	return fmt.Errorf("stop: %w: %d of %d claims, which expire by themselves: %s", ErrLeftBehind, left.Claims, max(had, left.Claims), strings.Join(why, ", "))
}

// giveBack ends the leases: those with claims that were left behind expire, since what is on them may still be handled.
func (m *Manager) giveBack(keepClaims bool) {
	ctx, cancel := context.WithTimeout(context.Background(), min(m.cfg.Etcd.CommandTimeout, m.cfg.LeaseTTL))
	defer cancel()
	var all []*claimLease
	m.ask(func() {
		for _, l := range m.leases {
			all = append(all, l)
		}
	})
	var wg sync.WaitGroup
	for _, l := range all {
		wg.Go(func() {
			if keepClaims {
				l.Keeper.Close()
				l.End(CauseStopped)
			} else {
				m.letGo(ctx, l)
			}
		})
	}
	wg.Go(func() {
		select {
		case <-m.groupDone: // where Stop was in a hurry, it may have been getting a lease just now
		case <-ctx.Done():
			return
		}
		if k := m.group.keeper; k != nil {
			_ = k.Revoke(ctx) // it expires by itself otherwise
			k.Close()
		}
	})
	wg.Wait()
}
