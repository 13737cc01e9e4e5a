package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

const flagUnverified = "unverified"

const reshardDescription = `
All members have to be stopped; it refuses, with exit code 1, while one lives, or claims or a reservation of one
are left (--wait waits for these), and where the app has N shards already. While it is in progress, no member
starts, and no other command does anything. Where it is interrupted, run it again with the same N: nothing is
lost. At the end it compares what the app has with what it had. It drops what names shards, and prints what: pins,
moves of shards, exceptions, and the shards that drained or cordoned members keep. Start the members without
--shards afterwards, or with the new number.

Example:
   drmctl --app feeds reshard 2048 --wait
`

func reshardCommand() *cli.Command {
	const name = "reshard"
	return &cli.Command{
		Name:        name,
		Usage:       "change the number of shards while all members are stopped",
		ArgsUsage:   "N",
		Description: strings.TrimSpace(reshardDescription),
		Flags: slices.Concat([]cli.Flag{
			&cli.BoolFlag{
				Name: flagUnverified, EnvVars: commandEnv(name, flagUnverified),
				Usage: "finish although the app does not have what it had, since somebody has written to etcd by hand",
			},
		}, deedFlags(name),
			waitFlags(name, "the claims and reservations of members that have ended are gone, and then begin")),
		Action: reshardAction,
	}
}

func reshardAction(c *cli.Context) error {
	shards, err := shardsArgument(c)
	if err != nil {
		return err
	}
	if err := checkWait(c); err != nil {
		return err
	}
	// The command timeout bounds each request. It does not bound how long a million resources take to be moved.
	return withClient(c, func(_ context.Context, client *drm.Client) error {
		var done drm.Resharded
		err := waiting(c, "changed", func(ctx context.Context) (err error) {
			done, err = client.Reshard(ctx, drm.Reshard{
				Shards: shards, Wait: c.Bool(flagWait), Unverified: c.Bool(flagUnverified),
			})
			return err
		})
		if err != nil {
			return err
		}
		return showResharded(c, done)
	})
}

// shardsArgument returns the only argument, which is a number of shards.
func shardsArgument(c *cli.Context) (int, error) {
	if c.NArg() != 1 {
		return 0, usagef("%s takes one number of shards, got %d arguments: drmctl %s N",
			commandName(c), c.NArg(), commandName(c))
	}
	n, ok := plainNumber(c.Args().First(), 1, keys.MaxShards)
	if !ok {
		return 0, usagef("number of shards: got %q, want 1 to %d without sign or leading zeros",
			c.Args().First(), keys.MaxShards)
	}
	return n, nil
}

// reshardJSON is part of the JSON contract.
type reshardJSON struct {
	From          int      `json:"from"`
	To            int      `json:"to"`
	Resources     int      `json:"resources"`
	Quarantined   int      `json:"quarantined"`
	Moved         int      `json:"moved"`
	NotUnderstood int      `json:"not_understood"`
	DroppedOrders []string `json:"dropped_orders"`
}

func showResharded(c *cli.Context, r drm.Resharded) error {
	outcome := reshardJSON{
		r.From, r.To, r.Resources, r.Quarantined, r.Moved, r.Ignored, append([]string{}, r.Dropped...),
	}
	if r.Ignored > 0 {
		note(c, "not understood, and still where they were: %d keys below shards (drmctl verify names them)", r.Ignored)
	}
	return show(c, outcome, c.String(flagApp), func(p *output.Page) {
		p.Row("shards", fmt.Sprintf("%d, were %d", r.To, r.From))
		p.Row("resources", r.Resources)
		p.Row("quarantined", r.Quarantined)
		p.Row("keys moved", r.Moved)
		for _, d := range r.Dropped {
			p.Row("dropped", d)
		}
	})
}
