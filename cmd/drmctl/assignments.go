package main

import (
	"context"
	"errors"
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
	flagMisplaced  = "misplaced"
	flagState      = "state"
)

const assignmentsDescription = `
The list is as it was at one moment, and printed as it is read. The states are unassigned, claimed, active, failed and
quarantined. With --watch, the list is followed by each change: CHANGE is listed, changed, or gone, where the resource
is not wanted any more or is not among what the flags ask for.

Examples: what is not being handled, and why; what is not where it should be; each failure from now on:
   drmctl --app feeds assignments --unassigned
   drmctl --app feeds assignments --misplaced
   drmctl --app feeds assignments --failed --watch
`

func assignmentsCommand() *cli.Command {
	const name = "assignments"
	return &cli.Command{
		Name:        name,
		Usage:       "list which member handles which resource",
		Description: strings.TrimSpace(assignmentsDescription),
		Flags: append([]cli.Flag{
			&cli.StringFlag{
				Name: flagMember, EnvVars: commandEnv(name, flagMember),
				Usage: "only what the member with this `ID` has",
			},
			&cli.StringFlag{
				Name: flagState, EnvVars: commandEnv(name, flagState),
				Usage: "only what is in one of these `STATES`, separated by commas",
			},
			&cli.BoolFlag{
				Name: flagUnassigned, EnvVars: commandEnv(name, flagUnassigned),
				Usage: "only what nobody has: --state unassigned",
			},
			&cli.BoolFlag{
				Name: flagFailed, EnvVars: commandEnv(name, flagFailed),
				Usage: "only what its member failed to handle: --state failed",
			},
			&cli.BoolFlag{
				Name: flagMisplaced, EnvVars: commandEnv(name, flagMisplaced),
				Usage: "only what another member has than the one that should",
			},
		}, partFlags(name)...),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			filter, err := assignmentFilter(c)
			if err != nil {
				return err
			}
			return withApp(c, func(_ context.Context, client *drm.Client) error { // as long as it makes progress
				if c.Bool(flagWatch) {
					watch := func(ctx context.Context, lost func(error)) watchOf[drm.Assignment] {
						return client.WatchAssignments(ctx, filter, lost)
					}
					return printChanges(c, assignmentChanges(), watch)
				}
				return flagOfShard(assignmentView().List(printer(c), client.EachAssignment(c.Context, filter)))
			})
		},
	}
}

func assignmentChanges() output.View[drm.Watched[drm.Assignment]] {
	return changesView(assignmentView(), toAssignmentJSON)
}

func assignmentFilter(c *cli.Context) (drm.AssignmentFilter, error) {
	f := drm.AssignmentFilter{
		Member: c.String(flagMember), Unassigned: c.Bool(flagUnassigned), Failed: c.Bool(flagFailed),
		Misplaced: c.Bool(flagMisplaced), Prefix: c.String(flagIDPrefix),
	}
	if c.IsSet(flagMember) {
		if err := keys.CheckID(f.Member); err != nil {
			return f, badFlag(flagMember, f.Member, err.Error())
		}
	}
	if f.Unassigned && (f.Failed || f.Member != "" || f.Misplaced) {
		return f, usagef("%s goes with neither %s nor %s nor %s: what nobody has has no member that could fail",
			givenBy(c, flagUnassigned), givenBy(c, flagFailed), givenBy(c, flagMember), givenBy(c, flagMisplaced))
	}
	var err1, err2 error
	f.States, err1 = statesOf(c)
	f.Shards, err2 = shardNumbers(c)
	return f, errors.Join(err1, err2)
}

// assignmentStates are the states that an assignment may have.
func assignmentStates() []string {
	return []string{
		string(drm.StateUnassigned), string(drm.StateClaimed), string(drm.StateActive), string(drm.StateFailed),
		string(drm.StateQuarantined),
	}
}

// statesOf returns the states that --state names; nil: it is not given.
func statesOf(c *cli.Context) (states []drm.State, err error) {
	text := c.String(flagState)
	if !c.IsSet(flagState) {
		return nil, nil
	}
	for _, other := range []string{flagUnassigned, flagFailed} {
		if c.Bool(other) {
			return nil, usagef("%s goes without %s, which says a state too", givenBy(c, flagState), givenBy(c, other))
		}
	}
	for one := range strings.SplitSeq(text, ",") {
		state := drm.State(strings.TrimSpace(one))
		if !slices.Contains(assignmentStates(), string(state)) {
			want := "unassigned, claimed, active, failed or quarantined, with commas between"
			return nil, badFlag(flagState, text, want)
		}
		states = append(states, state)
	}
	return states, nil
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

	Suspension *drm.Suspension `json:"suspension,omitempty"`
}

func toAssignmentJSON(a drm.Assignment) assignmentJSON {
	return assignmentJSON{
		Resource: a.Resource, Shard: a.Shard, Expected: a.Expected, Member: a.Member, State: string(a.State),
		Token: a.Token, Since: utc(a.Since), Error: a.Error, Suspension: a.Suspension,
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
			{Title: "STATE", Cell: func(a drm.Assignment) any { return toned(a.State) }, Whole: true},
			{Title: "MEMBER", Cell: func(a drm.Assignment) any { return a.Member }, Whole: true},
			{Title: "EXPECTED", Cell: func(a drm.Assignment) any { return a.Expected }},
			{Title: "TOKEN", Cell: func(a drm.Assignment) any { return a.Token }},
			{Title: "SINCE", Cell: func(a drm.Assignment) any { return a.Since }, Spare: true},
			{Title: "ERROR", Cell: func(a drm.Assignment) any { return a.Error }},
		},
		Object: func(a drm.Assignment) any { return toAssignmentJSON(a) },
	}
}
