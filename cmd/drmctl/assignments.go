package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

const (
	flagMember     = "member"
	flagUnassigned = "unassigned"
	flagFailed     = "failed"
)

func assignmentsCommand() *cli.Command {
	const name = "assignments"
	return &cli.Command{
		Name:        name,
		Usage:       "list which member handles which resource",
		Description: "Example: what is not being handled, and why:\n   drmctl --app feeds assignments --unassigned",
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: flagMember, EnvVars: commandEnv(name, flagMember),
				Usage: "only what the member with this `ID` has",
			},
			&cli.BoolFlag{
				Name: flagUnassigned, EnvVars: commandEnv(name, flagUnassigned),
				Usage: "only what nobody has",
			},
			&cli.BoolFlag{
				Name: flagFailed, EnvVars: commandEnv(name, flagFailed),
				Usage: "only what its member failed to handle",
			},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			filter, err := assignmentFilter(c)
			if err != nil {
				return err
			}
			return withApp(c, func(ctx context.Context, client *drm.Client) error {
				list, err := client.Assignments(ctx, filter)
				if err != nil {
					return err
				}
				return showAssignments(c, list)
			})
		},
	}
}

func assignmentFilter(c *cli.Context) (drm.AssignmentFilter, error) {
	f := drm.AssignmentFilter{
		Member: c.String(flagMember), Unassigned: c.Bool(flagUnassigned), Failed: c.Bool(flagFailed),
	}
	if c.IsSet(flagMember) {
		if err := keys.CheckID(f.Member); err != nil {
			return f, badFlag(flagMember, f.Member, err.Error())
		}
	}
	if f.Unassigned && (f.Failed || f.Member != "") {
		return f, usagef("%s goes with neither %s nor %s: what nobody has has no member that could fail",
			givenBy(c, flagUnassigned), givenBy(c, flagFailed), givenBy(c, flagMember))
	}
	return f, nil
}

// assignmentJSON is part of the JSON contract.
type assignmentJSON struct {
	Resource string     `json:"resource"`
	Shard    int        `json:"shard"`
	Expected string     `json:"expected"`
	Member   string     `json:"member"`
	State    string     `json:"state"`
	Token    int64      `json:"token"`
	Since    *time.Time `json:"since"`
	Error    string     `json:"error"`
}

func toAssignmentJSON(a drm.Assignment) assignmentJSON {
	return assignmentJSON{
		Resource: a.Resource, Shard: a.Shard, Expected: a.Expected, Member: a.Member, State: string(a.State),
		Token: a.Token, Since: utc(a.Since), Error: a.Error,
	}
}

func showAssignments(c *cli.Context, list []drm.Assignment) error {
	slices.SortFunc(list, func(a, b drm.Assignment) int { return strings.Compare(a.Resource, b.Resource) })
	return assignmentView().List(printer(c), output.All(list))
}

func showAssignment(c *cli.Context, a drm.Assignment) error {
	return assignmentView().One(printer(c), a)
}

func assignmentView() output.View[drm.Assignment] {
	return output.View[drm.Assignment]{
		Columns: []output.Column[drm.Assignment]{
			{Title: "RESOURCE", Cell: func(a drm.Assignment) any { return a.Resource }, Whole: true},
			{Title: "SHARD", Cell: func(a drm.Assignment) any { return a.Shard }},
			{Title: "STATE", Cell: func(a drm.Assignment) any { return a.State }, Whole: true},
			{Title: "MEMBER", Cell: func(a drm.Assignment) any { return a.Member }, Whole: true},
			{Title: "EXPECTED", Cell: func(a drm.Assignment) any { return a.Expected }},
			{Title: "TOKEN", Cell: func(a drm.Assignment) any { return a.Token }},
			{Title: "SINCE", Cell: func(a drm.Assignment) any { return a.Since }},
			{Title: "ERROR", Cell: func(a drm.Assignment) any { return a.Error }},
		},
		Object: func(a drm.Assignment) any { return toAssignmentJSON(a) },
	}
}
