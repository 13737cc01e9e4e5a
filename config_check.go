package drm

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/leaselink"
	"github.com/distributed-resource-manager/drm/internal/reach"
	"github.com/distributed-resource-manager/drm/membership"
)

const (
	leastDuration = time.Millisecond
	mostDuration  = 24 * time.Hour

	mostSourceGone = 365 * 24 * time.Hour

	mostQuota = 10_000_000
)

// withDefaults returns the config with its zero values replaced, or an *InputError that names the first field that
// cannot be used.
func (c Config) withDefaults() (Config, error) {
	for _, check := range []func() error{
		func() error { return checkApp(c.App, &c.Prefix) },
		c.Etcd.withDefaults,
		c.checkParts,
		c.checkPolicies,
		c.MaxRemovals.withDefaults,
		c.checkRates,
		c.checkNumbers,
		c.checkShares,
		c.checkDurations,
	} {
		if err := check(); err != nil {
			return c, err
		}
	}
	if c.Address == "" {
		c.Address, _ = os.Hostname() // a name that is not known is not shown
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Health == nil {
		c.Health = new(Health)
	}
	if c.Supervisor == "" {
		c.Supervisor = os.Getenv(leaselink.Env)
	}
	if err := leaselink.Check(c.Supervisor); err != nil {
		return c, &InputError{"Supervisor", c.Supervisor, err.Error()}
	}
	return c, nil
}

// checkParts checks who the member is, and which code of the user's it runs.
func (c *Config) checkParts() error {
	if c.ID != "" {
		if err := keys.CheckID(c.ID); err != nil {
			return &InputError{"ID", c.ID, err.Error()}
		}
	}
	switch {
	case c.Handler == nil:
		return &InputError{"Handler", "nil", "a Handler"}
	case c.Retriever == nil && !c.AllocateOnly:
		return &InputError{"Retriever", "nil", "a Retriever, or AllocateOnly for a member that needs none"}
	case c.Retriever != nil && c.AllocateOnly:
		return &InputError{"AllocateOnly", "true", "false where there is a Retriever"}
	default:
		return nil
	}
}

func (c *Config) checkPolicies() error {
	for _, f := range []struct {
		name    string
		value   int
		choices [2]string // named by the values 0 and 1
	}{
		{"TerminatePolicy", int(c.TerminatePolicy), [2]string{"ReleaseAnyway", "HoldUntilTerminated"}},
		{"OutagePolicy", int(c.OutagePolicy), [2]string{"StopOnOutage", "KeepOnOutage"}},
		{"SourcePolicy", int(c.SourcePolicy), [2]string{"KeepCatalogue", "ExitOnSourceError"}},
		{"RemovalPolicy", int(c.RemovalPolicy), [2]string{"ConfirmRemovals", "HoldRemovals"}},
	} {
		if f.value < 0 || f.value >= len(f.choices) {
			return &InputError{f.name, strconv.Itoa(f.value), f.choices[0] + " or " + f.choices[1]}
		}
	}
	return nil
}

// neverOf has the names of the numbers that turn an option off, which are the same number.
var neverOf = map[string]string{"QuarantineAfter": "NeverQuarantine", "BalanceMoves": "NoBalance"}

func (c *Config) checkNumbers() error {
	for _, f := range []struct {
		name        string
		value       *int
		fallback    int
		least, most int
		zeroAllowed bool
	}{
		{"Weight", &c.Weight, 1, 1, membership.MaxWeight, false},
		{"Shards", &c.Shards, 0, 1, keys.MaxShards, true},
		{"HandleConcurrency", &c.HandleConcurrency, DefaultConcurrency, 1, 100_000, false},
		{"TerminateConcurrency", &c.TerminateConcurrency, DefaultConcurrency, 1, 100_000, false},
		{"HandleAttempts", &c.HandleAttempts, 0, 1, 65_535, true},
		{"MoveAfter", &c.MoveAfter, 0, 1, 1000, true},
		{"CheckFailures", &c.CheckFailures, DefaultCheckFailures, 1, 1000, false},
		{"CheckConcurrency", &c.CheckConcurrency, DefaultCheckConcurrency, 1, 100_000, false},
		{"MaxResources", &c.MaxResources, 0, 1, 10_000_000, true},
		{"MinMembers", &c.MinMembers, 0, 1, 1000, true},
		{"MaxAppResources", &c.MaxAppResources, 0, 1, mostQuota, true},
		{"MaxResourceBytes", &c.MaxResourceBytes, 0, 2, mostQuota, true},
		{"BalanceMoves", &c.BalanceMoves, DefaultBalanceMoves, 1, 10_000_000, false},
		{"MaxMoving", &c.MaxMoving, DefaultMaxMoving, 1, 10_000_000, false},
		{"MaxMovingPerMember", &c.MaxMovingPerMember, DefaultMovingPerMember, 1, 10_000_000, false},
		{"MaxInFlight", &c.MaxInFlight, DefaultMaxInFlight, 1, 64, false},
		{"UnreadyAfter", &c.UnreadyAfter, DefaultUnreadyAfter, 1, 1000, false},
		{"ReadyAfter", &c.ReadyAfter, DefaultReadyAfter, 1, 1000, false},
		{"QuarantineAfter", &c.QuarantineAfter, DefaultQuarantineAfter, 1, 100, false},
	} {
		if *f.value == 0 {
			*f.value = f.fallback
			if f.zeroAllowed {
				continue
			}
		}
		if *f.value < f.least || *f.value > f.most {
			want := fmt.Sprintf("%d to %d", f.least, f.most)
			if never := neverOf[f.name]; never != "" {
				if *f.value == NeverQuarantine {
					continue
				}
				want += ", or " + never
			}
			return &InputError{f.name, strconv.Itoa(*f.value), want}
		}
	}
	return nil
}

func (c *Config) checkShares() error {
	for _, f := range []struct {
		name     string
		value    *float64
		fallback float64
		least    float64
		never    bool // Never is accepted too
	}{
		{"MinReady", &c.MinReady, DefaultMinReady, 0.0001, false},
		{"FailedShare", &c.FailedShare, DefaultFailedShare, 0.01, true},
	} {
		if *f.value == 0 {
			*f.value = f.fallback
		}
		if f.never && *f.value == Never || *f.value >= f.least && *f.value <= 1 { // NaN is neither
			continue
		}
		want := strconv.FormatFloat(f.least, 'f', -1, 64) + " to 1"
		if f.never {
			want += ", or Never"
		}
		return &InputError{f.name, strconv.FormatFloat(*f.value, 'g', -1, 64), want}
	}
	return nil
}

func (c *Config) checkDurations() error {
	if c.LeaseTTL%time.Second != 0 {
		return &InputError{"LeaseTTL", c.LeaseTTL.String(), "whole seconds"}
	}
	for _, f := range []durationField{
		{"LeaseTTL", &c.LeaseTTL, DefaultLeaseTTL, time.Second, 10 * time.Minute, false},
		{"HandleTimeout", &c.HandleTimeout, DefaultHandleTimeout, leastDuration, mostDuration, true},
		{"TerminateTimeout", &c.TerminateTimeout, DefaultTerminateTimeout, leastDuration, mostDuration, false},
		{"HandleBackoff", &c.HandleBackoff, DefaultHandleBackoff, leastDuration, mostDuration, false},
		{"CheckInterval", &c.CheckInterval, DefaultCheckInterval, 100 * time.Millisecond, mostDuration, true},
		{"CheckTimeout", &c.CheckTimeout, DefaultCheckTimeout, leastDuration, mostDuration, false},
		{"QuarantineWindow", &c.QuarantineWindow, DefaultQuarantineWindow, time.Second, mostDuration, false},
		{"RemovalDelay", &c.RemovalDelay, DefaultRemovalDelay, leastDuration, mostDuration, false},
		{"SettleDelay", &c.SettleDelay, DefaultSettleDelay, leastDuration, time.Hour, false},
		{"JoinDelay", &c.JoinDelay, DefaultJoinDelay, leastDuration, time.Minute, false},
		{"BalanceAfter", &c.BalanceAfter, DefaultBalanceAfter, time.Second, mostDuration, false},
		{"MinMembersWait", &c.MinMembersWait, DefaultMinMembersWait, leastDuration, time.Hour, false},
		{"FetchTimeout", &c.FetchTimeout, DefaultFetchTimeout, leastDuration, mostDuration, false},
		{"FetchRetryBudget", &c.FetchRetryBudget, DefaultFetchRetryBudget, leastDuration, mostDuration, true},
		{"SourceGone", &c.SourceGone, DefaultSourceGone, time.Second, mostSourceGone, true},
		{"ResyncInterval", &c.ResyncInterval, DefaultResyncInterval, time.Second, mostDuration, false},
		{"StopTimeout", &c.StopTimeout, DefaultStopTimeout, leastDuration, mostDuration, false},
		{"ReadyInterval", &c.ReadyInterval, DefaultReadyInterval, 100 * time.Millisecond, time.Hour, false},
	} {
		if err := f.check(); err != nil {
			return err
		}
	}
	backoffMax := max(DefaultHandleBackoffMax, c.HandleBackoff)
	most := durationField{"HandleBackoffMax", &c.HandleBackoffMax, backoffMax, c.HandleBackoff, mostDuration, false}
	for _, f := range []durationField{
		most,
		{"PollInterval", &c.PollInterval, 0, 100 * time.Millisecond, mostDuration, false},
		{"Rejoin", &c.Rejoin, 0, time.Second, time.Hour, false},
	} {
		if *f.value == 0 && f.fallback == 0 {
			continue
		}
		if err := f.check(); err != nil {
			return err
		}
	}
	return nil
}

// checkRates checks what bounds the calls of Handle.
func (c *Config) checkRates() error {
	if err := c.HandleRate.withDefaults("HandleRate"); err != nil {
		return err
	}
	if err := c.KeyRate.withDefaults("KeyRate"); err != nil {
		return err
	}
	switch {
	case c.BudgetKey == nil && c.KeyRate.PerSecond != 0:
		return &InputError{"BudgetKey", "nil", "a function, where there is a KeyRate"}
	case c.BudgetKey != nil && c.KeyRate.PerSecond == 0:
		return &InputError{"KeyRate.PerSecond", "0", "0.001 to 1000000 where there is a BudgetKey"}
	}
	return nil
}

// withDefaults checks the rate that is the field name of Config.
func (r *Rate) withDefaults(name string) error {
	switch {
	case r.PerSecond == 0 && r.Burst == 0:
		return nil
	case !(r.PerSecond >= 0.001 && r.PerSecond <= 1_000_000): // NaN is neither
		return &InputError{
			name + ".PerSecond", strconv.FormatFloat(r.PerSecond, 'g', -1, 64), "0.001 to 1000000",
		}
	case r.Burst == 0:
		r.Burst = max(1, int(math.Ceil(r.PerSecond/10)))
	case r.Burst < 1 || r.Burst > 1_000_000:
		return &InputError{name + ".Burst", strconv.Itoa(r.Burst), "1 to 1000000"}
	}
	return nil
}

func (l *RemovalLimit) withDefaults() error {
	if l.Share == 0 {
		l.Share = DefaultRemovalShare
	}
	if l.MoreThan == 0 {
		l.MoreThan = DefaultRemovalMoreThan
	}
	if !(l.Share >= 0.0001 && l.Share <= 1) { // NaN is neither
		return &InputError{"MaxRemovals.Share", strconv.FormatFloat(l.Share, 'g', -1, 64), "0.0001 to 1"}
	}
	if l.MoreThan < 1 || l.MoreThan > 1_000_000 {
		return &InputError{"MaxRemovals.MoreThan", strconv.Itoa(l.MoreThan), "1 to 1000000"}
	}
	return nil
}

func (c ClientConfig) withDefaults() (ClientConfig, error) {
	if err := checkApp(c.App, &c.Prefix); err != nil {
		return c, err
	}
	switch {
	case c.Shards < 0 || c.Shards > keys.MaxShards:
		return c, &InputError{"Shards", strconv.Itoa(c.Shards), fmt.Sprintf("1 to %d", keys.MaxShards)}
	case c.Shards != 0 && !c.Create:
		return c, &InputError{"Shards", strconv.Itoa(c.Shards), "0 without Create"}
	case c.MaxAppResources < 0 || c.MaxAppResources > mostQuota:
		return c, &InputError{"MaxAppResources", strconv.Itoa(c.MaxAppResources), fmt.Sprintf("1 to %d", mostQuota)}
	case c.MaxResourceBytes < 0 || c.MaxResourceBytes == 1 || c.MaxResourceBytes > mostQuota:
		return c, &InputError{"MaxResourceBytes", strconv.Itoa(c.MaxResourceBytes), fmt.Sprintf("2 to %d", mostQuota)}
	}
	return c, c.Etcd.withDefaults()
}

func checkApp(app string, prefix *string) error {
	if err := keys.CheckID(app); err != nil {
		return &InputError{"App", app, err.Error()}
	}
	if *prefix == "" {
		*prefix = DefaultPrefix
	}
	if err := keys.CheckID(*prefix); err != nil || (*prefix)[0] != '/' {
		return &InputError{"Prefix", *prefix, "a path that starts with a slash"}
	}
	return nil
}

func (c *EtcdConfig) withDefaults() error {
	if c.Connection != nil {
		if field := c.howToConnect(); field != "" {
			return &InputError{"Etcd." + field, "set", "nothing beside a Connection, which says it"}
		}
		c.DialTimeout = cmp.Or(c.DialTimeout, c.Connection.cfg.DialTimeout)
		c.CommandTimeout = cmp.Or(c.CommandTimeout, c.Connection.cfg.CommandTimeout)
		return c.checkTimeouts()
	}
	switch {
	case c.Client == nil && len(c.Endpoints) == 0:
		return &InputError{"Etcd.Endpoints", "none", "the endpoints of etcd, a Client, or a Connection"}
	case c.TLS != nil && c.GetTLS != nil:
		return &InputError{"Etcd.GetTLS", "set", "one of TLS and GetTLS"}
	case c.Client != nil && c.howToConnect() != "Client":
		return &InputError{"Etcd.Client", "a client and how to make one", "one of both"}
	}
	var bad *reach.EndpointError
	if errors.As(reach.CheckEndpoints(c.Endpoints, c.TLS != nil || c.GetTLS != nil), &bad) {
		return &InputError{"Etcd.Endpoints", bad.Endpoint, bad.Want}
	}
	return c.checkTimeouts()
}

func (c *EtcdConfig) checkTimeouts() error {
	for _, f := range []durationField{
		{"Etcd.DialTimeout", &c.DialTimeout, DefaultDialTimeout, leastDuration, 10 * time.Minute, false},
		{"Etcd.CommandTimeout", &c.CommandTimeout, DefaultCommandTimeout, leastDuration, 10 * time.Minute, false},
	} {
		if err := f.check(); err != nil {
			return err
		}
	}
	return nil
}

// howToConnect names the first field that is set of those that say how to connect. Client comes last.
func (c *EtcdConfig) howToConnect() string {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"Endpoints", len(c.Endpoints) > 0},
		{"TLS", c.TLS != nil},
		{"GetTLS", c.GetTLS != nil},
		{"Username", c.Username != ""},
		{"Password", c.Password != ""},
		{"Client", c.Client != nil},
	} {
		if f.set {
			return f.name
		}
	}
	return ""
}

// durationField is a field of Config and what it may be.
type durationField struct {
	name        string
	value       *time.Duration
	fallback    time.Duration
	least, most time.Duration
	forever     bool // Forever is accepted too
}

func (f durationField) check() error {
	if *f.value == 0 {
		*f.value = f.fallback
	}
	if f.forever && *f.value == Forever || *f.value >= f.least && *f.value <= f.most {
		return nil
	}
	want := fmt.Sprintf("%v to %v", f.least, f.most)
	if f.forever {
		want += ", or Forever"
	}
	return &InputError{f.name, f.value.String(), want}
}

// defaultID is the host's name where it can be an id.
func defaultID() string {
	host, err := os.Hostname()
	if err != nil || keys.CheckID(host) != nil {
		return "member"
	}
	return host
}
