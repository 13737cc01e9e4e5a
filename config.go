package drm

import (
	"crypto/tls"
	"math"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/etcd"
)

// Forever sets no limit, as a duration of Config that may be it.
const Forever = time.Duration(math.MaxInt64)

// Defaults of Config.
const (
	DefaultPrefix           = "/drm"
	DefaultShards           = 1024
	DefaultLeaseTTL         = 5 * time.Second
	DefaultDialTimeout      = 5 * time.Second
	DefaultCommandTimeout   = 5 * time.Second
	DefaultHandleTimeout    = 30 * time.Second
	DefaultTerminateTimeout = 30 * time.Second
	DefaultConcurrency      = 64
	DefaultHandleBackoff    = time.Second
	DefaultHandleBackoffMax = time.Minute
	DefaultFetchTimeout     = 30 * time.Second
	DefaultFetchRetryBudget = time.Minute
	DefaultRemovalShare     = 0.2
	DefaultRemovalMoreThan  = 10
	DefaultRemovalDelay     = time.Minute
	DefaultSourceGone       = 24 * time.Hour
	DefaultSettleDelay      = time.Second
	DefaultJoinDelay        = 250 * time.Millisecond
	DefaultStopTimeout      = time.Minute
	DefaultMaxInFlight      = 8
	DefaultResyncInterval   = 5 * time.Minute
)

// EtcdConfig says how to reach etcd. Config and ClientConfig have one each.
type EtcdConfig struct {
	// Client is the caller's own etcd client, which stays open when DRM is done with it. The other fields are for those
	// who have none; giving both is an error. One with a Username and a Password authenticates by itself, for each
	// stream that it opens, and cannot any more once its token has expired where etcd is older than 3.5.
	Client *clientv3.Client
	// Endpoints of etcd: host:port, [IPv6]:port, http://host:port, https://host:port or unix://path. All or none of
	// those that say so are https, and none is http where there is a TLS. Name several members of the cluster: requests
	// go around a dead one.
	Endpoints []string
	// TLS is the client's TLS configuration; nil connects in the clear, unless an endpoint is an https URL.
	TLS *tls.Config
	// GetTLS, in place of TLS, is asked for the TLS configuration at each connection that is made, so that a CA that is
	// rotated counts for the next one. (For a client certificate alone, TLS with GetClientCertificate does.) It is
	// called from any goroutine, and a call that hangs fails the connection after a time, as an error does. Default
	// nil.
	GetTLS func() (*tls.Config, error)
	// Username and Password, where etcd has authentication on. DRM logs in once in a token's life, and at growing
	// intervals, up to 5 s, while etcd refuses them: errors say so, and match rpctypes.ErrAuthFailed of etcd's client.
	// Leave both empty where TLS has a certificate whose common name etcd takes for the user. A name without a password
	// is nobody's.
	Username, Password string
	// DialTimeout bounds how long the first answer of etcd is waited for, before Start or NewClient gives up with
	// ErrUnreachable, which says of each endpoint why. Raised, a slow start of etcd is waited out; lowered, a wrong
	// address is told sooner. A certificate of etcd's that is not trusted, or of another name, is told at once. Default
	// 5 s; 1 ms to 10 min.
	DialTimeout time.Duration
	// CommandTimeout bounds each request to etcd after that. Raised, a slow etcd is borne longer; lowered, a dead
	// endpoint is left sooner. Default 5 s; 1 ms to 10 min.
	CommandTimeout time.Duration
}

// inner is what package etcd needs to know of it.
func (c EtcdConfig) inner() etcd.Config {
	return etcd.Config{
		Client:      c.Client,
		Endpoints:   c.Endpoints,
		TLS:         c.TLS,
		GetTLS:      c.GetTLS,
		Username:    c.Username,
		Password:    c.Password,
		DialTimeout: c.DialTimeout,
	}
}

// TerminatePolicy says what becomes of a claim whose Terminate failed.
type TerminatePolicy int

const (
	// ReleaseAnyway gives the claim away: the resource is handled again soon, maybe while remains of the old
	// handling live on. The default.
	ReleaseAnyway TerminatePolicy = iota
	// HoldUntilTerminated keeps the claim and calls Terminate again, with backoff, until it succeeds: nothing overlaps,
	// but a Terminate that never succeeds keeps the resource from everyone (until the member stops).
	HoldUntilTerminated
)

