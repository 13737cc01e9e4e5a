// Package member is one running member of an app: its loop, its leases, the shards that it follows, and its place in
// the group.
//
// A member is built complete and then run. New takes an id and a lease, and makes every part; nothing is decided before
// that is done. Start runs it, and returns when it has joined. Stop ends it in order. What to do for a resource is
// decided by package core, what the handler and the source are asked by packages calls and source; the member brings
// them together, and decides when it is registered, when it stands for coordinator, and in which order it starts and
// stops.
package member

import (
	"context"
	"sync"
	"time"

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
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/membership"
)

// Config is what a member needs to know. Only what says so may be left out.
type Config struct {
	ID string
	// AnyID lets the member take another id, with a number after it, where another live member has ID.
	AnyID  bool
	Record membership.Record // what the member's key says of it; New adds the state, the start, and whether it has a source

	Client  *clientv3.Client // which has been answered once
	Layout  keys.Layout
	Shards  int           // that the app is to have; 0: what it has, or DefaultShards
	Default int           // how many shards a new app gets where Shards is 0
	Request time.Duration // bounds each request to etcd

	LeaseTTL  time.Duration // to ask for; etcd may grant more
	Outlast   bool          // handle on while etcd does not answer
	JoinDelay time.Duration
	Resync    time.Duration
	InFlight  int // batches of writes on their way to etcd at once

	// Handler makes the handler of a member with an id.
	Handler             func(id string) calls.Handler
	HandleTimeout       time.Duration // or calls.Forever
	TerminateTimeout    time.Duration
	StopTimeout         time.Duration
	Handles             int // calls of Handle and Update at once
	Terminates          int // calls of Terminate at once
	HandleAttempts      int // 0: no limit
	Backoff             time.Duration
	BackoffMax          time.Duration
	HoldUntilTerminated bool // a resource whose Terminate failed stays, until a Terminate succeeds
	CanUpdate           bool // the handler has an Update
	FinishCalls         bool // calls in progress are not cut off in order

	// Source is what the user decides about the source. New fills in what it needs of the member. Its Retriever is nil
	// where the member has no source.
	Source source.Options

	Log *zap.Logger // whose sink nobody waits for
	// InUse makes the error that says who else has the member's id.
	InUse func(*membership.TakenError) error
	// Close is called once, when nothing of the member uses the client or the log any more.
	Close func()
}

// Member is one running member. New makes it. Its methods are safe for use from any goroutine.
type Member struct {
	cfg Config
	app appconfig.Config
	log *zap.Logger

	failures *failures.Log
	hub      *follow.Hub
	store    *catalogue.Store
	loop     *loop
	core     *core.Core
	executor *executor
	place    *place
	source   *source.Source

	// handling is the parent of everything that a handler is given: it ends when Stop's time is up, or at its very end.
	handling    context.Context
	endHandling context.CancelCauseFunc
	// working is the parent of what the member does by itself; it ends when nothing is handled any more.
	working  context.Context
	endWork  context.CancelFunc
	tasks    tasks // followers, and leases on their way
	staying  context.Context
	leave    context.CancelFunc
	placing  context.Context // of the goroutine of the place
	endPlace context.CancelFunc
	placed   chan struct{} // closed when that goroutine has ended, or will not begin

	asker           asker
	figuresInterval time.Duration

	firstFetch chan error // the outcome of a fresh app's first fetch, or nil where there is nothing to wait for
	fetchOnce  sync.Once

	stopper
}

// ID is the member's id: Config.ID, or the one that was free.
func (m *Member) ID() string { return m.place.id }

// App is the app's config.
func (m *Member) App() appconfig.Config { return m.app }

// Store changes the catalogue.
func (m *Member) Store() *catalogue.Store { return m.store }

// Refetch makes the source be asked again soon, if this member coordinates, or is the next to do so.
func (m *Member) Refetch() { m.source.Refetch() }

// Held is a resource that a member handles.
type Held struct {
	ID       string
	Shard    int
	Expected string // the member that it belongs to by the last view; "" where nobody knows
	Token    int64
	Since    time.Time // when it became active, or failed
	Failed   bool      // what the handler began has failed, as it reported
	Error    string    // why
}

// Held lists what the member handles now, in no order; nothing once it has ended.
func (m *Member) Held() []Held {
	var held []Held
	m.loop.ask(func(now time.Duration) {
		epoch := m.executor.epoch(now)
		for _, h := range m.core.Handled() {
			one := Held{ID: h.ID, Shard: h.Shard, Token: h.Token, Since: epoch.Add(h.Since)}
			if h.Ailing {
				one.Failed, one.Error = true, h.Err
			}
			held = append(held, one)
		}
	})
	if v := m.place.last.Load(); v != nil {
		for i := range held {
			held[i].Expected = v.Owner(held[i].Shard)
		}
	}
	return held
}

// count asks the loop for the member's figures.
func (m *Member) count() (f claims.Figures, ok bool) {
	ok = m.loop.ask(func(time.Duration) {
		n := m.core.Stats()
		f = claims.Figures{
			Shards: n.Shards, Claims: n.Claims, Active: n.Active, Failed: n.Failed, Calls: n.Calls, Stuck: n.Stuck,
			Waiting: n.Waiting,
		}
	})
	return f, ok
}

// step does what the core decides. It runs on the loop after everything that was posted.
func (m *Member) step(now time.Duration) (next time.Duration, ok bool) {
	m.core.Tick(now)
	m.executor.execute(now, m.core.Actions())
	m.tellIdle()
	return m.core.NextTimer()
}

// fetched tells Start that it need not wait any more for the first fetch of a fresh app.
func (m *Member) fetched(err error) { m.fetchOnce.Do(func() { m.firstFetch <- err }) }

// rewound ends everything at once, and the member, because etcd went back in time: it is not known any more who handles
// what, and somebody else may be told that it is theirs. Nothing is written: the revisions that compares go by are used
// a second time.
func (m *Member) rewound(err error) {
	m.loop.post(func(now time.Duration) {
		m.stopping = true
		m.core.Stop(now)
		m.executor.leases.fence(err)
	})
	m.fail(err)
}
