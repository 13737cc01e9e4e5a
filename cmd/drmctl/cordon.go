package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const cordonDescription = `
The member goes on with the shards that it owns now, and with what comes into these shards; other members take all
else. The order is kept in etcd, and outlives the member. What others take over from it meanwhile, it need not get
back. Where all members are cordoned, they take what none of them keeps. To cordon a member again changes the reason
and the time, where they are given, and not what the member keeps.
Ends with exit code 3 where nothing is known of such a member.

Example: of a host that is to be replaced, and whose connections may end by themselves:
   drmctl --app feeds cordon host-1 --reason "host-1 is slow"
`

func cordonCommand() *cli.Command {
	const name = "cordon"
	return &cli.Command{
		Name:        name,
		Usage:       "have a member keep what it has, and take nothing new, until uncordon",
		ArgsUsage:   "MEMBER",
		Description: strings.TrimSpace(cordonDescription),
		Flags:       slices.Concat(originFlags(name), []cli.Flag{forFlag(name), absentFlag(name)}, planFlags(name)),
		Action: func(c *cli.Context) error {
			if c.Bool(flagDryRun) {
				return planMemberOrder(c, drm.ChangeCordon)
			}
			return memberOrder(c, (*drm.Client).Cordon, nil, showCordon)
		},
	}
}

const uncordonDescription = `
Example:
   drmctl --app feeds uncordon host-1
`

func uncordonCommand() *cli.Command {
	const name = "uncordon"
	return &cli.Command{
		Name:        name,
		Usage:       "take a cordon back",
		ArgsUsage:   "MEMBER",
		Description: strings.TrimSpace(uncordonDescription),
		Flags:       deedFlags(name),
		Action: func(c *cli.Context) error {
			return memberOrder(c, takeBack((*drm.Client).Uncordon), nil, showCordon)
		},
	}
}

// cordonJSON is part of the JSON contract.
type cordonJSON struct {
	Member   string `json:"member"`
	Cordoned bool   `json:"cordoned"`
}

func showCordon(c *cli.Context, member string, _ bool) error {
	outcome := cordonJSON{member, c.Command.Name == "cordon"}
	return show(c, outcome, member, func(p *output.Page) { p.Line("%sed %s", c.Command.Name, member) })
}
