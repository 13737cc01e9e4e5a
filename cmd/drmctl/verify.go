package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

const (
	flagWatch  = "watch"
	flagSettle = "settle"
)

// defaultSettle is longer than a crashed member's claims live at the default TTL.
const defaultSettle = 10 * time.Second

func verifyCommand() *cli.Command {
	const name = "verify"
	return &cli.Command{
		Name:  name,
		Usage: "report everything in etcd that is not as it should be",
		Description: "Exit code 1 if there is any. Some kinds are also seen for a moment while resources change hands: where it\n" +
			"finds such, it looks again, and reports what stays for the time of --settle.\n" +
			"With --watch it goes on, and prints each change of ownership with its token, until interrupted.\n\n" +
			"Examples:\n" +
			"   drmctl --app feeds verify\n" +
			"   drmctl --app feeds verify --watch",
		Flags: []cli.Flag{
			&cli.BoolFlag{
				Name: flagWatch, EnvVars: commandEnv(name, flagWatch),
				Usage: "go on, and print each change of ownership",
			},
			&cli.DurationFlag{
				Name: flagSettle, EnvVars: commandEnv(name, flagSettle), Value: defaultSettle,
				Usage: "for how long what may pass by itself is given the time to: 0 (report it at once) to 24h",
			},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if err := inRange(c, flagSettle, 0, 24*time.Hour); err != nil {
				return err
			}
			return withClient(c, func(_ context.Context, client *drm.Client) error { // the command timeout bounds each request
				found, err := client.VerifySettled(c.Context, c.Duration(flagSettle))
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
