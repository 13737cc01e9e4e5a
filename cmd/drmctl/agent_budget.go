package main

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm"
)

const (
	flagMaxResources = "max-resources"
	flagHandleRate   = "handle-rate"
	flagBudgetKey    = "budget-key"
	flagKeyRate      = "key-rate"
)

// urlHost begins a value of --budget-key that stands for the host of a URL.
const urlHost = "url-host:"

// budgetFlags are the flags that bound how many resources the member has, and how often it begins with one.
func budgetFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.IntFlag{
			Name: flagMaxResources, EnvVars: agentEnv(flagMaxResources), DefaultText: "any number",
			Usage: "have no more than so many resources at once: 1 to 10000000; others take the rest, as far as " +
				"they have room",
		},
		&cli.StringFlag{
			Name: flagHandleRate, EnvVars: agentEnv(flagHandleRate),
			Usage: "begin with no more than so many resources a second, tries after a failure included: " +
				"`RATE[/BURST]`, 0.001 to 1000000; at most BURST at once (default: a tenth of RATE, at least 1)",
		},
		&cli.StringFlag{
			Name: flagKeyRate, EnvVars: agentEnv(flagKeyRate),
			Usage: "the same for the resources of each --budget-key, by all members together: `RATE[/BURST]`",
		},
		&cli.StringFlag{
			Name: flagBudgetKey, EnvVars: agentEnv(flagBudgetKey),
			Usage: "what of a resource's object --key-rate goes by: a `FIELD` such as account or service.name, or " +
				"url-host:FIELD for the host of the URL in a field",
		},
	}, quotaFlags(agentEnv)...)
}

// budgetConfig sets the options that the flags of budgetFlags describe.
func budgetConfig(c *cli.Context, cfg *drm.Config) (err error) {
	if err := numberInRange(c, flagMaxResources, 1, 10_000_000); err != nil {
		return err
	}
	cfg.MaxResources = c.Int(flagMaxResources)
	if err := quotaConfig(c, cfg); err != nil {
		return err
	}
	if cfg.HandleRate, err = rateOf(c, flagHandleRate); err != nil {
		return err
	}
	if !given(c, flagBudgetKey) || !given(c, flagKeyRate) { // a variable means nothing without the other one
		return nil
	}
	field, isURL := strings.CutPrefix(c.String(flagBudgetKey), urlHost)
	if field == "" {
		return badFlag(flagBudgetKey, urlHost, "the name of a field after "+urlHost)
	}
	if cfg.KeyRate, err = rateOf(c, flagKeyRate); err != nil {
		return err
	}
	cfg.BudgetKey = keyFunction(c.String(flagBudgetKey), field, isURL, cfg.Logger)
	return nil
}

// keyFunction returns the function that finds the key of a resource's budget. It tells the log of the first resource
// without one: a name that is not spelt right would otherwise take the bound away without a word.
func keyFunction(flag, field string, isURL bool, log *zap.Logger) func(drm.Resource) string {
	var told sync.Once
	return func(r drm.Resource) string {
		key := budgetKey(r.Data, field, isURL)
		if key == "" {
			told.Do(func() {
				log.Warn("a resource has no budget key, so --key-rate does not bound it; more may follow, untold",
					zap.String("resource", r.ID), zap.String(flagBudgetKey, flag))
			})
		}
		return key
	}
}

// rateOf reads RATE[/BURST].
func rateOf(c *cli.Context, flag string) (r drm.Rate, err error) {
	text := c.String(flag)
	if text == "" {
		return r, nil
	}
	rate, burst, hasBurst := strings.Cut(text, "/")
	r.PerSecond, err = strconv.ParseFloat(rate, 64)
	if err == nil && hasBurst {
		r.Burst, err = strconv.Atoi(burst)
	}
	if err != nil || !(r.PerSecond >= 0.001 && r.PerSecond <= 1_000_000) ||
		hasBurst && (r.Burst < 1 || r.Burst > 1_000_000) {
		return drm.Rate{}, badFlag(flag, text,
			"a rate such as 500, or a rate and a burst such as 500/50: 0.001 to 1000000, 1 to 1000000")
	}
	return r, nil
}

// budgetKey returns the value of a field of an object, or the host of the URL that it is. The URL may lack its scheme,
// as "example.org:443/x" does. The key is empty if there is no such field, or if its value is neither a text nor a
// number nor a bool, or is no such URL.
func budgetKey(object []byte, field string, isURL bool) string {
	value := fieldOf(object, field)
	if len(value) == 0 {
		return ""
	}
	text := string(value)
	switch value[0] {
	case '{', '[', 'n':
		return ""
	case '"':
		if json.Unmarshal(value, &text) != nil {
			return ""
		}
	}
	switch {
	case !isURL:
		return text
	case value[0] != '"':
		return ""
	case !strings.Contains(text, "://") && !strings.HasPrefix(text, "//"):
		text = "//" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// fieldOf returns the value of a field as JSON; nil if there is none. The field is "a.b" of the object itself, or else
// "b" of the object that is its field "a".
func fieldOf(object []byte, field string) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(object, &fields) != nil {
		return nil
	}
	if value, has := fields[field]; has {
		return bytes.TrimSpace(value)
	}
	outer, inner, nested := strings.Cut(field, ".")
	if !nested {
		return nil
	}
	return fieldOf(fields[outer], inner)
}
