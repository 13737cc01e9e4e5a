package drm

import (
	"context"
	"crypto/tls"
	"math"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/etcd"
)

// Forever is for those durations of Config that may have no limit.
const Forever = time.Duration(math.MaxInt64)

// Never is for those shares of Config that may be turned off.
const Never float64 = -1

// NeverQuarantine is the Config.QuarantineAfter that lets a member quarantine nothing, and suspect nothing.
const NeverQuarantine = math.MaxInt

// NoBalance is the Config.BalanceMoves with which the coordinator leaves the placement of shards to the ring, but for
// what operators order.
const NoBalance = math.MaxInt

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
	DefaultCheckInterval    = 30 * time.Second
	DefaultCheckTimeout     = 10 * time.Second
	DefaultCheckFailures    = 3
	DefaultCheckConcurrency = 16
	DefaultQuarantineAfter  = 3
	DefaultQuarantineWindow = time.Hour
	DefaultFetchTimeout     = 30 * time.Second
	DefaultFetchRetryBudget = time.Minute
	DefaultRemovalShare     = 0.2
	DefaultRemovalMoreThan  = 10
	DefaultRemovalDelay     = time.Minute
	DefaultSourceGone       = 24 * time.Hour
	DefaultSettleDelay      = time.Second
	DefaultJoinDelay        = 250 * time.Millisecond
	DefaultMinMembersWait   = 30 * time.Second
	DefaultBalanceMoves     = 1000
	DefaultBalanceAfter     = time.Minute
	DefaultMaxMoving        = 2000
	DefaultMovingPerMember  = 500
	DefaultStopTimeout      = time.Minute
	DefaultMaxInFlight      = 8
	DefaultResyncInterval   = 5 * time.Minute
	DefaultReadyInterval    = 5 * time.Second
	DefaultUnreadyAfter     = 3
	DefaultReadyAfter       = 2
	DefaultMinReady         = 0.5
	DefaultFailedShare      = 0.9
)

// EtcdConfig says how to reach etcd. Config and ClientConfig have one each.
type EtcdConfig struct {
	// Connection is a connection that several managers and clients of this process share, of one app or of many. What
	// says how to connect is said where it was made (NewConnection), so the other fields are for callers who have none;
	// giving both is an error. Only DialTimeout and CommandTimeout may differ, and are otherwise the connection's.
	Connection *Connection
	// Client is the caller's own etcd client, which stays open when DRM is done with it. The other fields are for
	// callers who have none; giving both is an error. A client with a Username and a Password authenticates by itself,
	// for each stream that it opens; where etcd is older than 3.5, it cannot do so any more once its token has expired.
	Client *clientv3.Client
	// Endpoints of etcd: host:port, [IPv6]:port, http://host:port, https://host:port or unix://path. Endpoints that
	// begin with http:// and with https:// do not go together, nor do http:// and TLS. Name several members of the
	// cluster: requests go around a dead one.
	Endpoints []string
	// TLS is the client's TLS configuration; nil connects in the clear, unless an endpoint is an https URL.
	TLS *tls.Config
	// GetTLS, in place of TLS, is asked for the TLS configuration at each connection that is made, so that a rotated CA
	// counts for the next connection. (For a client certificate alone, TLS with GetClientCertificate is enough.) It may
	// be called from any goroutine. An error fails the connection, and so does a call that hangs, after a time. Default
	// nil.
	GetTLS func() (*tls.Config, error)
	// Username and Password are needed where etcd has authentication on. DRM logs in once in the life of a token, and
	// at growing intervals, up to 5 s, while etcd refuses the login: errors say so, and match rpctypes.ErrAuthFailed of
	// etcd's client. Leave both empty where TLS has a certificate whose common name etcd takes for the user: a Username
	// without a Password is not used.
	Username, Password string
	// DialTimeout bounds how long Start and NewClient wait for the first answer of etcd, before they give up with
	// ErrUnreachable, which says for each endpoint why. Raised, a slow start of etcd is waited out; lowered, a wrong
	// address is reported sooner. A certificate of etcd that is not trusted, or has another name, is reported at once.
	// Default 5 s; 1 ms to 10 min.
	DialTimeout time.Duration
	// CommandTimeout bounds each later request to etcd. Raised, a slow etcd is waited for longer; lowered, a dead
	// endpoint is left sooner. Default 5 s; 1 ms to 10 min.
	CommandTimeout time.Duration
}