// OutagePolicy says what a member does while it cannot renew its leases: etcd is down, or cut off from it.
type OutagePolicy int

const (
	// StopOnOutage ends everything before its claims can be given away: one owner at most, and nobody while etcd is
	// gone for longer than a TTL. The default.
	StopOnOutage OutagePolicy = iota
	// KeepOnOutage goes on handling until etcd answers again, and says whether the claims are still there. Where all
	// are cut off from etcd, nothing stops. Where only this member is (a partition, a machine that slept), others take
	// over what it still handles: two owners, until it reaches etcd again. Their tokens tell them apart: choose this
	// only for what is harmless when done twice, or refuses an older token.
	KeepOnOutage
)

// SourcePolicy says what a source that failed for all of FetchRetryBudget means for the member that asked it.
type SourcePolicy int

const (
	// KeepCatalogue goes on with what the source answered last, reports, and asks again at the next poll. The default.
	KeepCatalogue SourcePolicy = iota
	// ExitOnSourceError ends the member, in order: everything held is terminated, TearDown is called, Done is closed,
	// and Err matches ErrSourceFailed. The next coordinator asks in turn; where it gets no answer either, it ends too.
	ExitOnSourceError
)

// RemovalLimit says which answers of a source are doubted. An answer that is empty, though the source had resources,
// always is.
type RemovalLimit struct {
	// Share of the resources that the source had: an answer that would remove more is doubted. Lowered, more of what is
	// meant waits for its confirmation; raised, more of what is a mistake is carried out. 1 doubts empty answers only.
	// Default 0.2; 0.0001 to 1.
	Share float64
	// MoreThan is how many resources the source must have had for that. Where it had no more, an answer is doubted that
	// would remove more than four fifths of them, and more than Share: of three, two may go. Default 10; 1 to
	// 1,000,000.
	MoreThan int
}

// RemovalPolicy says what confirms a removal that is doubted.
type RemovalPolicy int

const (
	// ConfirmRemovals has it confirmed by time and an answer: one that was asked for RemovalDelay, and PollInterval,
	// after the answer that lacked the resource first, all answers between having lacked it too. The default.
	ConfirmRemovals RemovalPolicy = iota
	// HoldRemovals holds it until the source has the resource again, or an operator accepts (Client.AcceptRemovals,
	// `drmctl source accept`).
	HoldRemovals
)

