package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
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
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				list, err := client.Assignments(ctx, filter)
				if err != nil {
					return err
				}
				if len(list) == 0 {
					if err := noteIfNoApp(ctx, c, client); err != nil {
						return err
					}
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
	objects := make([]assignmentJSON, 0, len(list))
	for _, a := range list {
		objects = append(objects, toAssignmentJSON(a))
	}
	return show(c, objects, func(w io.Writer) { assignmentRows(w, list) })
}

func showAssignment(c *cli.Context, a drm.Assignment) error {
	return show(c, toAssignmentJSON(a), func(w io.Writer) { assignmentRows(w, []drm.Assignment{a}) })
}

func assignmentRows(w io.Writer, list []drm.Assignment) {
	row(w, "RESOURCE", "SHARD", "STATE", "MEMBER", "EXPECTED", "TOKEN", "SINCE", "ERROR")
	for _, a := range list {
		row(w, a.Resource, a.Shard, a.State, a.Member, a.Expected, a.Token, a.Since, a.Error)
	}
}
