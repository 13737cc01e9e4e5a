package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const (
	flagAllQuarantined = "all-quarantined"
	flagAllFailed      = "all-failed"
)

const retryDescription = `
A resource whose handling fails is tried again by the member that has it, after pauses that grow to a minute and more.
With this command, which says that the cause has gone, the member tries again at once, and its pauses and attempts
begin anew. What is active, or is being tried just now, is left alone; that is no error.
A resource is quarantined when several members have died while they began with it. Nobody handles it until it is freed
by this command, or its data change. Then its member begins with it again, as if nobody had died.
Ends with exit code 3 where there is no such resource.

Examples:
   drmctl --app feeds retry feed-42 --wait
   drmctl --app feeds retry --all-failed --reason "the database is back"
   drmctl --app feeds retry --all-quarantined
`

func retryCommand() *cli.Command {
	const name = "retry"
	return &cli.Command{
		Name:        name,
		Usage:       "have a resource tried again now that has failed or is quarantined",
		ArgsUsage:   "ID|--all-failed|--all-quarantined",
		Description: strings.TrimSpace(retryDescription),
		Flags: slices.Concat([]cli.Flag{
			&cli.BoolFlag{
				Name: flagAllFailed, EnvVars: commandEnv(name, flagAllFailed),
				Usage: "all resources that have failed",
			},
			&cli.BoolFlag{
				Name: flagAllQuarantined, EnvVars: commandEnv(name, flagAllQuarantined),
				Usage: "all resources that are quarantined",
			},
		}, originFlags(name), waitFlags(name, "they are handled")),
		Action: func(c *cli.Context) error {
			options, err := orderOptions(c)
			if err := errors.Join(err, checkWait(c)); err != nil {
				return err
			}
			for _, all := range []string{flagAllFailed, flagAllQuarantined} {
				if c.Bool(all) && c.NArg() > 0 {
					return usagef("retry takes a resource id or --%s, not both", all)
				}
			}
			if c.Bool(flagAllFailed) && c.Bool(flagAllQuarantined) {
				return usagef("--%s and --%s do not go together", flagAllFailed, flagAllQuarantined)
			}
			id := ""
			if !c.Bool(flagAllFailed) && !c.Bool(flagAllQuarantined) {
				if id, err = oneID(c, "resource id"); err != nil {
					return err
				}
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				return retry(ctx, c, client, id, options)
			})
		},
	}
}

// retriedJSON is part of the JSON contract.
type retriedJSON struct {
	Retried []string `json:"retried"`
	Note    string   `json:"note,omitempty"` // why nothing was
}

// retrier gives the orders of retry; it is a *drm.Client.
type retrier interface {
	RetryWith(ctx context.Context, id string, o drm.OrderOptions) (drm.State, error)
	RetryFailed(ctx context.Context, o drm.OrderOptions) ([]string, error)
	RetryQuarantined(ctx context.Context) ([]string, error)
	Lookup(ctx context.Context, id string) (drm.Assignment, error)
	Wait(ctx context.Context, id string) (drm.Assignment, error)
}

// retry has a resource tried again, or all that have failed or are quarantined if id is empty. Of these there may be
// very many: the command timeout, which ends ctx, bounds each request then, and not all of them together.
func retry(ctx context.Context, c *cli.Context, client retrier, id string, o drm.OrderOptions) (err error) {
	retried, nothing := []string{}, ""
	switch {
	case c.Bool(flagAllFailed):
		retried, err = client.RetryFailed(c.Context, o)
		nothing = "nothing has failed"
	case id == "":
		retried, err = client.RetryQuarantined(c.Context)
		nothing = "nothing is quarantined"
	default:
		var was drm.State
		if was, err = client.RetryWith(ctx, id, o); was != "" {
			retried = append(retried, id)
		} else if err == nil {
			nothing = "nothing to retry: " + cell(id) + " has neither failed nor is it quarantined" +
				other(ctx, client, id)
		}
	}
	if err != nil {
		if len(retried) > 0 {
			note(c, "%s retried before it failed; run it again for the rest", resources(len(retried)))
		}
		return err
	}
	if c.Bool(flagWait) {
		waited := retried
		if id != "" {
			waited = []string{id}
		}
		err := waiting(c, "handled", func(ctx context.Context) error {
			for _, one := range waited {
				if _, err := client.Wait(ctx, one); err != nil && (id != "" || !errors.Is(err, drm.ErrNotFound)) {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	outcome := retriedJSON{Retried: retried}
	if len(retried) == 0 {
		outcome.Note = nothing
	}
	return show(c, outcome, strings.Join(retried, "\n"), func(p *output.Page) {
		for _, one := range retried {
			p.Line("retried %s", one)
		}
		if len(retried) == 0 {
			p.Line("%s", nothing)
		}
	})
}

// other says why nobody has a resource that has neither failed nor is quarantined, such as that it is suspended. It is
// empty where somebody has it, or nobody knows why.
func other(ctx context.Context, client retrier, id string) string {
	found, err := client.Lookup(ctx, id)
	if err != nil || found.State != drm.StateUnassigned || found.Error == "" {
		return ""
	}
	return "; nobody has it: " + found.Error
}
