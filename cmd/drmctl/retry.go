package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const flagAllQuarantined = "all-quarantined"

const retryDescription = `
A resource is quarantined when several members have died while they began with it. Nobody handles it until
it is freed by this command, or its data change. Then its member begins with it again, as if nobody had died.
Ends with exit code 3 where the resource is not quarantined.

Examples:
   drmctl --app feeds retry feed-42 --wait
   drmctl --app feeds retry --all-quarantined
`

func retryCommand() *cli.Command {
	const name = "retry"
	return &cli.Command{
		Name:        name,
		Usage:       "have a resource handled again that is quarantined",
		ArgsUsage:   "ID",
		Description: strings.TrimSpace(retryDescription),
		Flags: append([]cli.Flag{
			&cli.BoolFlag{
				Name: flagAllQuarantined, EnvVars: commandEnv(name, flagAllQuarantined),
				Usage: "all resources that are quarantined",
			},
		}, waitFlags(name, "they are handled")...),
		Action: func(c *cli.Context) error {
			if err := checkWait(c); err != nil {
				return err
			}
			all := c.Bool(flagAllQuarantined)
			if all && c.NArg() > 0 {
				return usagef("retry takes a resource id or --%s, not both", flagAllQuarantined)
			}
			id := ""
			if !all {
				var err error
				if id, err = oneID(c, "resource id"); err != nil {
					return err
				}
			}
			return withClient(
				c,
				func(ctx context.Context, client *drm.Client) error { return retry(ctx, c, client, id) },
			)
		},
	}
}

// retriedJSON is part of the JSON contract.
type retriedJSON struct {
	Retried []string `json:"retried"`
}

// retry frees a resource, or all that are quarantined if id is empty.
func retry(ctx context.Context, c *cli.Context, client *drm.Client, id string) error {
	freed := []string{id}
	var err error
	if id != "" {
		err = client.Retry(ctx, id)
	} else {
		freed, err = client.RetryQuarantined(ctx)
	}
	if unknown(err) {
		return fmt.Errorf("%w; drmctl assignments says which resources are", err)
	}
	if err != nil {
		return err
	}
	if c.Bool(flagWait) {
		err := waiting(c, "handled", func(ctx context.Context) error {
			for _, one := range freed {
				if _, err := client.Wait(ctx, one); err != nil && (id != "" || !errors.Is(err, drm.ErrNotFound)) {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	outcome := retriedJSON{freed}
	return show(c, outcome, strings.Join(freed, "\n"), func(p *output.Page) {
		for _, one := range freed {
			p.Line("retried %s", one)
		}
		if len(freed) == 0 {
			p.Line("nothing is quarantined")
		}
	})
}
