package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

const (
	flagResources = "resources"
	flagMembers   = "members"
	flagKeep      = "keep"
)

const demoDescription = `
Needs nothing: it runs an etcd, an HTTP source, a webhook receiver and some members (drmctl agent) on this
machine, and ends in less than half a minute. The receiver keeps a journal of who handled what; the exit
code is 1 if it shows that any resource was ever handled twice at once, or not at all.
With -o json only a summary is printed.

Examples:
   drmctl demo
   drmctl demo --resources 1000 --members 5
   drmctl demo --keep
`

func demoCommand() *cli.Command {
	const name = "demo"
	return &cli.Command{
		Name:        name,
		Usage:       "watch members share resources, one die, and the others take over",
		Description: strings.TrimSpace(demoDescription),
		Flags: []cli.Flag{
			&cli.IntFlag{
				Name: flagResources, EnvVars: commandEnv(name, flagResources), Value: 60,
				Usage: "how many resources the source has: 1 to 100000",
			},
			&cli.IntFlag{
				Name: flagMembers, EnvVars: commandEnv(name, flagMembers), Value: 3,
				Usage: "how many members there are at first: 2 to 20",
			},
			&cli.DurationFlag{
				Name: flagLeaseTTL, EnvVars: commandEnv(name, flagLeaseTTL), Value: drm.DefaultLeaseTTL,
				Usage: "how long the claims of a killed member outlive it: 2s to 1m, whole seconds",
			},
			&cli.BoolFlag{
				Name: flagKeep, EnvVars: commandEnv(name, flagKeep),
				Usage: "stay up at the end, for other commands to be tried, until interrupted",
			},
		},
		Action: endWithReaders(runDemo),
	}
}

func runDemo(c *cli.Context) (err error) {
	err = errors.Join(
		noArguments(c), checkOutput(c),
		numberInRange(c, flagResources, 1, 100_000),
		numberInRange(c, flagMembers, 2, 20),
		inRange(c, flagLeaseTTL, 2*time.Second, time.Minute),
	)
	if err != nil {
		return err
	}
	if ttl := c.Duration(flagLeaseTTL); ttl != ttl.Truncate(time.Second) {
		return badFlag(flagLeaseTTL, ttl.String(), "whole seconds")
	}
	app := "demo"
	if c.IsSet(flagApp) {
		if app, err = appName(c); err != nil {
			return err
		}
	}
	s, err := newStage(c, app)
	if err != nil {
		return err
	}
	screen := newScreen(c, s)
	defer screen.close()
	// A demo that is interrupted still stops in order, but within a bound.
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), 20*time.Second)
		defer cancel()
		err = errors.Join(err, s.close(ctx))
	}()
	t := &story{stage: s, screen: screen, keep: c.Bool(flagKeep), begin: time.Now()}
	err = t.tell(c.Context)
	if !isTable(c) {
		err = errors.Join(err, show(c, t.sum, c.Command.Name, nil))
	}
	return err
}