// inner is what package etcd needs to know.
func (c EtcdConfig) inner() etcd.Config {
	if c.Connection != nil {
		return etcd.Config{Client: c.Connection.client, DialTimeout: c.DialTimeout}
	}
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
	// ReleaseAnyway releases the claim: the resource is handled again soon, maybe while remains of the old handling
	// live on. The default.
	ReleaseAnyway TerminatePolicy = iota
	// HoldUntilTerminated keeps the claim and calls Terminate again, with backoff, until it succeeds: no two handlings
	// overlap, but a Terminate that never succeeds keeps the resource from everyone, until the member stops.
	HoldUntilTerminated
)

// OutagePolicy says what a member does while it cannot renew its leases: etcd is down, or cut off from it.
type OutagePolicy int

const (
	// StopOnOutage ends all handling before etcd can give the claims away: each resource has one owner at most, and no
	// owner while etcd is gone for longer than a TTL. The default.
	StopOnOutage OutagePolicy = iota
	// KeepOnOutage goes on handling until etcd answers again and shows whether the claims are still there. Where all
	// members are cut off from etcd, nothing stops. Where only this member is cut off (a partition, a machine that
	// slept), others take over what it still handles: a resource has two owners, until this member reaches etcd again.
	// Their tokens tell them apart: choose this policy only for work that is harmless when it is done twice, or that
	// refuses an older token.
	KeepOnOutage
)

// SourcePolicy says what a source that failed for all of FetchRetryBudget means for the member that asked it.
type SourcePolicy int

const (
	// KeepCatalogue goes on with the source's last answer, reports the failure, and asks again at the next poll. The
	// default.
	KeepCatalogue SourcePolicy = iota
	// ExitOnSourceError ends the member in order: all that it handles is terminated, TearDown is called, Done is
	// closed, and Err matches ErrSourceFailed. The next coordinator asks the source then; where it gets no answer
	// either, it ends too.
	ExitOnSourceError
)

// RemovalLimit says which answers of a source are doubted. An answer that is empty, though the source had resources,
// always is.
type RemovalLimit struct {
	// Share is a part of the resources that the source had: an answer that would remove more than that is doubted.
	// Lowered, more removals that are meant wait for a confirmation; raised, more removals that are a mistake are made.
	// With 1 only empty answers are doubted. Default 0.2; 0.0001 to 1.
	Share float64
	// MoreThan is a number of resources: Share alone decides where the source had more than that. Where it had no more,
	// an answer is doubted that would remove more than four fifths of them, and more than Share: of three, two may go.
	// Default 10; 1 to 1,000,000.
	MoreThan int
}

// Rate bounds how often something begins. Its zero value is no bound.
type Rate struct {
	// PerSecond is how often it may begin in a second, in the long run. 0: no bound; else 0.001 to 1,000,000.
	PerSecond float64
	// Burst is how often it may begin at once, after a time in which it began less often. Raised, a few resources begin
	// without a wait; lowered, what the rate protects sees fewer at once. Only with PerSecond. Default a tenth of
	// PerSecond, and 1 at least; 1 to 1,000,000.
	Burst int
}

// RemovalPolicy says what confirms a removal that is doubted.
type RemovalPolicy int

