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

const rebalanceDescription = `
The coordinator evens the load out by itself when there is a reason to; this makes it look now, and move what is worth
moving, a few shards at a time. The order expires after 10 minutes if no coordinator has begun with it by then.

Example: some time after hosts were added:
   drmctl --app feeds rebalance --wait
`

func rebalanceCommand() *cli.Command {
	const name = "rebalance"
	return &cli.Command{
		Name:        name,
		Usage:       "have the load of the members evened out now",
		Description: strings.TrimSpace(rebalanceDescription),
		Flags: slices.Concat(originFlags(name), waitFlags(name, "the coordinator has begun with it"),
			planFlags(name)),
		Action: func(c *cli.Context) error {
			options, err := orderOptions(c)
			if err := errors.Join(noArguments(c), err, checkWait(c)); err != nil {
				return err
			}
			if c.Bool(flagDryRun) {
				return plannedOf(c, options, drm.Change{Kind: drm.ChangeRebalance})
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				order, err := client.Rebalance(ctx, options)
				if err != nil {
					return err
				}
				done := c.Bool(flagWait)
				if done {
					err := waiting(c, "begun", func(ctx context.Context) error {
						return client.WaitRebalance(ctx, order)
					})
					if err != nil {
						return err
					}
				}
				return showRebalance(c, done)
			})
		},
	}
}

// rebalanceJSON is part of the JSON contract.
type rebalanceJSON struct {
	Ordered bool `json:"ordered"`
	Done    bool `json:"done"` // --wait has seen that the coordinator has begun
}

func showRebalance(c *cli.Context, done bool) error {
	outcome := rebalanceJSON{true, done}
	return show(c, outcome, c.String(flagApp), func(p *output.Page) {
		if done {
			p.Line("the coordinator has begun")
			return
		}
		p.Line("ordered")
	})
}
