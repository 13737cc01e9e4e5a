package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

const flagAbsent = "absent"

const drainDescription = `
The order is kept in etcd: it outlives the member, and is obeyed when the member comes back. Where no member
would be left it is refused. The order stands also where --wait fails: undrain takes it back.
Ends with exit code 3 where nothing is known of such a member.

Example: before maintenance:
   drmctl --app feeds drain host-1 --wait
`

func drainCommand() *cli.Command {
	const name = "drain"
	return &cli.Command{
		Name:        name,
		Usage:       "have a member hand everything to the others, and take nothing, until undrain",
		ArgsUsage:   "MEMBER",
		Description: strings.TrimSpace(drainDescription),
		Flags: append([]cli.Flag{
			&cli.BoolFlag{
				Name: flagAbsent, EnvVars: commandEnv(name, flagAbsent),
				Usage: "order it also where nothing is known of such a member",
			},
		}, waitFlags(name, "the member holds nothing")...),
		Action: func(c *cli.Context) error {
			order := (*drm.Client).Drain
			if c.Bool(flagAbsent) {
				order = (*drm.Client).DrainAbsent
			}
			return drainOrder(c, true, order, (*drm.Client).WaitDrained)
		},
	}
}

const undrainDescription = `
Of a member that is not there, --wait has nothing to wait for.

Example:
   drmctl --app feeds undrain host-1 --wait
`

func undrainCommand() *cli.Command {
	const name = "undrain"
	return &cli.Command{
		Name:        name,
		Usage:       "take a drain back",
		ArgsUsage:   "MEMBER",
		Description: strings.TrimSpace(undrainDescription),
		Flags:       waitFlags(name, "the member holds its share again"),
		Action: func(c *cli.Context) error {
			return drainOrder(c, false, (*drm.Client).Undrain, (*drm.Client).WaitUndrained)
		},
	}
}

// drainOrder gives an order about a member, and waits for its effect if the user asks for that.
func drainOrder(c *cli.Context, drain bool, order, wait func(*drm.Client, context.Context, string) error) error {
	member, err := oneID(c, "member id")
	if err := errors.Join(err, checkWait(c)); err != nil {
		return err
	}
	return withClient(c, func(ctx context.Context, client *drm.Client) error {
		if err := order(client, ctx, member); err != nil {
			if drain && errors.Is(err, drm.ErrNotFound) && !errors.Is(err, drm.ErrNoApp) {
				return fmt.Errorf("%w; --%s orders it all the same", err, flagAbsent)
			}
			return err
		}
		if drain {
			orders, err := client.Drains(ctx)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(orders, func(o drm.DrainInfo) bool { return o.Member == member && !o.Live }) {
				note(c, "no member %q is live now: it takes nothing when it comes, until undrain", member)
			}
		}
		done := c.Bool(flagWait)
		if done {
			what := map[bool]string{true: "drained", false: "undrained"}[drain]
			err := waiting(c, what, func(ctx context.Context) error { return wait(client, ctx, member) })
			if err != nil {
				return err
			}
		}
		return showDrain(c, member, drain, done)
	})
}

func showDrain(c *cli.Context, member string, drained, done bool) error {
	outcome := struct { // part of the JSON contract
		Member  string `json:"member"`
		Drained bool   `json:"drained"`
		Done    bool   `json:"done"` // --wait has seen that the order is in effect
	}{member, drained, done}
	return show(c, outcome, func(w io.Writer) { fmt.Fprintf(w, "%sed %s\n", c.Command.Name, member) })
}
