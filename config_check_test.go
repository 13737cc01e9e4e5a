package drm_test

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/retriever"
)

// goodConfig is a config that Start finds nothing wrong with before it connects to etcd, where nobody is.
func goodConfig() drm.Config {
	return drm.Config{
		App: "app", Etcd: drm.EtcdConfig{Endpoints: []string{"127.0.0.1:1"}},
		Handler: handler.New(handler.Funcs{}), AllocateOnly: true,
	}
}

func TestABadConfigNamesItsField(t *testing.T) {
	for field, spoil := range map[string]func(*drm.Config){
		"App":                 func(c *drm.Config) { c.App = "" },
		"Prefix":              func(c *drm.Config) { c.Prefix = "drm" },
		"ID":                  func(c *drm.Config) { c.ID = "a\nb" },
		"Etcd.Endpoints":      func(c *drm.Config) { c.Etcd.Endpoints = nil },
		"Etcd.Client":         func(c *drm.Config) { c.Etcd.Client = &clientv3.Client{} },
		"Etcd.DialTimeout":    func(c *drm.Config) { c.Etcd.DialTimeout = -1 },
		"Etcd.CommandTimeout": func(c *drm.Config) { c.Etcd.CommandTimeout = time.Hour },
		"Handler":             func(c *drm.Config) { c.Handler = nil },
		"Retriever":           func(c *drm.Config) { c.AllocateOnly = false },
		"AllocateOnly": func(c *drm.Config) {
			c.Retriever = retriever.Func(func(context.Context) ([]drm.Resource, error) { return nil, nil })
		},
		"Weight":               func(c *drm.Config) { c.Weight = -1 },
		"Shards":               func(c *drm.Config) { c.Shards = 5000 },
		"LeaseTTL":             func(c *drm.Config) { c.LeaseTTL = -time.Second },
		"HandleTimeout":        func(c *drm.Config) { c.HandleTimeout = -1 },
		"TerminateTimeout":     func(c *drm.Config) { c.TerminateTimeout = drm.Forever },
		"HandleConcurrency":    func(c *drm.Config) { c.HandleConcurrency = -1 },
		"TerminateConcurrency": func(c *drm.Config) { c.TerminateConcurrency = 1_000_000 },
		"HandleAttempts":       func(c *drm.Config) { c.HandleAttempts = -1 },
		"MinMembers":           func(c *drm.Config) { c.MinMembers = 1001 },
		"MinMembersWait":       func(c *drm.Config) { c.MinMembersWait = 2 * time.Hour },
		"Rejoin":               func(c *drm.Config) { c.Rejoin = time.Millisecond },
		"QuarantineAfter":      func(c *drm.Config) { c.QuarantineAfter = 101 },
		"QuarantineWindow":     func(c *drm.Config) { c.QuarantineWindow = time.Millisecond },
		"HandleBackoff":        func(c *drm.Config) { c.HandleBackoff = -1 },
		"HandleBackoffMax":     func(c *drm.Config) { c.HandleBackoffMax = time.Millisecond },
		"CheckInterval":        func(c *drm.Config) { c.CheckInterval = time.Millisecond },
		"CheckTimeout":         func(c *drm.Config) { c.CheckTimeout = -1 },
		"CheckFailures":        func(c *drm.Config) { c.CheckFailures = 1001 },
		"CheckConcurrency":     func(c *drm.Config) { c.CheckConcurrency = -1 },
		"TerminatePolicy":      func(c *drm.Config) { c.TerminatePolicy = 7 },
		"OutagePolicy":         func(c *drm.Config) { c.OutagePolicy = 7 },
		"SourcePolicy":         func(c *drm.Config) { c.SourcePolicy = -1 },
		"PollInterval":         func(c *drm.Config) { c.PollInterval = -time.Second },
		"SettleDelay":          func(c *drm.Config) { c.SettleDelay = -1 },
		"FetchTimeout":         func(c *drm.Config) { c.FetchTimeout = -1 },
		"FetchRetryBudget":     func(c *drm.Config) { c.FetchRetryBudget = -1 },
		"ResyncInterval":       func(c *drm.Config) { c.ResyncInterval = time.Millisecond },
		"StopTimeout":          func(c *drm.Config) { c.StopTimeout = -1 },
		"MaxResources":         func(c *drm.Config) { c.MaxResources = 10_000_001 },
		"MaxInFlight":          func(c *drm.Config) { c.MaxInFlight = 65 },
		"MoveAfter":            func(c *drm.Config) { c.MoveAfter = -1 },
		"ReadyInterval":        func(c *drm.Config) { c.ReadyInterval = time.Millisecond },
		"UnreadyAfter":         func(c *drm.Config) { c.UnreadyAfter = -1 },
		"ReadyAfter":           func(c *drm.Config) { c.ReadyAfter = 1001 },
		"MinReady":             func(c *drm.Config) { c.MinReady = drm.Never },
		"FailedShare":          func(c *drm.Config) { c.FailedShare = 1.01 },
		"Supervisor":           func(c *drm.Config) { c.Supervisor = "tcp:127.0.0.1:1" },
		"HandleRate.PerSecond": func(c *drm.Config) { c.HandleRate.PerSecond = 0.0009 },
		"HandleRate.Burst":     func(c *drm.Config) { c.HandleRate = drm.Rate{PerSecond: 1, Burst: -1} },
		"KeyRate.Burst": func(c *drm.Config) {
			c.KeyRate = drm.Rate{PerSecond: 1, Burst: 1_000_001}
			c.BudgetKey = func(drm.Resource) string { return "" }
		},
		"KeyRate.PerSecond": func(c *drm.Config) { c.BudgetKey = func(drm.Resource) string { return "" } },
		"BudgetKey":         func(c *drm.Config) { c.KeyRate.PerSecond = 1 },
	} {
		cfg := goodConfig()
		spoil(&cfg)
		m, err := drm.Start(t.Context(), cfg)
		var input *drm.InputError
		if !errors.As(err, &input) || input.Field != field || m != nil {
			t.Errorf("a bad %s: %v", field, err)
		}
	}
	for field, spoil := range map[string]func(*drm.Config){
		"MinReady":    func(c *drm.Config) { c.MinReady = math.NaN() },
		"FailedShare": func(c *drm.Config) { c.FailedShare = math.NaN() },
	} {
		cfg := goodConfig()
		spoil(&cfg)
		var input *drm.InputError
		if _, err := drm.Start(t.Context(), cfg); !errors.As(err, &input) || input.Field != field {
			t.Errorf("a %s that is no number: %v", field, err)
		}
	}
	cfg := goodConfig()
	cfg.LeaseTTL = 1500 * time.Millisecond
	if _, err := drm.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "whole seconds") {
		t.Errorf("a TTL of 1.5 s: %v", err)
	}
}

func TestTheTLSConfigurationIsGivenOnce(t *testing.T) {
	get := func() (*tls.Config, error) { return &tls.Config{MinVersion: tls.VersionTLS12}, nil }
	cfg := goodConfig()
	cfg.Etcd.TLS, cfg.Etcd.GetTLS = &tls.Config{MinVersion: tls.VersionTLS12}, get
	var input *drm.InputError
	if _, err := drm.Start(t.Context(), cfg); !errors.As(err, &input) || input.Field != "Etcd.GetTLS" {
		t.Error(err)
	}
}
