package drm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/internal/warnings"
)

// Overview is everything that an operator should know of an app: its Status, how its members and etcd are, and what is
// wrong. Client.Overview reads it.
type Overview struct {
	Status
	// At is when it was read, by the clock of whoever did; ages are measured by it.
	At time.Time
	// Exists says that etcd has keys of the app. Without it, all that is about the app is empty.
	Exists bool
	Health []MemberHealth // by member, with those that are expected back
	// Leases says why the times of the members' leases could not be read; empty where they could.
	Leases string
	// SourceOverdue says that the source has not answered for three polls and a minute. It is false where no version of
	// the coordinator that says how often it polls has written the record, or nothing polls.
	SourceOverdue bool
	SourcePoll    time.Duration // the pause between polls of the source; 0: nothing polls, or it is not known
	Etcd          EtcdHealth
	Warnings      []Warning // by code
}

// MemberHealth is how one member is.
type MemberHealth struct {
	MemberInfo
	// Known says that the member has written its figures: the counts below, which it writes soon after it has come to
	// rest, and every 10 s while they change.
	Known      bool
	Active     int       // resources that it handles
	Failed     int       // resources that fail
	Calls      int       // calls of its handler that are running
	Waiting    int       // calls that wait for their turn, or for a budget
	Stuck      int       // calls that were given up and have not returned
	StuckSince time.Time // since when there have been some without a break, by its clock; zero: there are none
	// WaitingForBudget is how many of Waiting wait for a budget, and BudgetSince since when some have.
	WaitingForBudget int
	BudgetSince      time.Time
	// View is the revision of the newest view of the group that the member is known to act by. It says so within a
	// minute. 0: not known, as of older versions.
	View int64
	// ViewBehind is how many revisions older View is than the newest change of the group, and ViewBehindSince is since
	// when others have known of a newer one, by their clocks; zero: not known, or not behind.
	ViewBehind      int64
	ViewBehindSince time.Time
	// LeaseTTL is how long the lease of the member's key lives without a renewal, LeaseLeft how long it still would;
	// both 0: not known.
	LeaseTTL, LeaseLeft time.Duration
	// Load is what the member's shards weigh, in resources of the weight 1, and LoadLimit what they may weigh for the
	// load to be even (docs/balance.md). Below 0: not known, or not balanced.
	Load, LoadLimit float64
}

// EtcdHealth is how the etcd cluster is.
type EtcdHealth struct {
	Members []EtcdMember  // by name; empty where they could not be listed
	Leader  string        // the name of the leader; empty where there is none, or nobody has told it
	Alarms  []string      // such as "NOSPACE at etcd-1"
	Latency time.Duration // of a linearizable read of one key, the fastest of three; 0: none was answered
	// Silent has the endpoints that do not answer, each with the reason.
	Silent []string
	// Unknown says what could not be found out and why, such as for lack of a permission.
	Unknown []string
}

// EtcdMember is one member of the etcd cluster.
type EtcdMember struct {
	Name    string
	URLs    []string
	Learner bool
	// State is "up" (Error says why it tells nothing of itself, if so), "down" (it does not answer at any of the
	// addresses that the cluster knows of it; Error says why), or "unknown": nothing answers at any such address, so
	// these are not for this network.
	State   string
	Error   string
	Version string // empty where it has not answered
	// Database is how large its database is, InUse how much of that is in use, and Quota how large it may become, all
	// in bytes. Quota is 0 where etcd does not tell it, as versions before 3.6.
	Database, InUse, Quota int64
}

// Severity says how bad a Warning is.
type Severity string

// The severities of warnings.
const (
	// SeverityWarn: all that should be handled is handled, as far as anybody knows; and something needs a look.
	SeverityWarn = Severity(warnings.Warn)
	// SeverityError: something that should be handled is not, or nobody knows what should be, or nothing keeps it so.
	SeverityError = Severity(warnings.Error)
)

// Warning is one thing that is wrong with an app, its members, its source or etcd.
type Warning struct {
	Code     string // such as "DRM005"; it never changes its meaning, and docs/codes.md has a section for each
	Severity Severity
	What     string    // one sentence, with names
	Since    time.Time // since when at the latest; zero: not known
	Mend     string    // the command that mends it, or what to do
	// About has the members, resources or endpoints that it is about; of many, the first.
	About []string
	// Passing says that it may be seen in a healthy app for a moment, such as while resources move. OverviewSettled
	// leaves it out unless it stays.
	Passing bool
}

// WarningCodes lists all codes that a Warning may have, in order, each with its severity.
func WarningCodes() []Warning {
	return mapped(warnings.Codes(), func(c warnings.Code) Warning {
		return Warning{Code: string(c), Severity: Severity(c.Severity()), Passing: c.Passing()}
	})
}

