package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const moveDescription = `
Placement is by shard: all resources of the shard go along. The command says how many there are, and asks. Unlike a
pin, a move does not stand for good: the shard goes elsewhere when the member can no longer own it, or when the load is
evened out. It is refused where the shard is pinned, or where the member cannot take it.
Ends with exit code 3 where there is no such resource.

Examples:
   drmctl --app feeds move feed-42 host-2 --wait
   drmctl --app feeds move --shard 12 host-2 --yes
`

func moveCommand() *cli.Command {
	const name = "move"
	return &cli.Command{
		Name:        name,
		Usage:       "have the shard of a resource belong to another member now",
		ArgsUsage:   "RESOURCE|--shard NUMBER MEMBER",
		Description: strings.TrimSpace(moveDescription),
		Flags: slices.Concat([]cli.Flag{shardFlag(name)}, originFlags(name), []cli.Flag{yesFlag(name)},
			waitFlags(name, "the member handles them"), planFlags(name)),
		Action: func(c *cli.Context) error {
			t, member, err := shardArguments(c, "member id")
			if err != nil {
				return err
			}
			options, err := orderOptions(c)
			if err := errors.Join(err, checkWait(c)); err != nil {
				return err
			}
			if c.Bool(flagDryRun) {
				return planShardOrder(c, drm.ChangeMove, t, member, options)
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				return move(ctx, c, client, t, member, options)
			})
		},
	}
}

// moveJSON is part of the JSON contract.
type moveJSON struct {
	Shard     int    `json:"shard"`
	From      string `json:"from"`
	Member    string `json:"member"`
	Resources int    `json:"resources"` // how many went along, or are there already
	Moved     bool   `json:"moved"`     // false: the shard is the member's already
	Done      bool   `json:"done"`      // --wait has seen that the member handles them
}

func move(
	ctx context.Context, c *cli.Context, client *drm.Client, t target, member string, options drm.OrderOptions,
) error {
	s, err := t.give(ctx, c, client, "move", member)
	if err != nil {
		return err
	}
	moved, err := client.Move(c.Context, s.Shard, member, options) // ctx may be over when the user has answered
	if err != nil {
		return err
	}
	outcome := moveJSON{Shard: s.Shard, From: s.Member, Member: member, Resources: s.Resources, Moved: moved}
	if c.Bool(flagWait) {
		err := waiting(c, "moved", func(ctx context.Context) error { return client.WaitMoved(ctx, s.Shard, member) })
		if err != nil {
			return err
		}
		outcome.Done = true
	}
	return showMove(c, outcome)
}

func showMove(c *cli.Context, o moveJSON) error {
	return show(c, o, strconv.Itoa(o.Shard), func(p *output.Page) {
		if !o.Moved {
			p.Line("shard %d is %s's already (%s)", o.Shard, cell(o.Member), resources(o.Resources))
			return
		}
		p.Line("moved shard %d from %s to %s (%s)", o.Shard, cell(o.From), cell(o.Member), resources(o.Resources))
	})
}
