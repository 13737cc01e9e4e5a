package main

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

const flagWatch = "watch"

func verifyCommand() *cli.Command {
	const name = "verify"
	return &cli.Command{
		Name:  name,
		Usage: "report everything in etcd that is not as it should be",
		Description: "Exit code 1 if there is any. Claims that are unassigned, misplaced, orphaned or of an unknown member are\n" +
			"also seen for a moment while resources change hands: what stays from one call to the next is a fault.\n" +
			"With --watch it goes on, and prints each change of ownership with its token, until interrupted.\n\n" +
			"Examples:\n" +
			"   drmctl --app feeds verify\n" +
			"   drmctl --app feeds verify --watch",
		Flags: []cli.Flag{
			&cli.BoolFlag{
				Name: flagWatch, EnvVars: commandEnv(name, flagWatch),
				Usage: "go on, and print each change of ownership",
			},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				found, err := client.Verify(ctx)
				if err != nil {
					return err
				}
				watch := c.Bool(flagWatch)
				if !watch || len(found) > 0 { // with nothing wrong, the changes have the output to themselves
					if err := showViolations(c, found); err != nil {
						return err
					}
				}
				switch {
				case watch:
					return watchOwners(c, client)
				case len(found) > 0:
					return fmt.Errorf("%d violations", len(found))
				}
				return nil
			})
		},
	}
}

// violationJSON is a contract.
type violationJSON struct {
	Kind     string `json:"kind"`
	Resource string `json:"resource"`
	Member   string `json:"member"`
	Token    int64  `json:"token"`
	Detail   string `json:"detail"`
}

func showViolations(c *cli.Context, found []drm.Violation) error {
	objects := make([]violationJSON, 0, len(found))
	for _, v := range found {
		objects = append(objects, violationJSON{string(v.Kind), v.Resource, v.Member, v.Token, v.Detail})
	}
	return show(c, objects, func(w io.Writer) {
		if len(found) == 0 {
			row(w, "no violations")
			return
		}
		row(w, "KIND", "RESOURCE", "MEMBER", "TOKEN", "DETAIL")
		for _, v := range found {
			row(w, v.Kind, v.Resource, v.Member, v.Token, v.Detail)
		}
	})
}

// ownerJSON is a contract: one line each.
type ownerJSON struct {
	Resource string `json:"resource"`
	Before   string `json:"before"`
	Member   string `json:"member"`
	Token    int64  `json:"token"`
	Revision int64  `json:"revision"`
	Fell     bool   `json:"fell"`
}

// watchOwners prints changes of ownership until it is interrupted. A token that fell makes its exit code 1.
func watchOwners(c *cli.Context, client *drm.Client) error {
	fell := 0
	err := client.FollowOwners(c.Context, func(o drm.OwnerChange) { // not bounded by the command timeout
		mark := ""
		if o.Fell {
			fell++
			mark = " FELL"
		}
		_ = show(c, ownerJSON(o), func(w io.Writer) { // nobody is left to tell of an output that is gone
			fmt.Fprintf(w, "revision %d\tresource %s\t%s -> %s\ttoken %d%s\n", o.Revision, cell(o.Resource),
				cell(o.Before), cell(o.Member), o.Token, mark)
		})
	})
	if fell > 0 {
		return fmt.Errorf("%d tokens fell", fell)
	}
	if interrupted := c.Context.Err() != nil; interrupted { // that is how it ends
		err = nil
	}
	return err
}
