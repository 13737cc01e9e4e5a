package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
)

// budgetOf returns the config that agent makes of these flags about budgets.
func budgetOf(t *testing.T, args ...string) (cfg drm.Config, err error) {
	t.Helper()
	return budgetAndLog(t, zap.NewNop(), args...)
}

func budgetAndLog(t *testing.T, log *zap.Logger, args ...string) (cfg drm.Config, err error) {
	t.Helper()
	cfg.Logger = log
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	app.Commands = []*cli.Command{{
		Name: "agent", Flags: budgetFlags(),
		Action: func(c *cli.Context) error { return budgetConfig(c, &cfg) },
	}}
	err = app.RunContext(t.Context(), append([]string{"drmctl", "agent"}, args...))
	return cfg, err
}

func TestAgentsRates(t *testing.T) {
	for _, c := range []struct {
		args        []string
		member, key drm.Rate
	}{
		{nil, drm.Rate{}, drm.Rate{}},
		{[]string{"--handle-rate", "500"}, drm.Rate{PerSecond: 500}, drm.Rate{}},
		{[]string{"--handle-rate=0.5/1"}, drm.Rate{PerSecond: 0.5, Burst: 1}, drm.Rate{}},
		{[]string{"--key-rate", "500/50", "--budget-key", "host"}, drm.Rate{}, drm.Rate{PerSecond: 500, Burst: 50}},
	} {
		got, err := budgetOf(t, c.args...)
		if err != nil || got.HandleRate != c.member || got.KeyRate != c.key ||
			(got.BudgetKey != nil) != (c.key != drm.Rate{}) {
			t.Errorf("%v: %+v, %+v, %v", c.args, got.HandleRate, got.KeyRate, err)
		}
	}
	t.Setenv("DRM_HANDLE_RATE", "7/3")
	t.Setenv("DRM_KEY_RATE", "8")
	t.Setenv("DRM_BUDGET_KEY", "a.b")
	got, err := budgetOf(t)
	if err != nil || got.HandleRate != (drm.Rate{PerSecond: 7, Burst: 3}) || got.KeyRate.PerSecond != 8 ||
		got.BudgetKey == nil {
		t.Errorf("from the environment: %+v, %v", got, err)
	}
}

func TestAgentsCeiling(t *testing.T) {
	if got, err := budgetOf(t, "--max-resources", "17"); err != nil || got.MaxResources != 17 {
		t.Errorf("%d, %v", got.MaxResources, err)
	}
	t.Setenv("DRM_MAX_RESOURCES", "18")
	if got, err := budgetOf(t); err != nil || got.MaxResources != 18 {
		t.Errorf("from the environment: %d, %v", got.MaxResources, err)
	}
}

func TestAgentRefusesRatesThatAreNone(t *testing.T) {
	for _, c := range []struct{ args, want []string }{
		{[]string{"--handle-rate", "x"}, []string{"--handle-rate", `"x"`, "500/50"}},
		{[]string{"--handle-rate", "0"}, []string{"--handle-rate", "0.001 to 1000000"}},
		{[]string{"--handle-rate", "NaN"}, []string{"--handle-rate"}},
		{[]string{"--handle-rate", "-1"}, []string{"--handle-rate"}},
		{[]string{"--handle-rate", "1000001"}, []string{"--handle-rate"}},
		{[]string{"--handle-rate", "5/"}, []string{"--handle-rate", `"5/"`}},
		{[]string{"--handle-rate", "5/0"}, []string{"--handle-rate"}},
		{[]string{"--handle-rate", "5/1000001"}, []string{"--handle-rate"}},
		{[]string{"--budget-key", "url-host:", "--key-rate", "1"}, []string{"--budget-key", "url-host:"}},
	} {
		_, err := budgetOf(t, c.args...)
		if err == nil || exitCode(err) != exitUsage {
			t.Errorf("%v: %v", c.args, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %v, want %q in it", c.args, err, want)
			}
		}
	}
}

func TestARateOfKeysGoesWithAKeyOnly(t *testing.T) {
	for _, args := range [][]string{{"--key-rate", "5"}, {"--budget-key", "f"}} {
		args = append([]string{"--app", "a", "agent", "--allocate-only", "--handler-log"}, args...)
		got := drmctl(t.Context(), args...)
		if got.code != exitUsage || !strings.Contains(got.stderr, args[len(args)-2]+" goes with") {
			t.Errorf("%v: exit code %d: %s", args, got.code, got.stderr)
		}
	}
}

func TestTheKeyOfABudgetIsAFieldOrTheHostOfAURL(t *testing.T) {
	const object = `{"id":"x","account":"a-1","n":17,"on":true,"none":null,"list":[1],"service":{"name":"feeds",` +
		`"url":"wss://API.Example.org:8443/x?token=s"},"a.b":"dotted","bad":"http://[::1","text":"no url",` +
		`"bare":"Example.org:8443/x","v6":"[2001:db8::1]:80","rest":"//example.net/x","none2":"/path"}`
	for key, want := range map[string]string{
		"account": "a-1", "n": "17", "on": "true", "none": "", "list": "", "service": "", "service.name": "feeds",
		"service.none": "", "account.x": "", "a.b": "dotted", "absent": "", "url-host:service.url": "api.example.org",
		"url-host:bad": "", "url-host:text": "", "url-host:absent": "", "url-host:n": "",
		"url-host:bare": "example.org", "url-host:v6": "2001:db8::1", "url-host:rest": "example.net",
		"url-host:none2": "", "url-host:none": "",
	} {
		cfg, err := budgetOf(t, "--budget-key", key, "--key-rate", "1")
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if got := cfg.BudgetKey(drm.Resource{ID: "x", Data: json.RawMessage(object)}); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	core, logged := observer.New(zap.InfoLevel)
	cfg, err := budgetAndLog(t, zap.New(core), "--budget-key", "url-host:ulr", "--key-rate", "1")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		cfg.BudgetKey(drm.Resource{ID: "x", Data: json.RawMessage(object)})
	}
	if all := logged.All(); len(all) != 1 || all[0].ContextMap()["budget-key"] != "url-host:ulr" ||
		all[0].ContextMap()["resource"] != "x" {
		t.Errorf("logged %v, want one line about x", all)
	}
	if got := budgetKey(nil, "f", false); got != "" {
		t.Errorf("no object: got %q", got)
	}
}
