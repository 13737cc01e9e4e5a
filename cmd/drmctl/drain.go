package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const (
	flagAbsent = "absent"
	flagForce  = "force"
	flagAtOnce = "at-once"
)

const drainDescription = `
The order is kept in etcd: it outlives the member, and is obeyed when the member comes back. Where no member
would be left it is refused; --force has it obeyed even then, and nothing is handled. The member lets go of a few
shards at a time, if the coordinator paces that; --at-once makes it let go of everything at once.
With --wait, stderr says how many resources are left, and which one takes longest and why: on a terminal all the
time, else every 10 s. The order stands also where --wait fails: undrain takes it back. To drain a member again
changes the reason and the time, where they are given, and nothing else.
Ends with exit code 3 where nothing is known of such a member.

Examples: before maintenance:
   drmctl --app feeds drain host-1 --wait
   drmctl --app feeds drain host-1 --reason "a new kernel" --for 2h
`

func drainCommand() *cli.Command {
	const name = "drain"
	return &cli.Command{
		Name:        name,
		Usage:       "have a member hand everything to the others, and take nothing, until undrain",
		ArgsUsage:   "MEMBER",
		Description: strings.TrimSpace(drainDescription),
		Flags: slices.Concat(originFlags(name), []cli.Flag{
			forFlag(name),
			&cli.BoolFlag{
				Name: flagAtOnce, EnvVars: commandEnv(name, flagAtOnce),
				Usage: "let the member go of everything at once, also where that is too much for the others",
			},
			&cli.BoolFlag{
				Name: flagForce, EnvVars: commandEnv(name, flagForce),
				Usage: "drain it even if nobody is left who takes anything, so that nothing is handled",
			},
			absentFlag(name),
		}, waitFlags(name, "the member holds nothing"), planFlags(name)),
		Action: func(c *cli.Context) error {
			if c.Bool(flagDryRun) {
				return planMemberOrder(c, drm.ChangeDrain)
			}
			return memberOrder(c, (*drm.Client).DrainWith, watchDrain, showDrained)
		},
	}
}

// absentFlag is the flag of an order about a member of which nothing need be known.
func absentFlag(command string) cli.Flag {
	return &cli.BoolFlag{
		Name: flagAbsent, EnvVars: commandEnv(command, flagAbsent),
		Usage: "order it also where nothing is known of such a member",
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
		Flags:       slices.Concat(deedFlags(name), waitFlags(name, "the member holds its share again")),
		Action: func(c *cli.Context) error {
			return memberOrder(c, takeBack((*drm.Client).Undrain), watchUndrain, showUndrained)
		},
	}
}

// giver gives an order about a member.
type giver = func(*drm.Client, context.Context, string, drm.OrderOptions) error

// takeBack makes a giver of what takes an order back.
func takeBack(order func(*drm.Client, context.Context, string) error) giver {
	return func(client *drm.Client, ctx context.Context, member string, _ drm.OrderOptions) error {
		return order(client, ctx, member)
	}
}

// memberOrder gives an order about a member, and waits for its effect if the user asks for that. wait may be nil.
func memberOrder(
	c *cli.Context, order giver, wait watcher, show func(c *cli.Context, member string, done bool) error,
) error {
	member, err := oneID(c, "member id")
	options, err2 := orderOptions(c)
	if err := errors.Join(err, err2, checkWait(c)); err != nil {
		return err
	}
	return withClient(c, func(ctx context.Context, client *drm.Client) error {
		if err := order(client, ctx, member, options); err != nil {
			if wait != nil && unanswered(ctx, err) {
				return fmt.Errorf("%w; %s", err, orderStands(c, client, member))
			}
			return advised(c, err)
		}
		noteAbsent(ctx, c, client, member)
		done := c.Bool(flagWait)
		if done {
			if err := waitShown(c, client, member, wait); err != nil {
				return err
			}
		}
		return show(c, member, done)
	})
}

// planMemberOrder prints what an order about a member would do.
func planMemberOrder(c *cli.Context, kind drm.ChangeKind) error {
	member, err := oneID(c, "member id")
	options, err2 := orderOptions(c)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	return plannedOf(c, options, drm.Change{Kind: kind, Member: member})
}

// advised adds to the error of an order about a member what to do next: give a flag, or look where the members are
// listed if the command takes an order back.
func advised(c *cli.Context, err error) error {
	has := func(flag string) bool { return spellings(c.Command.Flags)[flag] != nil }
	switch {
	case unknown(err) && has(flagAbsent) && !c.Bool(flagReset):
		return &hintedError{err, membersHint + ", and --" + flagAbsent + " orders it all the same"}
	case unknown(err) && len(textsOf(c, flagWithoutLabel)) > 0:
		return err // it says which labels there are
	case unknown(err):
		return &hintedError{err, membersHint}
	case has(flagForce) && errors.Is(err, drm.ErrLastMember):
		return &hintedError{err, "or --" + flagForce}
	}
	return err
}

// unknown says whether the app is there, and has not what an order is about.
func unknown(err error) bool { return errors.Is(err, drm.ErrNotFound) && !errors.Is(err, drm.ErrNoApp) }

// unanswered says whether etcd may have an order, though no answer came that says so. ctx is that of the order.
func unanswered(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, drm.ErrUnreachable)
}

// noteAbsent notes that a member is not there about which an order stands.
func noteAbsent(ctx context.Context, c *cli.Context, client lister, member string) {
	for _, o := range ordersOf(standing(ctx, c, client), drm.OrderDrain, drm.OrderCordon) {
		if o.Member == member && !o.Live && string(o.Kind) == c.Command.Name {
			note(c, "no member %q is live now: it takes nothing when it comes, until un%s", member, o.Kind)
		}
	}
}

// lister lists the orders that stand; it is a *drm.Client.
type lister interface {
	Orders(ctx context.Context) ([]drm.OrderInfo, error)
}

// standing lists the orders that stand, for a note after an order was given. That etcd does not tell them any more is
// no failure of the order, and so only a note.
func standing(ctx context.Context, c *cli.Context, client lister) []drm.OrderInfo {
	orders, err := client.Orders(ctx)
	if err != nil && c.Context.Err() == nil { // an interrupted command says what became of the order
		note(c, "the order was given; whether its member is there is not known: %v", err)
	}
	return orders
}

func showDrained(c *cli.Context, member string, done bool) error {
	return showDrain(c, member, true, done)
}

func showUndrained(c *cli.Context, member string, done bool) error {
	return showDrain(c, member, false, done)
}

// drainedJSON is part of the JSON contract.
type drainedJSON struct {
	Member  string `json:"member"`
	Drained bool   `json:"drained"`
	Done    bool   `json:"done"` // --wait has seen that the order is in effect
}

func showDrain(c *cli.Context, member string, drained, done bool) error {
	outcome := drainedJSON{member, drained, done}
	return show(c, outcome, member, func(p *output.Page) { p.Line("%sed %s", c.Command.Name, member) })
}