// Config is what Start needs to know. Zero values take the defaults; a value out of its range is an *InputError.
type Config struct {
	// App names one independent set of members and resources on an etcd cluster. Required; the same rules as for ids.
	App string
	// Prefix is where all apps are kept in etcd. Every member and client of an app needs the same. Default "/drm".
	Prefix string

	// Etcd says how to reach etcd. Required.
	Etcd EtcdConfig

	// ID names this member. One that is stable over restarts brings the same resources back to it. If another live
	// member has it, Start waits for up to the TTL + 1 s (a member that restarts after a crash meets its own old key),
	// and then fails with an *IDInUseError. Default: the host's name, with a suffix where that is taken.
	ID string
	// Address, Version and Labels are shown to those who list the members, and mean nothing to DRM. Where an id is in
	// use, the error tells the address of who has it. Default of Address: the host's name.
	Address string
	Version string
	Labels  map[string]string
	// Weight is the member's share of the resources, relative to the others'. Default 1; 1 to 32.
	Weight int
	// Shards is the number of shards of a new app, fixed when its first member starts: more spread the load more evenly
	// and cost a watch each. An existing app's number is taken as it is; naming another one is an error.
	// Default 1024; 1 to 4096.
	Shards int

	// LeaseTTL is the life of this member's leases. Lowered, a crash is taken over sooner, and a shorter hiccup of
	// etcd or the network makes the member stop handling. Raised, the opposite. At 5 s a routine leader election of a
	// default etcd cluster is survived. etcd may grant more than was asked (its minimum follows from its election
	// timeout), which is logged and used. Default 5 s; 1 s to 10 min, whole seconds.
	LeaseTTL time.Duration

	// OutagePolicy says what becomes of what is handled while etcd does not answer. Default StopOnOutage.
	OutagePolicy OutagePolicy

	// Handler handles the resources. Required.
	Handler Handler
	// HandleTimeout bounds each Handle and Update: past it the call's context ends, and it counts as failed.
	// Default 30 s; 1 ms to 24 h, or Forever.
	HandleTimeout time.Duration
	// TerminateTimeout bounds each Terminate, and how long a cancelled call is waited for. Past it TerminatePolicy
	// decides. Default 30 s; 1 ms to 24 h.
	TerminateTimeout time.Duration
	// HandleConcurrency is how many Handle and Update calls run at once. Raised, a takeover of many slow ones ends
	// sooner and the handler's own dependencies are hit harder. Default 64; 1 to 100,000.
	HandleConcurrency int
	// TerminateConcurrency is the same for Terminate calls. Default 64; 1 to 100,000.
	TerminateConcurrency int
	// HandleAttempts is how many times in a row Handle may fail before the resource is left in state failed, claimed
	// but not handled, until its data change or it moves. Default 0: without end.
	HandleAttempts int
	// HandleBackoff is the pause after the first failure; it doubles with each further one up to HandleBackoffMax, with
	// jitter. Default 1 s; 1 ms to 24 h.
	HandleBackoff time.Duration
	// HandleBackoffMax bounds that pause. Default 1 min; HandleBackoff to 24 h.
	HandleBackoffMax time.Duration
	// TerminatePolicy says what becomes of a claim whose Terminate failed. Default ReleaseAnyway.
	TerminatePolicy TerminatePolicy

	// Retriever is the source of resources. Exactly one of Retriever and AllocateOnly must be given.
	Retriever Retriever
	// AllocateOnly states that this member has no source: resources come from Allocate, or from other members' sources.
	AllocateOnly bool
	// PollInterval is the pause between fetches. 0, the default, fetches only when the group begins and (see
	// CacheResources) when the membership changed. 100 ms to 24 h.
	PollInterval time.Duration
	// CacheResources keeps a change of membership from making the source be asked again, also where it is the
	// coordinator that changed. (Not where the last fetch failed, or has left removals that wait for a confirmation.)
	// Default false: it is asked once, by the coordinator, SettleDelay after the last change.
	CacheResources bool
	// SettleDelay is how long the membership must be quiet before the source is asked again. Default 1 s; 1 ms to 1 h.
	SettleDelay time.Duration
	// JoinDelay is how long it must be quiet, while a group forms or several members join at once, before they begin
	// together: raised, fewer resources move twice, and a new group begins later. A member that joins a settled group
	// alone does not wait. It bounds nothing else; all is over after eight times as long. Default 250 ms; 1 ms to 1
	// min.
	JoinDelay time.Duration
	// FetchTimeout bounds one call of Fetch, and Setup and TearDown. Default 30 s; 1 ms to 24 h.
	FetchTimeout time.Duration
	// FetchRetryBudget is how long a failing fetch is tried again, 1, 2, 4, … s apart, and no further than
	// PollInterval, before it counts as failed: the first one of a fresh app then fails Start, a later one is reported
	// and left until the next poll. An error that is a Retryable (such as those of retriever.HTTP) may say that trying
	// again is pointless: then that is at once; or that the source wants to be left alone: then nothing asks it
	// earlier, also after a restart. A Refetch, or members that came or went, end a pause between two attempts, 1 s
	// after a failure at the earliest. Default 1 min; up to 24 h, or Forever.
	FetchRetryBudget time.Duration
	// MaxRemovals says which answers of the source are doubted, because they would remove so much that a mistake is
	// likely: what such an answer lacks goes on being handled until the removal is confirmed, or the source has it
	// again. Default: more than 20 % of more than 10, and every empty answer.
	MaxRemovals RemovalLimit
	// RemovalDelay is how long a removal that is doubted must have been known before an answer that confirms it may be
	// asked for; at least PollInterval, however often the source is asked meanwhile. A coordinator that is new takes
	// over how long the same was held before, by the wall clocks of both. Lowered, what is meant is carried out sooner;
	// raised, a source has longer to recover. Default 1 min; 1 ms to 24 h.
	RemovalDelay time.Duration
	// RemovalPolicy says whether time and an answer confirm such removals, or only an operator. Default
	// ConfirmRemovals.
	RemovalPolicy RemovalPolicy
	// SourcePolicy says what a source that failed for all of FetchRetryBudget means, after the first fetch. (An error
	// that is not tried again counts as that where the fetches have failed for as long.) An etcd that fails meanwhile
	// is no fault of the source: that is waited out. Default KeepCatalogue.
	SourcePolicy SourcePolicy
	// SourceStrict refuses all of an answer that has bad items (see BadItemsError), as a fetch that failed. Default
	// false: what is good is taken, what the bad ones may stand for stays as it is, and SourceStatus tells of them;
	// only an answer of which more is bad than good is refused. Of an item that is too large only etcd knows: that
	// refuses no other one.
	SourceStrict bool
	// SourceGone is for how long no member that has a Retriever may have been there before the app counts as one
	// without a source. (A source that fails is there: it is asked.) From then on Deallocate takes a resource out of
	// the catalogue, instead of suspending it, and what the source left is forgotten where members that only allocate
	// run: what nobody but the source wanted is removed, in bulk, with a warning in the log; what was allocated besides
	// stays; nothing is suspended any more. For that, such members count the time that they have had no source among
	// them, so that an outage of all of them does not count. The longer holds of the coordinator's value and of the
	// last coordinator's that had a source; give all the same. Client.DropSource does the same at once. Lowered, a
	// source that is gone for good is forgotten sooner, and members with a source may not be away for as long. Default
	// 24 h; 1 s to 8760 h (a year), or Forever: what a source has left is kept.
	SourceGone time.Duration
	// OnSourceError is told of each fetch that failed, retries included, on the coordinator. It is also told, with a
	// *BadItemsError, of bad items in an answer that was taken, when they are other ones than before. Optional. It is
	// called in a goroutine of its own, one call at a time: while one runs, of what fails meanwhile the latest is kept
	// for the next. Stop waits up to 1 s for one that runs, and nothing else does. The error unwraps to what Fetch
	// returned.
	OnSourceError func(error)

	// StopTimeout bounds Stop: past it, what still runs is cancelled and left behind, and its claims expire. Calls that
	// are to be finished (Finisher) are cancelled while TerminateTimeout and 3 s are left of it, or after half of it,
	// so that Terminate has its time. Default 1 min; 1 ms to 24 h.
	StopTimeout time.Duration
	// MaxInFlight is how many batches of claims, releases and states are on their way to etcd at once, each. Raised,
	// many resources are claimed sooner and a shared etcd is hit harder. It is halved whenever etcd says that it is
	// overloaded, does not answer in time, or takes long to answer (LeaseTTL/10; down to a quarter then), and grows
	// again with the answers. Default 8; 1 to 64.
	MaxInFlight int
	// ResyncInterval is how long a member goes by watches alone before it reads again what it owns, so that news which
	// a watch has silently missed does not stay missed. Each shard takes up to a fifth less, at random. Lowered, such a
	// miss heals sooner, and etcd is read more. Default 5 min; 1 s to 24 h.
	ResyncInterval time.Duration

	// Logger gets what an operator should see: never a secret, never a resource's data. Nothing waits for its sink,
	// which may block or panic: of the lines that find 4,096 others waiting none is written, and their number is.
	// Whether a level is enabled is asked of it in line, and must be answered at once. Stop waits up to a second for
	// what is not written yet. What fails for many resources, or again and again, makes one line, and then one a minute
	// with counts; and whoever waits says for what, at info (docs/cli.md). Default: silence. Give one: without it
	// nobody hears that a start waits for etcd or the source, or why a handler fails.
	Logger *zap.Logger
	// LoggerFields are added to each line, as a child of Logger.
	LoggerFields []zap.Field
}

// ClientConfig is what NewClient needs to know.
type ClientConfig struct {
	App    string     // as in Config
	Prefix string     // as in Config
	Etcd   EtcdConfig // as in Config

	// Create lets Allocate make an app that does not exist. Default false: it is ErrNoApp then, since a name that was
	// mistyped would make an app that nobody meant, with a number of shards for good.
	Create bool
	// Shards is how many shards such an app gets; of one that exists it must be 0, or what it has. Only with Create.
	// Default 0: 1024 for a new app; 1 to 4096.
	Shards int
}
