package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// The flags of plan that say what happens.
const (
	flagJoin         = "join"
	flagCordon       = "cordon"
	flagUncordon     = "uncordon"
	flagDrain        = "drain"
	flagUndrain      = "undrain"
	flagStop         = "stop"
	flagWithout      = "without"
	flagWithoutLabel = "without-label"
)

const planDescription = `
It asks the code by which the coordinator decides, on a copy of the group as it is now, and changes nothing. All that
the flags name happens at one moment; without any, the plan is what the group settles at by itself. Loads are as the
members say now. The settings of the coordinator are not in etcd: give those that are not the defaults.
With --without, a member dies, and nobody knows before; --stop is a stop in order.

REVISION is what the plan is about: drain, cordon, weight, pin, move and rebalance take it as --if-revision, and are
refused if the group has changed since. They also take --dry-run, which prints such a plan of the order.

Ends with exit code 0 where nothing moves, and 2 where something does: the plan is on stdout then, which is empty where
the usage is wrong. A member that is not there leads to exit code 3.
For a group that does not exist yet, there is simulate.

Examples: a member is taken out; a zone fails; two hosts are added, one of them with twice the memory:
   drmctl --app feeds plan --drain host-1
   drmctl --app feeds plan --without-label zone=a -o wide
   drmctl --app feeds plan --join host-8 --join host-9,2
`

// happening is a flag of plan, and how its values are read.
type happening struct {
	flag, usage string
	read        func(text string) (drm.Change, error)
}

// happenings are the flags of plan that say what happens, in the order in which it counts: who comes can take what
// others give away.
func happenings() []happening {
	return []happening{
		{flagJoin, "a member joins or comes back, as `MEMBER[,WEIGHT]`", readJoin},
		{flagWeight, "a member is ordered to have a weight, as `MEMBER=NUMBER`", readWeight},
		{flagUncordon, "the cordon of this `MEMBER` is taken back", about(drm.ChangeUncordon)},
		{flagUndrain, "the drain of this `MEMBER` is taken back", about(drm.ChangeUndrain)},
		{flagCordon, "this `MEMBER` is cordoned", about(drm.ChangeCordon)},
		{flagDrain, "this `MEMBER` is drained", about(drm.ChangeDrain)},
		{flagStop, "this `MEMBER` stops in order, and does not come back", about(drm.ChangeStop)},
		{flagWithout, "this `MEMBER` dies, and does not come back", about(drm.ChangeDie)},
		{flagWithoutLabel, "all members with this `LABEL=VALUE` die, such as zone=a", readLabel},
	}
}

// about makes the reader of a flag that names a member.
func about(kind drm.ChangeKind) func(string) (drm.Change, error) {
	return func(text string) (drm.Change, error) {
		return drm.Change{Kind: kind, Member: text}, keys.CheckID(text)
	}
}

// readJoin reads MEMBER[,WEIGHT]. What follows the last comma is a weight if it is a number.
func readJoin(text string) (drm.Change, error) {
	c := drm.Change{Kind: drm.ChangeJoin, Member: text, Weight: 1}
	if at := strings.LastIndexByte(text, ','); at >= 0 {
		if _, err := strconv.Atoi(text[at+1:]); err == nil {
			var ok bool
			if c.Weight, ok = plainNumber(text[at+1:], 1, membership.MaxWeight); !ok {
				return c, fmt.Errorf("a weight from 1 to %d", membership.MaxWeight)
			}
			c.Member = text[:at]
		}
	}
	return c, keys.CheckID(c.Member)
}

// readWeight reads MEMBER=NUMBER.
func readWeight(text string) (drm.Change, error) {
	at := strings.LastIndexByte(text, '=')
	if at < 0 {
		return drm.Change{}, errors.New("MEMBER=NUMBER")
	}
	weight, ok := plainNumber(text[at+1:], 0, membership.MaxWeight)
	if !ok {
		return drm.Change{}, fmt.Errorf("MEMBER=NUMBER with a number from 0 to %d", membership.MaxWeight)
	}
	return drm.Change{Kind: drm.ChangeWeight, Member: text[:at], Weight: weight}, keys.CheckID(text[:at])
}