const (
	// ConfirmRemovals takes an answer of the source as the confirmation: one that was asked for at least RemovalDelay,
	// and PollInterval, after the first answer that lacked the resource, where all answers in between have lacked it
	// too. The default.
	ConfirmRemovals RemovalPolicy = iota
	// HoldRemovals holds the removal until the source has the resource again, or an operator accepts the removal
	// (Client.AcceptRemovals, `drmctl source accept`).
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

	// ID names this member. An id that stays the same over restarts brings the same resources back to the member. If
	// another live member has the id, Start waits for up to the TTL + 1 s (a member that restarts after a crash meets
	// its own old key), and then fails with an *IDInUseError. Default: the host's name, with a suffix where that is
	// taken.
	ID string
	// Address and Labels are shown to those who list the members, and mean nothing to DRM. Where an id is in use, the
	// error tells the address of the member that has it. Default of Address: the host's name.
	Address string
	Labels  map[string]string
	// Version says which version of the program this is; any text. While members with two versions live, a new one is
	// being rolled out: what must move goes to members of the version that came last, and nothing moves for balance
	// (docs/balance.md). A group in which a member has none is never taken for one that is being rolled out.
	Version string
	// Weight is the member's share of the resources, relative to the others'. Manager.SetWeight changes it, and an
	// operator's order (Client.SetWeight) comes before it; both may be 0. Default 1; 1 to 1000. While a member
	// lives whose program knows weights up to 32 only, a greater weight counts as 32 at most for what concerns that
	// member.
	Weight int
	// Shards is the number of shards of a new app, fixed when its first member starts: more shards spread the load more
	// evenly, and cost a watch each. An existing app keeps its number; naming another one is an error.
	// Default 1024; 1 to 4096.
	Shards int

	// LeaseTTL is the life of this member's leases. Lowered, others take over sooner after a crash, and a shorter
	// hiccup of etcd or the network makes the member stop handling. Raised, the opposite. With 5 s, members survive a
	// routine leader election of a default etcd cluster. etcd may grant more than was asked for (its minimum follows
	// from its election timeout): that is logged and used. Default 5 s; 1 s to 10 min, whole seconds.
	LeaseTTL time.Duration

	// OutagePolicy says whether the member goes on handling while etcd does not answer. Default StopOnOutage.
	OutagePolicy OutagePolicy

	// Handler handles the resources. Required.
	Handler Handler
	// HandleTimeout bounds each Handle and Update: past it the call's context ends, and the call counts as failed.
	// Default 30 s; 1 ms to 24 h, or Forever.
	HandleTimeout time.Duration
	// TerminateTimeout bounds each Terminate, and how long DRM waits for a cancelled call to return. Past it
	// TerminatePolicy decides. Default 30 s; 1 ms to 24 h.
	TerminateTimeout time.Duration
	// HandleConcurrency is how many Handle and Update calls run at once. Raised, a takeover of many resources ends
	// sooner where Handle is slow, and puts more load on what the handler calls. Default 64; 1 to 100,000.
	HandleConcurrency int
	// TerminateConcurrency is the same for Terminate calls. Default 64; 1 to 100,000.
	TerminateConcurrency int
	// MaxResources is how many resources this member has at once, at most: claims that are on their way, or that may
	// exist, included. A member that is full declines the shards that do not fit, and the other members take these, by
	// the ring; it takes shards back when it has had room for them for 10 s.
	// Where all members decline a shard, its owner takes as much of it as fits; the rest is unassigned, and its
	// Assignment says so. Members of versions before that option do not heed what others decline: what they should
	// take is unassigned too. Default 0: no limit; 1 to 10,000,000.
	MaxResources int
	// HandleRate bounds how often this member calls Handle, tries after a failure included. Update and Terminate are
	// never held up. A resource that waits takes no place of HandleConcurrency. Where it waits for more than 5 s its
	// Assignment says so. Default: no bound.
	HandleRate Rate
	// BudgetKey returns which budget a resource belongs to: the host that its connection goes to, for instance. KeyRate
	// bounds the calls of Handle for each key. A resource with an empty key has only HandleRate. Only with KeyRate.
	//
	// It is called again when a resource's data change, or another member takes the resource over; in a goroutine of
	// its own, and often in several at once. Resources for which it panics, or has not returned within 1 s, share one
	// more budget of the same size. The key is not shown to anybody.
	BudgetKey func(Resource) string
	// KeyRate bounds how often Handle is called for resources of the same key, by all members of the app together; so
	// a takeover of many resources does not use up the quota of the service that all of them go to. Each member has a
	// part of the rate, by its Weight among those that may own shards, and as large a part of Burst, but at least 1. So
	// within any time, no more begin than PerSecond allows in it, and besides Burst, or one for each member if that is
	// more. That holds where all members have the same KeyRate and BudgetKey, and hear of a change in the group within
	// 1 s: a member's part shrinks at once, and grows, or begins, 1 s later; and it begins with nothing saved. Where
	// the resources of a key are not spread evenly, the rate is not reached. Default: no bound.
	KeyRate Rate
	// HandleAttempts is how many times in a row Handle may fail before the resource is left in state failed, claimed
	// but not handled, until its data change or it moves. Default 0: without end.
	HandleAttempts int
	// MoveAfter is how many times in a row a resource may fail at this member until another member gets it: Handle
	// failed, or what it began did (Claim.Fail). A call that hangs and was given up counts at once, since nothing else
	// can be done here before it returns (not with HoldUntilTerminated). The other member is the next by the ring that
	// has not tried the resource in the last 10 minutes; where there is none, the resource stays. The resource belongs
	// to that member as long as that member is there, and to its shard's owner otherwise. Up to 1,000 resources of an
	// app are moved so. Lowered, what works elsewhere works sooner; raised, less moves because of what passes. Default
	// 0: a resource that fails is tried again here, without end. Up to 1000.
	MoveAfter int
	// QuarantineAfter is how many members may die of a resource before it is quarantined: left alone, in the state
	// quarantined, until somebody frees it (Client.Retry) or its data change. A resource is suspected of a death if its
	// Handle or Update ran when the member's process died, or had returned less than 10 s before. From the second
	// suspicion on it is handled alone, with nothing else that begins beside it in its member, and one at a time in the
	// whole group. Raised, more members die of such a resource; lowered, a resource that was merely there when members
	// died for another reason is quarantined sooner. Default 3; 1 to 100, or NeverQuarantine.
	QuarantineAfter int
	// QuarantineWindow is how long such a suspicion counts; a quarantine does not end by itself. Raised, members that
	// die rarely of a resource count too. Default 1 h; 1 s to 24 h.
	QuarantineWindow time.Duration
	// HandleBackoff is the pause after the first failure of a resource; it doubles with each further failure, up to
	// HandleBackoffMax, with jitter. Default 1 s; 1 ms to 24 h.
	HandleBackoff time.Duration
	// HandleBackoffMax bounds that pause. Default 1 min; HandleBackoff to 24 h.
	HandleBackoffMax time.Duration
	// TerminatePolicy says what becomes of a claim whose Terminate failed. Default ReleaseAnyway.
	TerminatePolicy TerminatePolicy

	// Ready says whether this member can work, by returning nil; its error says why not. A member that is not ready is
	// treated as if it were drained, until it is ready again: its resources go to other members in good order, each
	// after its Terminate, and it takes nothing. Ready is asked every ReadyInterval in a goroutine of its own, one call
	// at a time, and must return within ReadyInterval, but has at least 1 s and at most 10 s; a call that takes longer,
	// panics or does not return counts as a failure. The first answer decides before the member takes anything; Start
	// does not wait for a better one. A member that was never ready needs one success only. An error that matches
	// ErrServiceRestarted counts as a success, and makes the member handle again what it has: return it only if the
	// service that does the handler's work was restarted, not for something else that the handler needs
	// (handler.ReadyURL has a method for either). The beginning of the error's text is shown to all who list the
	// members, so it must not contain secrets. Default nil: the member is ready, except as FailedShare says.
	Ready func(ctx context.Context) error
	// ReadyInterval is how often Ready is asked, less up to a tenth at random. Lowered, a member that cannot work hands
	// over sooner, and what Ready asks has more to do. Default 5 s; 100 ms to 1 h.
	ReadyInterval time.Duration
	// UnreadyAfter is how many times in a row Ready must fail until the member hands over. Raised, a hiccup moves
	// nothing; lowered, resources that cannot be handled here are handled elsewhere sooner. Default 3; 1 to 1000.
	UnreadyAfter int
	// ReadyAfter is how many times in a row Ready must succeed until the member takes its share again. Raised,
	// resources do not move to a member that fails again at once. Default 2; 1 to 1000.
	ReadyAfter int
	// MinReady is the share of the members that must be ready: where fewer are, unreadiness is ignored, and those that
	// are not ready go on as if they were, so that a dependency which fails for all does not pile everything on the
	// last member that has not noticed yet. Drained, joining and leaving members do not count. With 0.5, one of two
	// hands over to the other. Where members disagree, the greatest share holds; give all the same. Raised, fewer
	// members have to bear the load of the others; with 1, nobody ever hands over. Default 0.5; 0.0001 to 1.
	MinReady float64
	// FailedShare is the share of a member's resources that must fail for the member to count as not ready, if it has
	// at least 10 and if they fail here only: of the resources of all others together, at least 10 too, less than half
	// of this share fails. All of that must last for UnreadyAfter times ReadyInterval. Such a member cannot know
	// whether it would fail still, so it takes its share again after 1 min, and stays away for twice as long each
	// further time, up to 10 min. Lowered, members hand over although some of their resources work. Default 0.9; 0.01
	// to 1, or Never.
	FailedShare float64
	// CheckInterval is the pause before each check of a resource that is handled, where the Handler is a Checker. Each
	// pause is shorter by up to a fifth, at random, so that resources that were begun together are not all checked
	// together. Lowered, what is wedged is noticed sooner, and what the Handler asks has more to do. Forever turns the
	// checks off. Default 30 s; 100 ms to 24 h, or Forever.
	CheckInterval time.Duration
	// CheckTimeout bounds each check: past it the check's context ends, and the check has failed. Lowered, what hangs
	// is noticed sooner; too low, what is only slow counts as wedged. Default 10 s; 1 ms to 24 h.
	CheckTimeout time.Duration
	// CheckFailures is how many checks of a resource must fail in a row before it is terminated and handled again.
	// Raised, short failures pass without that. Default 3; 1 to 1000.
	CheckFailures int
	// CheckConcurrency is how many checks are made at once; those that are due meanwhile wait. Raised, many slow checks
	// are made in time, and load what they ask more. Default 16; 1 to 100,000.
	CheckConcurrency int

	// Retriever is the source of resources. Exactly one of Retriever and AllocateOnly must be given.
	Retriever Retriever
	// AllocateOnly states that this member has no source: resources come from Allocate, or from other members' sources.
	AllocateOnly bool
	// PollInterval is the pause between fetches. With 0, the default, DRM fetches only when the group begins and when
	// the membership has changed (see CacheResources). 100 ms to 24 h.
	PollInterval time.Duration
	// CacheResources: after a change of membership the source is not asked again, even where the coordinator is another
	// one (unless the last fetch failed, or has left removals that wait for a confirmation). Default false: the
	// coordinator asks it once, SettleDelay after the last change.
	CacheResources bool
	// SettleDelay is how long the membership must be quiet before the source is asked again. Default 1 s; 1 ms to 1 h.
	SettleDelay time.Duration
	// JoinDelay is how long the membership must be quiet, while a group forms or several members join at once, before
	// the new members begin together. Raised, fewer resources move twice, and a new group begins later. The wait ends
	// after eight times JoinDelay in any case. A member that joins a settled group alone does not wait. Default 250 ms;
	// 1 ms to 1 min.
	JoinDelay time.Duration
	// MinMembers is how many members must have registered before a group that forms begins: a member that starts while
	// no member is active or unready takes nothing before that, so that the first one does not take everything, most of
	// which the others would take from it. Then all of them begin together. A member that joins a group which has begun
	// does not wait. Raised, the start of many members moves less; a group that can never have so many begins after
	// MinMembersWait each time. Give all members the same. Default 0, which waits for nobody, like 1; up to 1000.
	MinMembers int
	// MinMembersWait bounds that wait. With fewer members the group begins after it all the same. Default 30 s; 1 ms to
	// 1 h.
	MinMembersWait time.Duration
	// WeightField is the field of a resource's object that says how much the resource weighs when the load is balanced:
	// a number above 0, such as the events a second that it brings. A resource without it, or whose value is no such
	// number, weighs 1. Give all members the same. Default "": all resources weigh 1.
	WeightField string
	// BalanceMoves is how many resources a minute (or how much weight) may move for no other reason than that the load
	// is uneven: that a member has more than 1.05 times its fair share, and more than its fair share and the heaviest
	// shard. The coordinator decides, and its BalanceMoves counts. Raised, an uneven load lasts for a shorter time, and
	// more is unhandled at once while it moves. Default 1000; 1 to 10,000,000, or NoBalance.
	BalanceMoves int
	// BalanceAfter is for how long no member must have come or gone before anything moves for balance. Raised, a
	// restart that takes long is less likely to move anything twice. Default 1 min; 1 s to 24 h.
	BalanceAfter time.Duration
	// MaxMoving is how many resources (or how much weight) of drained members, and of what moves for balance, may be on
	// their way at once: those that have been placed elsewhere and are not handled there yet. Lowered, a drain hurts
	// less and takes longer. The coordinator's counts. Default 2000; 1 to 10,000,000.
	MaxMoving int
	// MaxMovingPerMember is how many of these may be on their way to the same member. Default 500; 1 to 10,000,000.
	MaxMovingPerMember int
	// Rejoin is for how long what belongs to this member waits for its return after a Stop, counted from the beginning
	// of Stop: nobody else takes it, so that a restart under the same ID moves nothing. If the member is not back by
	// then, the others take over, so that each resource moves once. Meanwhile nobody handles these resources; they are
	// unassigned, and say until when they wait. (Others do not handle them in between: that would be two moves for
	// each.) A member that dies, or ends because of an error, reserves nothing; a drain ends the wait. Raised, a slower
	// restart moves nothing; a member that does not come back leaves its resources unhandled for longer. Members of
	// versions before this option take over all the same. Default 0: the others take over at once; 1 s to 1 h, in whole
	// seconds: parts of a second are rounded up.
	Rejoin time.Duration
	// MaxAppResources is how many resources the app may have, at most, suspended ones included. An Allocate of one more
	// returns an error that matches ErrQuota; so it does not refuse new data for what is there. Allocations that are
	// made at the same moment may exceed it, since each counts before it writes. An answer of the source with more
	// resources is refused as a whole, as if the source had failed, and the catalogue stays what it is. Each member has
	// its own limit, so give all members and clients of an app the same one. Default 0: any number; 1 to 10,000,000.
	MaxAppResources int
	// MaxResourceBytes is how many bytes the JSON object of a resource may have, at most. An Allocate of a larger one
	// returns an error that matches ErrQuota. In an answer of the source it is a bad item: what the catalogue
	// has of it stays as it is. Etcd's limit for a request, 1.5 MiB by default, holds in any
	// case. Default 0: any number; 2 to 10,000,000.
	MaxResourceBytes int
	// FetchTimeout bounds one call of Fetch, and Setup and TearDown. Default 30 s; 1 ms to 24 h.
	FetchTimeout time.Duration
	// FetchRetryBudget is how long a failing fetch is tried again before it counts as failed. The pauses between the
	// attempts are 1, 2, 4, … s, and never longer than PollInterval. Where the first fetch of a fresh app fails, Start
	// fails; a later fetch that fails is reported, and the next poll asks again. An error that is a Retryable (such as
	// those of retriever.HTTP) may say that trying again is pointless: then the fetch has failed at once. Or it says
	// that the source wants to be left alone: then nothing asks it earlier, not even after a restart. A Refetch, or a
	// change of membership, ends a pause between two attempts, 1 s after a failure at the earliest. Default 1 min; up
	// to 24 h, or Forever.
	FetchRetryBudget time.Duration
	// MaxRemovals says which answers of the source are doubted, because they would remove so much that a mistake is
	// likely. Resources that such an answer lacks are still handled until their removal is confirmed, or the source has
	// them again. Default: answers that would remove more than 20 % of more than 10, and every empty answer.
	MaxRemovals RemovalLimit
	// RemovalDelay is how long a removal that is doubted must have been known before an answer that is asked for can
	// confirm it; at least PollInterval, however often the source is asked meanwhile. A new coordinator counts the time
	// for which the same removals were held before, by the wall clocks of both. Lowered, removals that are meant are
	// made sooner; raised, a source has longer to recover. Default 1 min; 1 ms to 24 h.
	RemovalDelay time.Duration
	// RemovalPolicy says whether a later answer confirms such removals, or only an operator. Default ConfirmRemovals.
	RemovalPolicy RemovalPolicy
	// SourcePolicy says what happens when the source has failed for all of FetchRetryBudget, after the first fetch. (An
	// error that is not tried again counts as that where the fetches have failed for as long.) Where etcd fails
	// meanwhile, that is no fault of the source, and is waited out. Default KeepCatalogue.
	SourcePolicy SourcePolicy
	// SourceStrict refuses an answer that has bad items (see BadItemsError) as a whole: the fetch has failed. Default
	// false: good items are taken, resources that the bad items may stand for stay as they are, and SourceStatus tells
	// of the bad items; only an answer that has more bad items than good ones is refused. An item that is too large for
	// etcd never makes DRM refuse the others: only etcd knows that it is too large.
	SourceStrict bool
	// SourceGone is for how long there must have been no member with a Retriever before the app counts as one without a
	// source. (A source that fails is still there.) From then on Deallocate takes a resource out of the catalogue,
	// instead of suspending it. Members that only allocate then forget the source: they remove the resources that only
	// the source wanted, in bulk, with a warning in the log; resources that were allocated besides stay; nothing is
	// suspended any more. These members count the time for which none of them had a source, so that a time in which no
	// member ran does not count. Two values may differ, that of the coordinator and that of the last coordinator with a
	// source: the longer one holds; give all members the same. Client.DropSource forgets the source at once. Lowered, a
	// source that is gone for good is forgotten sooner, and members with a source may not be away for as long. Default
	// 24 h; 1 s to 8760 h (a year), or Forever: what a source has left is kept.
	SourceGone time.Duration
	// OnSourceError is called, on the coordinator, for each fetch that failed, retries included. It is also called,
	// with a *BadItemsError, for bad items in an answer that was taken, when they are other items than before.
	// Optional. It is called in a goroutine of its own, one call at a time; of the errors that come while a call runs,
	// the latest is kept for the next call. Stop waits up to 1 s for a call that runs; nothing else waits. The error
	// unwraps to what Fetch returned.
	OnSourceError func(error)

	// StopTimeout bounds Stop: past it, calls that still run are cancelled and left behind, and their claims expire.
	// Calls that are to be finished (Finisher) are cancelled when TerminateTimeout and 3 s are left of it, or after
	// half of it, so that Terminate has its time. Default 1 min; 1 ms to 24 h.
	StopTimeout time.Duration
	// MaxInFlight is how many batches of claims are on their way to etcd at once, and as many of releases, and of
	// states. Raised, many resources are claimed sooner, and a shared etcd has more load. DRM halves the number
	// whenever etcd says that it is overloaded, or does not answer in time; where an answer takes longer than
	// LeaseTTL/10, too, down to a quarter. The number grows again with the answers. Default 8; 1 to 64.
	MaxInFlight int
	// ResyncInterval is how long a member relies on watches alone before it reads again what it owns, so that an event
	// that a watch has silently missed does not stay missed. For each shard the time is up to a fifth shorter, at
	// random. Lowered, such a miss heals sooner, and etcd has more reads. Default 5 min; 1 s to 24 h.
	ResyncInterval time.Duration

	// Supervisor is the address of a supervisor of this process (`drmctl run`), which the member tells which leases it
	// has. When the process has died with all of its children, the supervisor revokes the leases, so that others have
	// the resources at once instead of after LeaseTTL. The member never waits for the supervisor, and goes on without
	// one that is gone. It is unix:PATH, or "none" for no supervisor. Default: the environment variable DRM_SUPERVISOR,
	// which a supervisor sets; none where that is empty.
	Supervisor string

	// Logger gets what an operator should see: never a secret, never a resource's data. Nothing waits for its sink,
	// which may block or panic: while 4,096 lines wait for the sink, further lines are dropped and counted, and the
	// count is written. Whether a level is enabled is asked without a queue, and must be answered at once. Stop waits
	// up to a second for lines that are not written yet. What fails for many resources, or again and again, makes one
	// line, and then one line a minute with counts. A member that waits says what it waits for, at info (docs/cli.md).
	// Default: no log. Give one: without it nobody learns that a start waits for etcd or the source, or why a handler
	// fails.
	Logger *zap.Logger
	// LoggerFields are added to each line that DRM logs.
	LoggerFields []zap.Field
	// Health tells how the member is, also while Start waits for something: for probes from outside. Make one with
	// new(Health), and give it to one member at a time. Default: Start makes one, which Manager.Health returns.
	Health *Health
}

// ClientConfig is what NewClient needs to know.
type ClientConfig struct {
	App    string     // as in Config
	Prefix string     // as in Config
	Etcd   EtcdConfig // as in Config

	// Create lets Allocate create an app that does not exist. Default false: Allocate returns ErrNoApp then, since a
	// mistyped name would create an app that nobody meant, whose number of shards is fixed.
	Create bool
	// Shards is how many shards such an app gets. For an app that exists it must be 0, or the number that the app has.
	// Only with Create. Default 0: 1024 for a new app; 1 to 4096.
	Shards int
	// MaxAppResources is how many resources the app may have, at most, suspended ones included. An Allocate of one more
	// returns an error that matches ErrQuota; so it does not refuse new data for what is there. Allocations that are
	// made at the same moment may exceed it, since each counts before it writes. Each client has its own limit,
	// so give all members and clients of an app the same one. Default 0: any number; 1 to 10,000,000.
	MaxAppResources int
	// MaxResourceBytes is how many bytes the JSON object of a resource may have, at most. An Allocate of a larger one
	// returns an error that matches ErrQuota. Etcd's limit for a request, 1.5 MiB by default, holds in any
	// case. Default 0: any number; 2 to 10,000,000.
	MaxResourceBytes int
}
