package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const deallocateDescription = `
A resource that the source still has stays in the catalogue, suspended, until it is allocated again.
Ends with exit code 3 where there is no such resource.

With --file, or with - in place of an ID, it takes any number of them: each line is an id, a JSON string, or an
object with an "id"; an array, such as resources prints with -o json, will do too. What is not there, or not any
more, is no failure then, so that it can be run again. --wait is for one resource only.

Examples:
   drmctl --app feeds deallocate feed-42 --wait
   drmctl --app feeds resources -o name | grep ^old- | drmctl --app feeds deallocate -
`

func deallocateCommand() *cli.Command {
	const name = "deallocate"
	return &cli.Command{
		Name:        name,
		Usage:       "have a resource handled no more, or many",
		ArgsUsage:   "ID|-",
		Description: strings.TrimSpace(deallocateDescription),
		Flags: slices.Concat([]cli.Flag{
			fileFlag(name, "take the ids from `FILE`, one on each line; - is stdin"),
			numberIDsFlag(name),
		}, deedFlags(name), waitFlags(name, "it is handled no more")),
		Action: func(c *cli.Context) error {
			many, err := bulkInput(c)
			if err := errors.Join(err, checkWait(c)); err != nil {
				return err
			}
			if many != "" {
				return deallocateMany(c, many)
			}
			id, err := oneID(c, "resource id")
			if err != nil {
				return err
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				return deallocate(ctx, c, client, id)
			})
		},
	}
}

func deallocate(ctx context.Context, c *cli.Context, client *drm.Client, id string) error {
	if err := client.Deallocate(ctx, id); err != nil {
		return err
	}
	wait := c.Bool(flagWait)
	if wait {
		err := waiting(c, "given up", func(ctx context.Context) error { return client.WaitGone(ctx, id) })
		if err != nil {
			return err
		}
	}
	return showDeallocated(c, id, wait)
}

// deallocatedJSON is part of the JSON contract.
type deallocatedJSON struct {
	Resource  string `json:"resource"`
	Allocated bool   `json:"allocated"`
	Gone      bool   `json:"gone"` // --wait has seen that nobody handles it any more
}

func showDeallocated(c *cli.Context, id string, gone bool) error {
	outcome := deallocatedJSON{Resource: id, Gone: gone}
	return show(c, outcome, id, func(p *output.Page) { p.Line("deallocated %s", id) })
}
