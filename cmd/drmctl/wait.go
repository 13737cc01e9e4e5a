package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

const (
	flagWait        = "wait"
	flagWaitTimeout = "wait-timeout"
)

// waitFlags are the flags of a command that can wait for its effect.
func waitFlags(command, until string) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{
			Name: flagWait, EnvVars: commandEnv(command, flagWait),
			Usage: "wait until " + until,
		},
		&cli.DurationFlag{
			Name: flagWaitTimeout, Aliases: []string{"timeout"}, EnvVars: commandEnv(command, flagWaitTimeout),
			Usage: "give up --wait after this long, with exit code 1; 0: only when interrupted",
		},
	}
}

func checkWait(c *cli.Context) error {
	if d := c.Duration(flagWaitTimeout); d < 0 {
		return badFlag(flagWaitTimeout, d.String(), "0 or more")
	}
	return nil
}

// waiting runs wait, which --wait-timeout bounds instead of the command timeout.
func waiting(c *cli.Context, what string, wait func(ctx context.Context) error) error {
	ctx, limit := c.Context, c.Duration(flagWaitTimeout)
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	err := wait(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		timedOut := fmt.Errorf("not %s within %s (--%s)", what, limit, flagWaitTimeout)
		if ended := (*drm.WaitError)(nil); errors.As(err, &ended) && ended.Last != "" {
			return fmt.Errorf("%w: %s", timedOut, ended.Last)
		}
		return timedOut
	}
	return err
}