// readLabel reads LABEL=VALUE.
func readLabel(text string) (drm.Change, error) {
	label, value, ok := strings.Cut(text, "=")
	if !ok || label == "" {
		return drm.Change{}, errors.New("LABEL=VALUE")
	}
	return drm.Change{Kind: drm.ChangeDieLabelled, Label: label, Value: value}, nil
}

func planCommand() *cli.Command {
	const name = "plan"
	var flags []cli.Flag
	for _, h := range happenings() {
		flags = append(flags, &cli.GenericFlag{
			Name: h.flag, EnvVars: commandEnv(name, h.flag), Value: new(texts), DefaultText: "none",
			Usage: h.usage + "; repeatable (in the environment: one a line)",
		})
	}
	return &cli.Command{
		Name:        name,
		Usage:       "tell what would move if members came, went or were drained, and how the load would be then",
		Description: strings.TrimSpace(planDescription),
		Flags:       slices.Concat(flags, supposedFlags(name)),
		Action: func(c *cli.Context) error {
			changes, err := changesOf(c)
			options, err2 := supposed(c)
			if err := errors.Join(noArguments(c), err, err2); err != nil {
				return err
			}
			return showPlanOf(c, options, func(context.Context, *drm.Client) ([]drm.Change, error) {
				return changes, nil
			})
		},
	}
}

// supposedFlags are the flags of a plan that say how the coordinator is set.
func supposedFlags(command string) []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{
			Name: flagBalanceMoves, EnvVars: commandEnv(command, flagBalanceMoves), Value: drm.DefaultBalanceMoves,
			Usage: "how many resources may move in a minute for balance, as the agents have it",
		},
		&cli.DurationFlag{
			Name: flagBalanceAfter, EnvVars: commandEnv(command, flagBalanceAfter), Value: drm.DefaultBalanceAfter,
			Usage: "how long the members must have been the same before anything moves for balance, " +
				"as the agents have it",
		},
		&cli.IntFlag{
			Name: flagMaxMoving, EnvVars: commandEnv(command, flagMaxMoving), Value: drm.DefaultMaxMoving,
			Usage: "how many resources may be on their way at once, as the agents have it",
		},
		&cli.IntFlag{
			Name: flagMaxMovingPerMember, EnvVars: commandEnv(command, flagMaxMovingPerMember),
			Value: drm.DefaultMovingPerMember,
			Usage: "how many of these may be on their way to one member, as the agents have it",
		},
	}
}

// supposed reads these flags.
func supposed(c *cli.Context) (drm.PlanOptions, error) {
	o := drm.PlanOptions{
		BalanceMoves: c.Int(flagBalanceMoves), BalanceAfter: c.Duration(flagBalanceAfter),
		MaxMoving: c.Int(flagMaxMoving), MaxMovingPerMember: c.Int(flagMaxMovingPerMember),
	}
	if o.BalanceMoves == 0 {
		o.BalanceMoves = drm.NoBalance
	}
	return o, errors.Join(
		numberInRange(c, flagBalanceMoves, 0, mostMoves),
		inRange(c, flagBalanceAfter, time.Second, 24*time.Hour),
		numberInRange(c, flagMaxMoving, 1, mostMoves),
		numberInRange(c, flagMaxMovingPerMember, 1, mostMoves),
	)
}

// changesOf reads the flags of plan that say what happens.
func changesOf(c *cli.Context) (changes []drm.Change, err error) {
	for _, h := range happenings() {
		for _, text := range textsOf(c, h.flag) {
			change, bad := h.read(text)
			if bad != nil {
				err = errors.Join(err, badFlag(h.flag, text, bad.Error()))
			}
			change.Order.By = whoami()
			changes = append(changes, change)
		}
	}
	return changes, err
}
