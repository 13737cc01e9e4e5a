package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const (
	flagWatch  = "watch"
	flagSettle = "settle"
	flagEvery  = "every"
)

// defaultSettle is longer than the claims of a crashed member live with the default TTL.
const defaultSettle = 10 * time.Second

// defaultEvery is long enough for an app of a million resources: each look reads all of them.
const defaultEvery = time.Minute

const verifyDescription = `
Exit code 1 if there is any. Some kinds are also seen for a moment while resources change hands: where it
finds such, it looks again, and reports what stays for the time of --settle. Where resources are to be handled
and there is no member, it does not wait. That members are drained, or resources quarantined, is a note on
stderr, and no violation.
With --watch it goes on until interrupted: it prints each change of ownership with its token, and looks for
violations again now and then, and prints the new ones. Exit code 1 if there ever was any, or a token fell.

Examples:
   drmctl --app feeds verify
   drmctl --app feeds verify --watch
`

func verifyCommand() *cli.Command {
	const name = "verify"
	return &cli.Command{
		Name:        name,
		Usage:       "report everything in etcd that is not as it should be",
		Description: strings.TrimSpace(verifyDescription),
		Flags: []cli.Flag{
			&cli.BoolFlag{
				Name: flagWatch, EnvVars: commandEnv(name, flagWatch),
				Usage: "go on, and print each change of ownership and each new violation",
			},
			&cli.DurationFlag{
				Name: flagSettle, EnvVars: commandEnv(name, flagSettle), Value: defaultSettle,
				Usage: "for how long what may pass by itself is given the time to: 0 (report it at once) to 24h",
			},
			&cli.DurationFlag{
				Name: flagEvery, EnvVars: commandEnv(name, flagEvery), Value: defaultEvery,
				Usage: "with --watch, how often it looks for violations again, which reads the whole app: 1s to 24h",
			},
		},
		Action: verifyAction,
	}
}

func verifyAction(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	err := errors.Join(
		inRange(c, flagSettle, 0, 24*time.Hour),
		inRange(c, flagEvery, time.Second, 24*time.Hour),
	)
	if err != nil {
		return err
	}
	with := withApp
	if c.Bool(flagWatch) { // which waits for the app
		with = withClient
	}
	return with(c, func(ctx context.Context, client *drm.Client) error {
		if c.Bool(flagWatch) {
			if err := noteIfNoApp(ctx, c, client); err != nil {
				return err
			}
		}
		orders, err := client.Orders(ctx)
		if err != nil {
			return err
		}
		noteOrders(c, orders)
		schemas, err := client.Schemas(ctx)
		if err != nil {
			return err
		}
		noteSchemas(c, schemas)
		quarantined, err := client.Quarantined(ctx)
		if err != nil {
			return err
		}
		noteQuarantined(c, len(quarantined))
		found, err := client.VerifySettled(c.Context, c.Duration(flagSettle)) // ctx may be too short for --settle
		if err != nil {
			return err
		}
		watch := c.Bool(flagWatch)
		if !watch || len(found) > 0 { // where nothing is wrong, --watch prints nothing but changes
			if err := showViolations(c, found); err != nil {
				return err
			}
		}
		switch {
		case watch:
			return watchApp(c, client, found)
		case len(found) > 0:
			return fmt.Errorf("%d violations", len(found))
		}
		return nil
	})
}

// violationJSON is part of the JSON contract.
type violationJSON struct {
	Kind     string `json:"kind"`
	Resource string `json:"resource"`
	Member   string `json:"member"`
	Token    int64  `json:"token"`
	Detail   string `json:"detail"`
}

func showViolations(c *cli.Context, found []drm.Violation) error {
	if len(found) == 0 && isTable(c) {
		_, err := fmt.Fprintln(c.App.Writer, "no violations")
		return err
	}
	return violationView().List(printer(c), output.All(found))
}

func violationKind(v drm.Violation) any { return output.Toned{Value: v.Kind, Tone: output.Bad} }

func violationView() output.View[drm.Violation] {
	return output.View[drm.Violation]{
		Columns: []output.Column[drm.Violation]{
			{Title: "KIND", Cell: violationKind, Whole: true},
			{Title: "RESOURCE", Cell: func(v drm.Violation) any { return v.Resource }, Whole: true},
			{Title: "MEMBER", Cell: func(v drm.Violation) any { return v.Member }, Whole: true},
			{Title: "TOKEN", Cell: func(v drm.Violation) any { return v.Token }},
			{Title: "DETAIL", Cell: func(v drm.Violation) any { return v.Detail }},
		},
		Object: func(v drm.Violation) any { return toViolationJSON(v) },
		Name:   violationName,
	}
}

func toViolationJSON(v drm.Violation) violationJSON {
	return violationJSON{string(v.Kind), v.Resource, v.Member, v.Token, v.Detail}
}

// violationName is the name of what a violation is about.
func violationName(v drm.Violation) string { return cmp.Or(v.Resource, v.Member, string(v.Kind)) }
