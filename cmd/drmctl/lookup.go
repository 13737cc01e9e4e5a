package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

const lookupDescription = `
Ends with exit code 3 where there is no such resource, or one that was deallocated and that nobody handles any more.
With --watch, each change follows: CHANGE is listed, changed, or gone.

Example:
   drmctl --app feeds lookup feed-42 -o json
`

func lookupCommand() *cli.Command {
	const name = "lookup"
	return &cli.Command{
		Name:        name,
		Usage:       "tell which member handles a resource",
		ArgsUsage:   "ID",
		Description: strings.TrimSpace(lookupDescription),
		Flags:       []cli.Flag{watchFlag(name)},
		Action: func(c *cli.Context) error {
			id, err := oneID(c, "resource id")
			if err != nil {
				return err
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				if c.Bool(flagWatch) {
					watch := func(ctx context.Context, lost func(error)) watchOf[drm.Assignment] {
						return client.WatchLookup(ctx, id, lost)
					}
					return printChanges(c, assignmentChanges(), watch)
				}
				a, err := client.Lookup(ctx, id)
				if err != nil {
					return err
				}
				return showAssignment(c, a)
			})
		},
	}
}
