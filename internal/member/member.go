// Package member is one running member of an app: its loop, its leases, the shards that it follows, and its place in
// the group.
//
// A member is built complete and then run. New takes an id and a lease, and makes every part; nothing is decided before
// that is done. Start runs the member, and returns when it has joined. Stop ends it in order. Package core decides what
// to do for a resource; packages calls and source call the handler and the source. The member connects them, and
// decides when it registers, when it stands for coordinator, and in which order it starts and stops.
package member

import (
	"context"
	"sync"
	"sync/atomic"
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
	"github.com/distributed-resource-manager/drm/internal/health"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/leaselink"
	"github.com/distributed-resource-manager/drm/internal/placement"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// Config is what a member needs to know. The root package checks the values and sets their defaults; a field may be
// zero only if its comment says so.
type Config struct {
	ID string // of the member
	// AnyID lets the member take another id, which is ID with a number after it, if another live member has ID.
	AnyID bool
	// Record is what the member's key says about the member. New sets State, Started and Source in it.
	Record membership.Record

	Client  *clientv3.Client // etcd has answered it once
	Shared  *follow.Shared   // what the member shares with others of its process; nil: nothing
	Layout  keys.Layout      // of the app
	Shards  int              // how many shards the app must have; 0 accepts any number
	Default int              // how many shards a new app gets if Shards is 0
	Request time.Duration    // bounds each request to etcd

	LeaseTTL  time.Duration // to request; etcd may grant more
	Outlast   bool          // KeepOnOutage: goes on handling while etcd does not answer
	JoinDelay time.Duration // how long it must be quiet, while several members join, before they begin together
	// MinMembers is how many members must have registered before a group that forms begins. A member waits for them no
	// longer than MinMembersWait.
	MinMembers     int
	MinMembersWait time.Duration
	// Rejoin is for how long the member's shards wait for its return after a Stop; 0: not at all.
	Rejoin time.Duration

	Resync   time.Duration // how often the member reads again what it follows
	InFlight int           // batches of writes on their way to etcd at once

	Balance placement.Rules // what the member does about the placement while it is the coordinator
	// Weigh returns the weight of a resource's object in thousandths, or beside an error what it counts as. Nil: all
	// resources weigh the same.
	Weigh func(data []byte) (int64, error)

	// Handler makes the handler of the member. New calls it once, with the id that the member has taken.
	Handler func(id string) calls.Handler
	// Instance asks which instance of the handler's service answers; nil if the handler has none.
	Instance         func(ctx context.Context) (string, error)
	HandleTimeout    time.Duration   // bounds each Handle and Update; calls.Forever: no limit
	TerminateTimeout time.Duration   // bounds each Terminate; calls.Forever: no limit
	StopTimeout      time.Duration   // bounds Stop
	Handles          int             // calls of Handle and Update at once
	Terminates       int             // calls of Terminate at once
	HandleAttempts   int             // failures of Handle in a row until it is not tried again; 0: no limit
	Quota            catalogue.Quota // of what the member allocates
	MaxResources     int             // claims at once; 0: no limit
	HandleRate       core.Rate       // how often Handle is called; zero: no bound
	// BudgetKey returns the key of a resource, of which KeyRate bounds how often Handle is called in the whole group.
	// It is the user's code. It is nil if there are no keys.
	BudgetKey           func(id string, data []byte) (string, error)
	KeyRate             core.Rate
	MoveAfter           int           // failures of a resource in a row until another member gets it; 0: never
	Backoff             time.Duration // the pause after the first failed Handle; it doubles with each further one
	BackoffMax          time.Duration // the longest such pause
	Checks              calls.Checks  // the zero value if the handler cannot check
	QuarantineAfter     int           // deaths of members until a resource is quarantined; 0: no resource ever is
	QuarantineWindow    time.Duration // how long such a death counts
	HoldUntilTerminated bool          // a claim stays until Terminate has succeeded
	CanUpdate           bool          // the handler has an Update
	FinishCalls         bool          // a call in progress is not cut off when its resource moves or the member stops

	// Ready returns why the member cannot work; nil if it can. It must not panic. It is asked every ReadyInterval in a
	// goroutine of its own, one call at a time. Nil if the user has none.
	Ready         func(context.Context) error
	ReadyInterval time.Duration
	UnreadyAfter  int     // failures of Ready in a row until the member is unready
	ReadyAfter    int     // successes in a row until it is ready again
	MinReady      float64 // the share of the members that must be ready for unreadiness to count, above 0 and up to 1
	FailedShare   float64 // the share of the resources that must fail, here only, for the member to be unready; 0: none

	// Source is what the user decides about the source. New adds what the source needs from the member. Its Retriever
	// is nil if the member has no source.
	Source source.Options

	Supervisor string // the address of the process's supervisor, as package leaselink takes it; "": there is none

	Log   *zap.Logger   // nobody waits for its sink
	Board *health.Board // shows how far the member is; nil if nobody looks
	// InUse makes the error which says that another live member has this member's id.
	InUse func(*membership.TakenError) error
	// Joined is called once, when the member has joined, and Start waits only for others to see it. Nil: nobody is
	// told.
	Joined func()
	// Close is called once, when nothing of the member uses Client or Log any more; also if New fails.
	Close func()
}

// Member is one running member. New makes it, Start runs it, Stop ends it. Any goroutine may call its methods.
type Member struct {
	cfg Config
	app appconfig.Config
	log *zap.Logger

	failures *failures.Log
	hub      *follow.Hub
	link     *leaselink.Link // nil: the process has no supervisor
	store    *catalogue.Store
	loop     *loop
	core     *core.Core
	executor *executor
	place    *place
	source   *source.Source

	// handling is the parent of all contexts of the handler. It ends when nothing is handled any more after Stop, or
	// when Stop's time is up.
	handling    context.Context
	endHandling context.CancelCauseFunc
	// working is the parent of what the member does by itself. It ends when nothing is handled any more.
	working context.Context
	endWork context.CancelFunc
	tasks   tasks // followers, and requests for leases and their revocation
	// staying ends when Stop begins.
	staying context.Context
	leave   context.CancelFunc
	// placing is the context of the goroutine that runs place.
	placing  context.Context
	endPlace context.CancelFunc
	placed   chan struct{} // closed when that goroutine has ended, or will not start

	asker      asker
	started    atomic.Bool // Start has succeeded
	firstFetch chan error  // the outcome of a fresh app's first fetch, or nil if there is nothing to wait for
	fetchOnce  sync.Once

	stopper
}

// ID returns the member's id: Config.ID, or the id that New took instead of it.
func (m *Member) ID() string { return m.place.id }

// App returns the app's config, as New has read it.
func (m *Member) App() appconfig.Config { return m.app }

// Store returns the store that changes the catalogue of the app.
func (m *Member) Store() *catalogue.Store { return m.store }

// Refetch asks the source again soon, if this member coordinates, or else at the beginning of its next term.
func (m *Member) Refetch() { m.source.Refetch() }

// Held is a resource that a member handles.
type Held struct {
	Claim    calls.Claim // with the id, the data and the token
	Shard    int
	Expected string    // the owner by the last view; "" if the member has no view yet
	Since    time.Time // when it became active, or failed
	Failed   bool      // the handler has reported that what it started fails
	Error    string    // the reason that the handler reported
}

// Held lists the resources that the member handles now, in no order. It is empty once the member has ended.
func (m *Member) Held() []Held {
	var held []Held
	m.loop.ask(func(now time.Duration) {
		epoch := m.executor.epoch(now)
		for _, h := range m.core.Handled() {
			if one, ok := m.held(epoch, h); ok {
				held = append(held, one)
			}
		}
	})
	if v := m.place.last.Load(); v != nil {
		for i := range held {
			_, held[i].Expected = v.OwnerOf(held[i].Claim.ID)
		}
	}
	return held
}

// HeldOne is Held for one resource; ok is false if the member does not handle it now.
func (m *Member) HeldOne(id string) (held Held, ok bool) {
	number := shard.Of(id, m.app.Shards)
	m.loop.ask(func(now time.Duration) {
		if h, handled := m.core.HandledOne(number, id); handled {
			held, ok = m.held(m.executor.epoch(now), h)
		}
	})
	if v := m.place.last.Load(); v != nil && ok {
		_, held.Expected = v.OwnerOf(id)
	}
	return held, ok
}

// held adds to what the core knows of a resource what the handler was given. The loop calls it.
func (m *Member) held(epoch time.Time, h core.Handled) (one Held, ok bool) {
	claim, ok := m.executor.calls.ClaimOf(h.Shard, h.ID)
	if !ok {
		return Held{}, false // this cannot be: the handler has what is handled
	}
	one = Held{Claim: claim, Shard: h.Shard, Since: epoch.Add(h.Since)}
	if h.Ailing {
		one.Failed, one.Error = true, h.Err
	}
	return one, true
}

// count asks the loop for the member's figures.
func (m *Member) count() (all counted, ok bool) {
	ok = m.loop.look(func(now time.Duration) {
		n, loads := m.core.Count()
		all.Figures = claims.Figures{
			Shards: n.Shards, Claims: n.Claims, Active: n.Active, Failed: n.Failed, Calls: n.Calls, Stuck: n.Stuck,
			Waiting: n.Waiting, WaitingForBudget: n.WaitingForBudget,
			View: m.place.acted, NoBalance: m.cfg.Balance.Off,
		}
		if m.place.acted > 0 {
			all.ViewAt = m.executor.epoch(now).Add(m.place.actedAt).UTC().Truncate(time.Millisecond)
		}
		all.loads = claims.Loads{Shards: loads.Shards, Pending: loads.Pending, Seen: m.place.acted}
	})
	return all, ok
}

// step carries out what the core decides. The loop calls it after everything that was posted.
func (m *Member) step(now time.Duration) (next time.Duration, ok bool) {
	m.core.Tick(now)
	m.executor.execute(now, m.core.Actions())
	m.tellIdle()
	return m.core.NextTimer()
}

// fetched ends the wait of Start for the first fetch of a fresh app. Only its first call counts.
func (m *Member) fetched(err error) { m.fetchOnce.Do(func() { m.firstFetch <- err }) }

// rewound fences all leases at once and ends the member, because etcd went back in time: nobody knows any more who
// handles what, and another member may get what this one handles. It writes nothing, because etcd gives out revisions a
// second time that comparisons rely on.
func (m *Member) rewound(err error) {
	m.loop.post(func(now time.Duration) {
		m.stopping = true
		m.core.Stop(now)
		m.executor.leases.fence(err)
	})
	m.fail(err)
}
