package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

const (
	flagMaxAppResources  = "max-app-resources"
	flagMaxResourceBytes = "max-resource-bytes"
)

// quotaFlags are the flags of a command that bound what an app may have. env names their variables.
func quotaFlags(env func(flag string) []string) []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{
			Name: flagMaxAppResources, EnvVars: env(flagMaxAppResources), DefaultText: "any number",
			Usage: "the app may have so many `RESOURCES` at most: 1 to 10000000; more are refused",
		},
		&cli.IntFlag{
			Name: flagMaxResourceBytes, EnvVars: env(flagMaxResourceBytes), DefaultText: "what etcd takes",
			Usage: "the object of a resource may have so many `BYTES` at most: 2 to 10000000; larger ones are refused",
		},
	}
}

// checkQuota checks the flags of quotaFlags.
func checkQuota(c *cli.Context) error {
	return errors.Join(
		numberInRange(c, flagMaxAppResources, 1, 10_000_000), numberInRange(c, flagMaxResourceBytes, 2, 10_000_000),
	)
}

// quotaConfig sets the options that the flags of quotaFlags describe.
func quotaConfig(c *cli.Context, cfg *drm.Config) error {
	cfg.MaxAppResources, cfg.MaxResourceBytes = c.Int(flagMaxAppResources), c.Int(flagMaxResourceBytes)
	return checkQuota(c)
}
