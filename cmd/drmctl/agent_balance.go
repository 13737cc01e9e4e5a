package main

import (
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

const (
	flagWeightField        = "source-weight-field"
	flagBalanceMoves       = "balance-moves"
	flagBalanceAfter       = "balance-after"
	flagMaxMoving          = "max-moving"
	flagMaxMovingPerMember = "max-moving-per-member"
)

const mostMoves = 10_000_000

// balanceFlags are the flags that say how the coordinator keeps the load even.
func balanceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: flagWeightField, EnvVars: agentEnv(flagWeightField),
			Usage: "the `FIELD` of a resource's object that has its weight, a number above 0; without it all weigh 1",
		},
		&cli.IntFlag{
			Name: flagBalanceMoves, EnvVars: agentEnv(flagBalanceMoves), Value: drm.DefaultBalanceMoves,
			Usage: "how many resources may move in a minute because the load is uneven: 1 to 10000000, or 0 for none",
		},
		&cli.DurationFlag{
			Name: flagBalanceAfter, EnvVars: agentEnv(flagBalanceAfter), Value: drm.DefaultBalanceAfter,
			Usage: "move nothing because of that until no member has come or gone for this time: 1s to 24h",
		},
		&cli.IntFlag{
			Name: flagMaxMoving, EnvVars: agentEnv(flagMaxMoving), Value: drm.DefaultMaxMoving,
			Usage: "how many resources of drained members, and for balance, may be on their way at once: 1 to 10000000",
		},
		&cli.IntFlag{
			Name: flagMaxMovingPerMember, EnvVars: agentEnv(flagMaxMovingPerMember), Value: drm.DefaultMovingPerMember,
			Usage: "how many of these may be on their way to one member: 1 to 10000000",
		},
	}
}

// balanceConfig sets what these flags say.
func balanceConfig(c *cli.Context, cfg *drm.Config) error {
	cfg.WeightField = c.String(flagWeightField)
	cfg.BalanceAfter = c.Duration(flagBalanceAfter)
	cfg.MaxMoving, cfg.MaxMovingPerMember = c.Int(flagMaxMoving), c.Int(flagMaxMovingPerMember)
	if cfg.BalanceMoves = c.Int(flagBalanceMoves); cfg.BalanceMoves == 0 {
		cfg.BalanceMoves = drm.NoBalance
	}
	return errors.Join(
		numberInRange(c, flagBalanceMoves, 0, mostMoves),
		inRange(c, flagBalanceAfter, time.Second, 24*time.Hour),
		numberInRange(c, flagMaxMoving, 1, mostMoves),
		numberInRange(c, flagMaxMovingPerMember, 1, mostMoves),
	)
}
