package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const suspendDescription = `
Nobody handles the resource until resume, though its source has it or an allocation wants it: whatever the source
answers, and whoever allocates it again. The suspension ends with the resource: when that is deallocated, or when its
source drops it and nobody has allocated it. To suspend a resource again changes the reason, if one is given, and
nothing else.
Ends with exit code 3 where there is no such resource, or where it was deallocated.

Example: of a resource that does harm:
   drmctl --app feeds suspend feed-42 --reason "it floods the log" --wait
`

func suspendCommand() *cli.Command {
	const name = "suspend"
	return &cli.Command{
		Name:        name,
		Usage:       "have a resource handled by nobody, until resume",
		ArgsUsage:   "ID",
		Description: strings.TrimSpace(suspendDescription),
		Flags:       slices.Concat(originFlags(name), waitFlags(name, "nobody handles it any more")),
		Action: func(c *cli.Context) error {
			id, err := oneID(c, "resource id")
			options, err2 := orderOptions(c)
			if err := errors.Join(err, err2, checkWait(c)); err != nil {
				return err
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				if err := client.Suspend(ctx, id, options); err != nil {
					return err
				}
				return showSuspended(c, id, true, "given up", func(ctx context.Context) error {
					return client.WaitGone(ctx, id)
				})
			})
		},
	}
}

const resumeDescription = `
A resource that is not suspended is left alone; that is no error. One that was deallocated while its source has it is
handled again too.
Ends with exit code 3 where there is no such resource.

Example:
   drmctl --app feeds resume feed-42 --wait
`

func resumeCommand() *cli.Command {
	const name = "resume"
	return &cli.Command{
		Name:        name,
		Usage:       "have a resource handled again that was suspended",
		ArgsUsage:   "ID",
		Description: strings.TrimSpace(resumeDescription),
		Flags:       slices.Concat(deedFlags(name), waitFlags(name, "it is handled")),
		Action: func(c *cli.Context) error {
			id, err := oneID(c, "resource id")
			if err := errors.Join(err, checkWait(c)); err != nil {
				return err
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				if err := client.Resume(ctx, id); err != nil {
					return err
				}
				return showSuspended(c, id, false, "handled", func(ctx context.Context) error {
					_, err := client.Wait(ctx, id)
					return err
				})
			})
		},
	}
}

// suspendedJSON is part of the JSON contract.
type suspendedJSON struct {
	Resource  string `json:"resource"`
	Suspended bool   `json:"suspended"`
	Done      bool   `json:"done"` // --wait has seen that nobody handles it any more, or that somebody does again
}

// showSuspended waits for the effect of a suspend or a resume, if the user asks for that, and prints the outcome.
func showSuspended(c *cli.Context, id string, suspended bool, what string, wait func(context.Context) error) error {
	done := c.Bool(flagWait)
	if done {
		if err := waiting(c, what, wait); err != nil {
			return err
		}
	}
	outcome := suspendedJSON{id, suspended, done}
	return show(c, outcome, id, func(p *output.Page) {
		p.Line("%s %s", map[bool]string{true: "suspended", false: "resumed"}[suspended], id)
	})
}

// suspensionJSON is part of the JSON contract.
type suspensionJSON struct {
	Resource string `json:"resource"`
	drm.Suspension
}

// suspensionWords say who has suspended a resource, why and since when, to follow the word that it is.
func suspensionWords(s *drm.Suspension) string {
	if s == nil {
		return ""
	}
	return originWords(drm.OrderInfo{By: s.By, Why: s.Why, Since: s.Since})
}

// suspensionRows writes a row for each of the first resources that are suspended.
func suspensionRows(p *output.Page, s drm.Status) {
	const most = 10
	for _, one := range s.Suspensions[:min(len(s.Suspensions), most)] {
		p.Row("suspended", cell(one.Resource)+suspensionWords(&one.Suspension))
	}
	if more := s.Suspended - most; more > 0 {
		p.Row("suspended", fmt.Sprintf("and %d more (see drmctl resources)", more))
	}
}
