package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

const lookupDescription = `
Ends with exit code 3 where there is no such resource, or one that was deallocated and that nobody handles any more.

Example:
   drmctl --app feeds lookup feed-42 -o json
`

func lookupCommand() *cli.Command {
	return &cli.Command{
		Name:        "lookup",
		Usage:       "tell which member handles a resource",
		ArgsUsage:   "ID",
		Description: strings.TrimSpace(lookupDescription),
		Action: func(c *cli.Context) error {
			id, err := oneID(c, "resource id")
			if err != nil {
				return err
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				a, err := client.Lookup(ctx, id)
				if err != nil {
					return err
				}
				return showAssignment(c, a)
			})
		},
	}
}
