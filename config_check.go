package drm

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/reach"
	"github.com/distributed-resource-manager/drm/membership"
)

const (
	leastDuration = time.Millisecond
	mostDuration  = 24 * time.Hour

	mostSourceGone = 365 * 24 * time.Hour
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
		c.checkNumbers,
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
		{"MaxInFlight", &c.MaxInFlight, DefaultMaxInFlight, 1, 64, false},
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
			if f.value == &c.QuarantineAfter {
				if *f.value == NeverQuarantine {
					continue
				}
				want += ", or NeverQuarantine"
			}
			return &InputError{f.name, strconv.Itoa(*f.value), want}
		}
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
		{"QuarantineWindow", &c.QuarantineWindow, DefaultQuarantineWindow, time.Second, mostDuration, false},
		{"RemovalDelay", &c.RemovalDelay, DefaultRemovalDelay, leastDuration, mostDuration, false},
		{"SettleDelay", &c.SettleDelay, DefaultSettleDelay, leastDuration, time.Hour, false},
		{"JoinDelay", &c.JoinDelay, DefaultJoinDelay, leastDuration, time.Minute, false},
		{"FetchTimeout", &c.FetchTimeout, DefaultFetchTimeout, leastDuration, mostDuration, false},
		{"FetchRetryBudget", &c.FetchRetryBudget, DefaultFetchRetryBudget, leastDuration, mostDuration, true},
		{"SourceGone", &c.SourceGone, DefaultSourceGone, time.Second, mostSourceGone, true},
		{"ResyncInterval", &c.ResyncInterval, DefaultResyncInterval, time.Second, mostDuration, false},
		{"StopTimeout", &c.StopTimeout, DefaultStopTimeout, leastDuration, mostDuration, false},
	} {
		if err := f.check(); err != nil {
			return err
		}
	}
	backoffMax := max(DefaultHandleBackoffMax, c.HandleBackoff)
	most := durationField{"HandleBackoffMax", &c.HandleBackoffMax, backoffMax, c.HandleBackoff, mostDuration, false}
	if err := most.check(); err != nil || c.PollInterval == 0 {
		return err
	}
	return durationField{"PollInterval", &c.PollInterval, 0, 100 * time.Millisecond, mostDuration, false}.check()
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
	switch {
	case c.Client == nil && len(c.Endpoints) == 0:
		return &InputError{"Etcd.Endpoints", "none", "the endpoints of etcd, or a Client"}
	case c.TLS != nil && c.GetTLS != nil:
		return &InputError{"Etcd.GetTLS", "set", "one of TLS and GetTLS"}
	case c.Client != nil && c.saysHowToConnect():
		return &InputError{"Etcd.Client", "a client and how to make one", "one of both"}
	}
	var bad *reach.EndpointError
	if errors.As(reach.CheckEndpoints(c.Endpoints, c.TLS != nil || c.GetTLS != nil), &bad) {
		return &InputError{"Etcd.Endpoints", bad.Endpoint, bad.Want}
	}
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

// saysHowToConnect reports whether any field is set that only a client of DRM's own needs.
func (c *EtcdConfig) saysHowToConnect() bool {
	return len(c.Endpoints) > 0 || c.TLS != nil || c.GetTLS != nil || c.Username != "" || c.Password != ""
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