// Overview tells everything about the app that an operator should know. What it cannot find out for lack of a
// permission, or of a version, it leaves out, and says so. Where it returns an error, the Overview has what could be
// found out all the same: the Etcd, and the Warnings that the app cannot be opened or that etcd has no leader.
func (c *Client) Overview(ctx context.Context) (Overview, error) {
	f := warnings.Facts{Now: time.Now()}
	o := Overview{Status: Status{App: c.cfg.App}, At: f.Now, Health: []MemberHealth{}}
	cluster := etcd.Look(ctx, c.client, c.layout.Config())
	err := c.look(ctx, &f, &o)
	f.Cluster = cluster()
	o.Etcd = etcdHealthOf(f.Cluster)
	o.Warnings = mapped(warnings.Of(f), warningOf)
	return o, err
}

// look reads the app.
func (c *Client) look(ctx context.Context, f *warnings.Facts, o *Overview) error {
	r, err := c.reader(ctx)
	switch {
	case errors.Is(err, ErrResharding):
		f.Resharding = err.Error()
	case errors.Is(err, appconfig.ErrRewritten), errors.Is(err, ErrSchema), errors.Is(err, appconfig.ErrCorrupt):
		f.BadConfig = err.Error()
	}
	if err != nil {
		return err
	}
	if r == nil {
		o.Exists, err = c.Exists(ctx)
		f.NoConfig = o.Exists
		return err
	}
	o.Exists = true
	if f.Status, err = r.Status(ctx); err != nil {
		return err
	}
	if f.Health, err = r.Health(ctx); err != nil {
		return err
	}
	f.NoConfig, err = c.lostConfig(ctx)
	o.Status = appStatusOf(c.cfg.App, f.Status)
	o.Health, o.Leases = mapped(f.Health.Members, healthOf), f.Health.Leases
	o.SourceOverdue = warnings.Overdue(f.Status.Source, f.Now)
	o.SourcePoll = time.Duration(f.Status.Source.PollMS) * time.Millisecond
	return err
}

// lostConfig says whether the app's config is gone, although this client has read it.
func (c *Client) lostConfig(ctx context.Context) (bool, error) {
	found, err := c.anyReader().VerifyConfig(ctx)
	return len(found) > 0, err
}

func warningOf(w warnings.Warning) Warning {
	return Warning{
		Code: string(w.Code), Severity: Severity(w.Code.Severity()), What: w.What, Since: w.Since, Mend: w.Mend,
		About: w.About, Passing: w.Code.Passing(),
	}
}

func healthOf(m picture.MemberHealth) MemberHealth {
	f := m.Figures
	h := MemberHealth{
		MemberInfo: memberOf(m.Member), Known: m.Says, Active: f.Active, Failed: f.Failed, Calls: f.Calls,
		Waiting: f.Waiting, Stuck: f.Stuck, StuckSince: f.StuckSince, WaitingForBudget: f.WaitingForBudget,
		BudgetSince: f.BudgetSince, View: f.View, ViewBehind: m.Behind, ViewBehindSince: m.BehindSince,
		LeaseTTL: m.TTL, LeaseLeft: m.Left, Load: -1, LoadLimit: -1,
	}
	if m.Load >= 0 {
		h.Load = float64(m.Load) / 1000
	}
	if m.Limit >= 0 {
		h.LoadLimit = float64(m.Limit) / 1000
	}
	return h
}

func etcdHealthOf(c etcd.Cluster) EtcdHealth {
	h := EtcdHealth{
		Leader: c.Leader, Alarms: append([]string{}, c.Alarms...), Latency: c.Read,
		Unknown: append([]string{}, c.Unknown...), Silent: []string{}, Members: mapped(c.Members, etcdMemberOf),
	}
	for _, s := range c.Silent {
		h.Silent = append(h.Silent, fmt.Sprintf("%s: %s", s.Endpoint, s.Why))
	}
	return h
}

func etcdMemberOf(s etcd.Server) EtcdMember {
	m := EtcdMember{
		Name: s.Name, URLs: append([]string{}, s.URLs...), Learner: s.Learner, State: "up", Error: s.Why,
		Version: s.Version, Database: s.Size, InUse: s.Used, Quota: s.Quota,
	}
	switch {
	case s.Elsewhere:
		m.State = "unknown"
	case !s.Answers:
		m.State = "down"
	}
	return m
}

// OverviewSettled is Overview, and leaves out the warnings that pass by themselves: it looks again and again for as
// long as it finds such warnings, for the given time at most, and keeps those that were there at every look.
func (c *Client) OverviewSettled(ctx context.Context, within time.Duration) (Overview, error) {
	return warnings.Settled(ctx, within, c.Overview, func(o *Overview) *[]Warning { return &o.Warnings },
		func(w Warning) warnings.Seen { return warnings.Seen{Code: w.Code, About: w.About, Passing: w.Passing} })
}

// FollowOverview calls changed with the Overview now, and again after changes of the app, until ctx ends, and returns
// its cause. It watches, and looks at most once in every, and for no more than half of the time. Where etcd does not
// answer, it calls lost with the error, and with nil when etcd is back. An error that is not that of an etcd which does
// not answer ends it.
func (c *Client) FollowOverview(
	ctx context.Context, every time.Duration, changed func(Overview), lost func(error),
) error {
	return c.anyReader().Follow(ctx, every, func(ctx context.Context) error {
		o, err := c.Overview(ctx)
		if err == nil {
			changed(o)
		}
		return err
	}, lost)
}
