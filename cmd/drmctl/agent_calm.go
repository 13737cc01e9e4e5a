package main

import (
	"cmp"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

const (
	flagRejoin         = "rejoin"
	flagMemberVersion  = "member-version"
	flagMinMembers     = "min-members"
	flagMinMembersWait = "min-members-wait"
)

// calmFlags are the flags that let members come and go without moving more than they must.
func calmFlags() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{
			Name: flagRejoin, EnvVars: agentEnv(flagRejoin), DefaultText: "others take over at once",
			Usage: "after a stop, keep what belongs to the member for its return under the same --id for this time: " +
				"1s to 1h; nobody handles it meanwhile, and nothing moves",
		},
		&cli.StringFlag{
			Name: flagMemberVersion, EnvVars: agentEnv(flagMemberVersion), DefaultText: "that of drmctl",
			Usage: "the version of what the member runs, such as that of the handler: any `TEXT`; while two versions " +
				"live, what must move goes to members of the one that came last",
		},
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
	cfg.Rejoin = c.Duration(flagRejoin)
	cfg.Version = cmp.Or(c.String(flagMemberVersion), version())
	cfg.MinMembers, cfg.MinMembersWait = c.Int(flagMinMembers), c.Duration(flagMinMembersWait)
	var bad error
	if c.IsSet(flagRejoin) {
		bad = inRange(c, flagRejoin, time.Second, time.Hour)
	}
	return errors.Join(bad,
		numberInRange(c, flagMinMembers, 1, 1000),
		inRange(c, flagMinMembersWait, time.Millisecond, time.Hour),
	)
}
