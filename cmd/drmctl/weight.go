package main

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

const flagReset = "reset"

const weightDescription = `
A member's weight is its share relative to the others'. The order comes before what the member says itself (agent
--weight), is kept in etcd, and outlives the member. The member takes or gives away what the difference makes, and
nothing else moves; --reset takes the order back, and goes with none of the other flags of this command.
A member of weight 0 holds nothing: it lets go of a few shards at a time, if the coordinator paces that; --at-once
makes it let go of everything at once. It is refused where no member would be left, unless with --force. Both flags go
with weight 0 only. Unlike a drain, it is obeyed even where all others have gone.
Ends with exit code 3 where nothing is known of such a member.

Examples: of a host with twice the memory, and of one that has to be spared:
   drmctl --app feeds weight host-1 200 --reason "host-1 has 64 GB now"
   drmctl --app feeds weight host-2 50
   drmctl --app feeds weight host-2 --reset
`

func weightCommand() *cli.Command {
	const name = "weight"
	return &cli.Command{
		Name:        name,
		Usage:       "give a member another weight, until --reset",
		ArgsUsage:   "MEMBER NUMBER|--reset",
		Description: strings.TrimSpace(weightDescription),
		Flags: slices.Concat(originFlags(name), []cli.Flag{
			&cli.BoolFlag{
				Name: flagReset, EnvVars: commandEnv(name, flagReset),
				Usage: "take the order back, so that the member has its own weight again",
			},
			&cli.BoolFlag{
				Name: flagAtOnce, EnvVars: commandEnv(name, flagAtOnce),
				Usage: "of weight 0: let the member go of everything at once, even if that is too much for the others",
			},
			&cli.BoolFlag{
				Name: flagForce, EnvVars: commandEnv(name, flagForce),
				Usage: "of weight 0: order it even if nobody is left who takes anything, so that nothing is handled",
			},
			absentFlag(name),
		}, planFlags(name)),
		Action: func(c *cli.Context) error {
			member, weight, err := weightArguments(c)
			if err != nil {
				return err
			}
			options, err := orderOptions(c)
			if err != nil {
				return err
			}
			if c.Bool(flagDryRun) {
				change := drm.Change{Kind: drm.ChangeResetWeight, Member: member}
				if weight != nil {
					change.Kind, change.Weight = drm.ChangeWeight, *weight
				}
				return plannedOf(c, options, change)
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				return weigh(ctx, c, client, member, weight, options)
			})
		},
	}
}

// weightArguments returns the member, and the weight that it is to have; nil: its own.
func weightArguments(c *cli.Context) (member string, weight *int, err error) {
	const usage = "weight needs a member id and a number, or --reset: drmctl weight MEMBER NUMBER|--reset"
	args, reset := c.Args().Slice(), c.Bool(flagReset)
	switch {
	case reset && len(args) == 2:
		return "", nil, usagef("weight takes either a number or --%s, got %q and %s",
			flagReset, args[1], givenBy(c, flagReset))
	case reset && len(args) != 1, !reset && len(args) != 2:
		return "", nil, usagef(usage)
	}
	if err := keys.CheckID(args[0]); err != nil {
		return "", nil, usagef("member id: got %q, want %w", args[0], err)
	}
	if reset {
		return args[0], nil, nil
	}
	n, ok := plainNumber(args[1], 0, membership.MaxWeight)
	if !ok {
		return "", nil, usagef("weight: got %q, want a number from 0 to %d without sign or leading zeros",
			args[1], membership.MaxWeight)
	}
	for _, flag := range []string{flagAtOnce, flagForce} {
		if n > 0 && typedAndChosen(c, flag) {
			return "", nil, usagef("--%s goes with weight 0 only, got weight %d", flag, n)
		}
	}
	return args[0], &n, nil
}

// weightJSON is part of the JSON contract.
type weightJSON struct {
	Member string `json:"member"`
	Weight *int   `json:"weight"`
}

func weigh(
	ctx context.Context, c *cli.Context, client *drm.Client, member string, weight *int, options drm.OrderOptions,
) (err error) {
	if weight == nil {
		err = client.ResetWeight(ctx, member)
	} else {
		err = client.SetWeight(ctx, member, *weight, options)
	}
	if err != nil {
		return advised(c, err)
	}
	for _, o := range ordersOf(standing(ctx, c, client), drm.OrderWeight) {
		if o.Member == member && !o.Live {
			note(c, "no member %q is live now: it has the weight %d when it comes, until weight %s --%s",
				member, o.Weight, member, flagReset)
		}
	}
	outcome := weightJSON{member, weight}
	return show(c, outcome, member, func(p *output.Page) {
		if weight == nil {
			p.Line("%s has its own weight", cell(member))
			return
		}
		p.Line("%s has the weight %d by order", cell(member), *weight)
	})
}
