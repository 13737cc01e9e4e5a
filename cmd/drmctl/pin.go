package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const pinDescription = `
Placement is by shard: all resources of the shard go along. The command says how many there are, and asks. The member
owns the shard whenever it can own shards: a drain or a cordon of the member, and what makes it not ready, come first.
Ends with exit code 3 where there is no such resource, or nothing is known of such a member.

Examples:
   drmctl --app feeds pin feed-42 host-1 --reason "host-1 has the fast disk"
   drmctl --app feeds pin --shard 12 host-1 --yes
`

func pinCommand() *cli.Command {
	const name = "pin"
	return &cli.Command{
		Name:        name,
		Usage:       "have the shard of a resource belong to a member for good, until unpin",
		ArgsUsage:   "RESOURCE|--shard NUMBER MEMBER",
		Description: strings.TrimSpace(pinDescription),
		Flags: slices.Concat([]cli.Flag{shardFlag(name)}, originFlags(name), []cli.Flag{
			absentFlag(name), yesFlag(name),
		}, planFlags(name)),
		Action: func(c *cli.Context) error {
			t, member, err := shardArguments(c, "member id")
			if err != nil {
				return err
			}
			options, err := orderOptions(c)
			if err != nil {
				return err
			}
			if c.Bool(flagDryRun) {
				return planShardOrder(c, drm.ChangePin, t, member, options)
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				return pin(ctx, c, client, t, member, options)
			})
		},
	}
}

func pin(
	ctx context.Context, c *cli.Context, client *drm.Client, t target, member string, options drm.OrderOptions,
) error {
	s, err := t.give(ctx, c, client, "pin", member)
	if err != nil {
		return err
	}
	err = client.Pin(c.Context, s.Shard, member, options) // ctx may be over when the user has answered
	if err != nil {
		return advised(c, err)
	}
	return showPin(c, pinJSON{Shard: s.Shard, Member: member, Pinned: true, Resources: &s.Resources})
}

// pinJSON is part of the JSON contract.
type pinJSON struct {
	Shard     int    `json:"shard"`
	Member    string `json:"member"`
	Pinned    bool   `json:"pinned"`
	Resources *int   `json:"resources,omitempty"` // how many are in the shard; unpin does not say
}

func showPin(c *cli.Context, outcome pinJSON) error {
	return show(c, outcome, strconv.Itoa(outcome.Shard), func(p *output.Page) {
		if outcome.Pinned {
			p.Line("pinned shard %d to %s (%s)", outcome.Shard, cell(outcome.Member), resources(*outcome.Resources))
			return
		}
		p.Line("unpinned shard %d, which was pinned to %s", outcome.Shard, cell(outcome.Member))
	})
}

const unpinDescription = `
The shard goes where it would be without the pin. Ends with exit code 3 where it is not pinned.

Examples:
   drmctl --app feeds unpin feed-42
   drmctl --app feeds unpin --shard 12
`

func unpinCommand() *cli.Command {
	const name = "unpin"
	return &cli.Command{
		Name:        name,
		Usage:       "take a pin back",
		ArgsUsage:   "RESOURCE|--shard NUMBER",
		Description: strings.TrimSpace(unpinDescription),
		Flags:       slices.Concat([]cli.Flag{shardFlag(name)}, deedFlags(name)),
		Action: func(c *cli.Context) error {
			t, _, err := shardArguments(c, "")
			if err != nil {
				return err
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				n := t.number
				if t.resource != "" { // which need not be there any more
					if n, err = client.ShardOf(ctx, t.resource); err != nil {
						return err
					}
				}
				member, err := client.Unpin(ctx, n)
				if unknown(err) {
					return &hintedError{err, "drmctl pins lists the shards that are"}
				}
				if err != nil {
					return shardError(err)
				}
				return showPin(c, pinJSON{Shard: n, Member: member})
			})
		},
	}
}

const pinsDescription = `
IN FORCE is false where the member does not own the shard now: it is not there, or cannot own shards.

Examples:
   drmctl --app feeds pins -o json
   drmctl --app feeds pins --watch
`

func pinsCommand() *cli.Command {
	return &cli.Command{
		Name:        "pins",
		Usage:       "list the shards that are pinned",
		Description: strings.TrimSpace(pinsDescription),
		Flags:       []cli.Flag{watchFlag("pins")},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return withApp(c, func(ctx context.Context, client *drm.Client) error {
				if c.Bool(flagWatch) {
					pins := func(g drm.Group) []drm.OrderInfo { return ordersOf(g.Orders, drm.OrderPin) }
					return followGroup(c, client, pinView(), pins, pinName, unpinned)
				}
				orders, err := client.Orders(ctx)
				if err != nil {
					return err
				}
				return showPins(c, ordersOf(orders, drm.OrderPin))
			})
		},
	}
}

func showPins(c *cli.Context, pins []drm.OrderInfo) error {
	slices.SortFunc(pins, func(a, b drm.OrderInfo) int { return a.Shard - b.Shard })
	return pinView().List(printer(c), output.All(pins))
}

func pinName(o drm.OrderInfo) string { return strconv.Itoa(o.Shard) }

// unpinned is what --watch prints when a shard is pinned no more.
func unpinned(o drm.OrderInfo) drm.OrderInfo { return drm.OrderInfo{Kind: o.Kind, Shard: o.Shard} }

func pinView() output.View[drm.OrderInfo] {
	return output.View[drm.OrderInfo]{
		Columns: []output.Column[drm.OrderInfo]{
			{Title: "SHARD", Cell: func(o drm.OrderInfo) any { return o.Shard }, Whole: true},
			{Title: "MEMBER", Cell: func(o drm.OrderInfo) any { return o.Member }, Whole: true},
			{Title: "LIVE", Cell: func(o drm.OrderInfo) any { return o.Live }},
			{Title: "IN FORCE", Cell: func(o drm.OrderInfo) any { return !o.Ignored }},
			{Title: "BY", Cell: func(o drm.OrderInfo) any { return o.By }},
			{Title: "SINCE", Cell: func(o drm.OrderInfo) any { return o.Since }},
			{Title: "REASON", Cell: func(o drm.OrderInfo) any { return o.Why }},
		},
		Object: func(o drm.OrderInfo) any { return ordersJSON([]drm.OrderInfo{o})[0] },
	}
}
