package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

// flagDryRun is a flag of source accept and source drop.
const flagDryRun = "dry-run"

const sourceDescription = `
How the source fares is told by status.

Example:
   drmctl --app feeds source accept --dry-run
`

// sourceCommand groups the commands about the source.
func sourceCommand() *cli.Command {
	return &cli.Command{
		Name:        "source",
		Usage:       "operate the app's source: accept what it would remove, have it asked now",
		Description: strings.TrimSpace(sourceDescription),
		Subcommands: []*cli.Command{
			sourceAcceptCommand(),
			sourceFetchCommand(),
			sourceDropCommand(),
		},
	}
}

const sourceAcceptDescription = `
Prints what would be removed: how many resources, and the ids of the first 100; then orders just that. Where others
are held by the time that the coordinator hears of it, it removes nothing. What is removed is not handled any more,
unless it was allocated too. The order expires after 10 minutes.

Example:
   drmctl --app feeds source accept --dry-run
   drmctl --app feeds source accept --wait
`

func sourceAcceptCommand() *cli.Command {
	const name = "source-accept"
	return &cli.Command{
		Name:        "accept",
		Usage:       "have the removals made that are held, because the source lacks so much of what it had",
		Description: strings.TrimSpace(sourceAcceptDescription),
		Flags: slices.Concat([]cli.Flag{
			&cli.BoolFlag{
				Name: flagDryRun, EnvVars: commandEnv(name, flagDryRun),
				Usage: "only print what would be removed",
			},
		}, deedFlags(name), waitFlags(name, "it has been removed")),
		Action: func(c *cli.Context) error {
			if err := errors.Join(noArguments(c), checkWait(c)); err != nil {
				return err
			}
			if c.Bool(flagDryRun) && c.Bool(flagWait) {
				return usagef("--%s and --%s do not go together", flagDryRun, flagWait)
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				return acceptRemovals(ctx, c, client)
			})
		},
	}
}

// acceptJSON is part of the JSON contract.
type acceptJSON struct {
	Held      int        `json:"held"`
	HeldSince *time.Time `json:"held_since"`
	HeldIDs   []string   `json:"held_ids"`
	Ordered   bool       `json:"ordered"`
	Done      bool       `json:"done"`    // --wait has seen that the order is in effect
	Removed   int        `json:"removed"` // how many resources were removed, where done
}

func acceptRemovals(ctx context.Context, c *cli.Context, client *drm.Client) error {
	s, err := client.Source(ctx)
	if err != nil {
		return err
	}
	if there, err := client.Exists(ctx); err != nil {
		return err
	} else if !there {
		return fmt.Errorf("%w %q at prefix %q", drm.ErrNoApp, c.String(flagApp), c.String(flagPrefix))
	}
	outcome := acceptJSON{Held: s.Held, HeldSince: utc(s.HeldSince), HeldIDs: s.HeldIDs}
	if outcome.HeldIDs == nil {
		outcome.HeldIDs = []string{}
	}
	if s.Held == 0 || c.Bool(flagDryRun) {
		return showAccept(c, outcome)
	}
	if s.HeldDigest == "" {
		return errors.New("the coordinator is of a version that takes no order about the removals that it holds")
	}
	order, err := client.AcceptRemovals(ctx, s.HeldDigest)
	if err != nil {
		return err
	}
	outcome.Ordered = true
	if c.Bool(flagWait) {
		err := waiting(c, "removed", func(ctx context.Context) (err error) {
			outcome.Removed, err = client.WaitAccepted(ctx, order)
			return err
		})
		if err != nil {
			return err
		}
		outcome.Done = true
	}
	return showAccept(c, outcome)
}

func showAccept(c *cli.Context, outcome acceptJSON) error {
	return show(c, outcome, strings.Join(outcome.HeldIDs, "\n"), func(p *output.Page) {
		for _, id := range outcome.HeldIDs {
			p.Line("%s", cell(id))
		}
		if more := outcome.Held - len(outcome.HeldIDs); more > 0 && len(outcome.HeldIDs) > 0 {
			p.Line("and %d more", more)
		}
		switch {
		case outcome.Held == 0:
			p.Line("no removals are held")
		case outcome.Done:
			p.Line("removed %d", outcome.Removed)
		case outcome.Ordered:
			p.Line("ordered to remove %d, which are held since %s", outcome.Held,
				cell(orNever(outcome.HeldSince)))
		default:
			p.Line("would remove %d, which are held since %s", outcome.Held, cell(orNever(outcome.HeldSince)))
		}
	})
}

func orNever(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

const sourceFetchDescription = `
Where the source wants to be left alone for a while (Retry-After), that is waited for. The order expires after 10
minutes.

Example:
   drmctl --app feeds source fetch --wait
`

func sourceFetchCommand() *cli.Command { return fetchCommandNamed("fetch", "source fetch") }

// fetchCommand is sourceFetchCommand as a command of its own.
func fetchCommand() *cli.Command { return fetchCommandNamed("fetch", "fetch") }

// fetchCommandNamed is a command with that name, which a user calls by words.
func fetchCommandNamed(name, words string) *cli.Command {
	command := strings.ReplaceAll(words, " ", "-")
	return &cli.Command{
		Name:        name,
		Usage:       "have the coordinator ask the source now, and not at the next poll",
		Description: strings.TrimSpace(strings.ReplaceAll(sourceFetchDescription, "source fetch", words)),
		Flags: slices.Concat(deedFlags(command), waitFlags(command,
			"the source was asked; if it failed, with exit code 1")),
		Action: func(c *cli.Context) error {
			if err := errors.Join(noArguments(c), checkWait(c)); err != nil {
				return err
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				return fetchSource(ctx, c, client)
			})
		},
	}
}

// fetchJSON is part of the JSON contract.
type fetchJSON struct {
	Ordered   bool `json:"ordered"`
	Done      bool `json:"done"`      // --wait has seen that the source was asked, and answered
	Resources int  `json:"resources"` // how many the answer has, where done
	Held      int  `json:"held"`      // how many removals wait for a confirmation after the answer
}

func fetchSource(ctx context.Context, c *cli.Context, client *drm.Client) error {
	order, err := client.RefetchSource(ctx)
	if err != nil {
		return err
	}
	outcome := fetchJSON{Ordered: true}
	if c.Bool(flagWait) {
		err := waiting(c, "asked", func(ctx context.Context) error {
			s, err := client.WaitRefetched(ctx, order)
			outcome.Resources, outcome.Held = s.Resources, s.Held
			return err
		})
		if err != nil {
			return err
		}
		outcome.Done = true
	}
	return show(c, outcome, c.String(flagApp), func(p *output.Page) {
		switch {
		case !outcome.Done:
			p.Line("ordered the source to be asked")
		case outcome.Held > 0:
			p.Line("the source has %d resources; %d removals are held", outcome.Resources, outcome.Held)
		default:
			p.Line("the source has %d resources", outcome.Resources)
		}
	})
}
