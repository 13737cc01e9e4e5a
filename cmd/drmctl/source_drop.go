package main

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const sourceDropDescription = `
Removes what nobody but the source wanted, in bulk; keeps what was allocated; and forgets what was deallocated
while the source had it. Members that only allocate do the same by themselves once there was no member with a
source for --source-gone. Refuses, with exit code 1, while a member that has a source is alive. Where it is interrupted,
run it again.

Examples:
   drmctl --app feeds source drop --dry-run
   drmctl --app feeds source drop
`

func sourceDropCommand() *cli.Command { return dropCommandNamed("drop", "source drop") }

// forgetSourceCommand is sourceDropCommand as a command of its own.
func forgetSourceCommand() *cli.Command { return dropCommandNamed("forget-source", "forget-source") }

// dropCommandNamed is a command with that name, which a user calls by words.
func dropCommandNamed(name, words string) *cli.Command {
	command := strings.ReplaceAll(words, " ", "-")
	return &cli.Command{
		Name:        name,
		Usage:       "say that the app has no source from now on",
		Description: strings.TrimSpace(strings.ReplaceAll(sourceDropDescription, "source drop", words)),
		Flags: slices.Concat([]cli.Flag{
			&cli.BoolFlag{
				Name: flagDryRun, EnvVars: commandEnv(command, flagDryRun),
				Usage: "only tell how many resources it would remove",
			},
		}, deedFlags(command)),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			// The command timeout bounds each request. It does not bound how long all removals take, of which there may
			// be a million.
			return withClient(c, func(_ context.Context, client *drm.Client) error {
				return dropSource(c.Context, c, client, c.Bool(flagDryRun))
			})
		},
	}
}

func dropSource(ctx context.Context, c *cli.Context, client *drm.Client, dryRun bool) error {
	drop := client.DropSource
	if dryRun {
		drop = client.SourceLeaves
	}
	removed, err := drop(ctx)
	if err != nil {
		if removed > 0 {
			note(c, "%d resources were removed before it failed; run it again for the rest", removed)
		}
		return err
	}
	return showDropped(c, removed, !dryRun)
}

// droppedJSON is part of the JSON contract.
type droppedJSON struct {
	Removed int  `json:"removed"`
	Dropped bool `json:"dropped"` // false: this was a dry run
}

func showDropped(c *cli.Context, removed int, dropped bool) error {
	outcome := droppedJSON{removed, dropped}
	return show(c, outcome, c.String(flagApp), func(p *output.Page) {
		if dropped {
			p.Line("dropped the source; removed %d resources", removed)
		} else {
			p.Line("would drop the source, and remove %d resources", removed)
		}
	})
}
