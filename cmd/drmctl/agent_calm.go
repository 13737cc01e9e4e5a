package main

import (
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

const (
	flagMinMembers     = "min-members"
	flagMinMembersWait = "min-members-wait"
)

// calmFlags are the flags that let members come and go without moving more than they must.
func calmFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{
			Name: flagMinMembers, EnvVars: agentEnv(flagMinMembers),
			Usage: "wait until this `NUMBER` of members has registered where the group has not begun yet: 1 to 1000; " +
				"the same for all members",
		},
		&cli.DurationFlag{
			Name: flagMinMembersWait, EnvVars: agentEnv(flagMinMembersWait), Value: drm.DefaultMinMembersWait,
			Usage: "begin with fewer members after this time: 1ms to 1h",
		},
	}
}

// calmConfig sets what these flags say.
func calmConfig(c *cli.Context, cfg *drm.Config) error {
	cfg.MinMembers, cfg.MinMembersWait = c.Int(flagMinMembers), c.Duration(flagMinMembersWait)
	return errors.Join(
		numberInRange(c, flagMinMembers, 1, 1000),
		inRange(c, flagMinMembersWait, time.Millisecond, time.Hour),
	)
}
