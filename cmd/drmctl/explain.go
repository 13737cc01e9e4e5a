package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

const flagAt = "at"

const explainDescription = `
Tells the way of a resource from its id to the member that handles it: what the catalogue has, its shard, who owns that
and why (pins, exceptions, the slots that the ring tries), the claim and how far it is. Where the resource is not where
it should be, it says what is waited for, for how long, and what would change that.

A resource that the catalogue does not have is explained all the same, and the command ends with exit code 3.
--at tells how it was at a revision of etcd, as far back as etcd has been compacted. --watch goes on, and tells anew
what has changed; what is not there is waited for.

Example:
   drmctl --app feeds explain feed-42
   drmctl --app feeds explain feed-42 --at 81234 -o json
   drmctl --app feeds explain feed-42 --watch
`

func explainCommand() *cli.Command {
	const name = "explain"
	return &cli.Command{
		Name:        name,
		Usage:       "tell why a resource is where it is, or why it is not handled",
		ArgsUsage:   "ID",
		Description: strings.TrimSpace(explainDescription),
		Flags: []cli.Flag{
			&cli.Uint64Flag{
				Name: flagAt, EnvVars: commandEnv(name, flagAt),
				Usage: "how it was at this `REVISION` of etcd; 0: how it is now", DefaultText: "0",
			},
			watchFlag(name),
		},
		Action: func(c *cli.Context) error {
			id, err := oneID(c, "resource id")
			if err != nil {
				return err
			}
			at := int64(c.Uint64(flagAt))
			if at < 0 {
				return badFlag(flagAt, fmt.Sprint(c.Uint64(flagAt)), "0, or a revision of etcd")
			}
			return withClient(c, func(ctx context.Context, client *drm.Client) error {
				if c.Bool(flagWatch) {
					return followExplanation(c, client, id)
				}
				e, err := client.Explain(ctx, id, drm.ExplainOptions{Revision: at})
				if err != nil {
					return err
				}
				if err := showExplanation(c, e); err != nil {
					return err
				}
				if e.Entry == nil && e.Claim == nil {
					return fmt.Errorf("resource %q: %w", id, drm.ErrNotFound)
				}
				return nil
			})
		},
	}
}

func showExplanation(c *cli.Context, e drm.Explanation) error {
	return show(c, toExplanationJSON(e), e.Resource, tellExplanation(e))
}

// followExplanation prints what explains a resource whenever that changes.
func followExplanation(c *cli.Context, client *drm.Client, id string) error {
	return following(c, func(ctx context.Context, lost func(error)) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		return client.FollowExplanation(ctx, id, func(e drm.Explanation) {
			tell := func(page *output.Page) {
				tellExplanation(e)(page)
				page.Line("")
			}
			if err := output.Event(printer(c), toExplanationJSON(e), e.Resource, tell); err != nil {
				cancel(err)
			}
		}, lost)
	})
}

// tellExplanation writes the page that explains a resource.
func tellExplanation(e drm.Explanation) func(*output.Page) {
	return func(page *output.Page) {
		explainedRows(page, e)
		reasonRows(page, e)
		page.Line("")
		routeTable(page, e.Route, e.Rulings)
		page.Line("")
		standTable(page, e.Members)
	}
}

// explainedRows tell where a resource is, and where it should be.
func explainedRows(page *output.Page, e drm.Explanation) {
	page.Row("RESOURCE", e.Resource)
	page.Row("STATE", output.Toned{Value: stateWords(e), Tone: fineTone(e.Fine)})
	page.Row("CATALOGUE", entryWords(e.Entry))
	page.Row("SHARD", e.Route.Shard)
	page.Row("EXPECTED", expectedWords(e))
	page.Row("CLAIM", claimWords(e.Claim))
	if e.Claim != nil && e.Claim.Lease.Known {
		page.Row("LEASE", leaseWords(e.Claim.Lease))
	}
	if e.Claim != nil && e.Claim.Error != "" {
		page.Row("ERROR", e.Claim.Error)
	}
	if q := e.Quarantine; q != nil {
		page.Row("QUARANTINE", quarantineWords(*q))
	}
	if b := e.Begun; b != nil {
		page.Row("TRAIL", begunWords(*b))
	}
	revision := fmt.Sprint(e.Revision)
	if e.Past {
		revision += ", in the past: how much time leases had left is not known"
	}
	page.Row("REVISION", revision)
}

// reasonRows tell the reasons, those that hinder first.
func reasonRows(page *output.Page, e drm.Explanation) {
	for _, hinders := range []bool{true, false} {
		begun := false
		for _, r := range e.Reasons {
			if r.Hinders != hinders {
				continue
			}
			if !begun {
				begun = true
				page.Line("")
				page.Line("%s", map[bool]string{true: "What hinders:", false: "Why it is so:"}[hinders])
			}
			code := any(r.Code)
			if hinders {
				code = output.Toned{Value: r.Code, Tone: output.Bad}
			}
			page.Row(code, r.Text)
			if r.Wait != nil {
				page.Row("- wait", r.Wait.Text())
			}
			if r.Remedy != "" {
				page.Row("- change", r.Remedy)
			}
		}
	}
}

// fineTone is the tone of what is as it should be, or is not.
func fineTone(fine bool) output.Tone {
	if fine {
		return output.Good
	}
	return output.Bad
}

func stateWords(e drm.Explanation) string {
	switch {
	case e.Fine && e.Claim == nil:
		return string(e.State) + ", as it should be"
	case e.Fine:
		return string(e.State) + " where it should be"
	case e.Claim != nil && e.Entry != nil && !e.Entry.Suspended && e.Expected != e.Claim.Member:
		return string(e.State) + ", not where it should be"
	default:
		return string(e.State) + ", not as it should be"
	}
}

func entryWords(e *drm.ExplainedEntry) string {
	switch {
	case e == nil:
		return "not there"
	case !e.Understood:
		return "not understood" + versionWords(e.Versions)
	}
	words := "wanted by " + wantedBy(*e)
	if e.Suspended {
		words = "suspended; known from " + wantedBy(*e)
	}
	return words + versionWords(e.Versions)
}

// wantedBy say who wants a resource.
func wantedBy(e drm.ExplainedEntry) string {
	switch {
	case e.FromSource && e.Allocated:
		return "the source and an allocation"
	case e.Allocated:
		return "an allocation"
	default:
		return "the source"
	}
}

// versionWords say when a key was written last, to follow what it says.
func versionWords(v drm.Versions) string {
	if v.Writes <= 1 {
		return fmt.Sprintf(" (revision %d)", v.Modified)
	}
	return fmt.Sprintf(" (revision %d, created at %d, %d writes)", v.Modified, v.Created, v.Writes)
}

func expectedWords(e drm.Explanation) string {
	switch {
	case e.Expected == "":
		return "nobody"
	case e.Expected != e.Route.Owner:
		return e.Expected + ", to whom it was moved; its shard belongs to " + cell(e.Route.Owner)
	case e.Route.Home != "" && e.Route.Home != e.Expected:
		return e.Expected + "; by the ring alone it would be " + e.Route.Home
	default:
		return e.Expected
	}
}

func claimWords(c *drm.ExplainedClaim) string {
	switch {
	case c == nil:
		return "nobody has one"
	case !c.Understood:
		return "not understood" + versionWords(c.Versions)
	}
	return fmt.Sprintf("%s, %s since %s, token %d", c.Member, c.State, cell(c.Since), c.Token)
}

func leaseWords(l drm.Lease) string {
	switch {
	case l.ID == 0:
		return "none"
	case !l.Known:
		return fmt.Sprintf("%016x", uint64(l.ID))
	case l.TTL == 0:
		return fmt.Sprintf("%016x, which has ended", uint64(l.ID))
	}
	return fmt.Sprintf("%016x, with %d s of %d s left unless it is renewed",
		uint64(l.ID), int(l.Left.Seconds()), int(l.TTL.Seconds()))
}

func quarantineWords(q drm.Quarantine) string {
	var deaths []string
	for _, d := range q.Deaths {
		text := fmt.Sprintf("%s died at %s", d.Member, cell(d.At))
		if d.Exit != "" {
			text += " (" + d.Exit + ")"
		}
		deaths = append(deaths, text)
	}
	return fmt.Sprintf("since %s: %s%s", cell(q.At), strings.Join(deaths, ", "), versionWords(q.Versions))
}

func begunWords(b drm.Begun) string {
	words := "it began a short time ago, or is about to: if its member dies now, it may be to blame"
	if b.Returned {
		words = "it began a short time ago: if its member dies now, it may be to blame"
	}
	if b.Alone {
		words += "; it is handled alone, since it is suspected"
	}
	return words + " (written at " + cell(b.At) + ")"
}

// routeTable tells how the owner of a shard is found. The ring tries a slot several times where few are live; the table
// has it once.
func routeTable(page *output.Page, r drm.Route, rulings []drm.Ruling) {
	rows := [][]any{}
	tries := map[drm.Step]int{}
	for _, s := range r.Steps {
		if tries[s]++; tries[s] == 1 {
			rows = append(rows, []any{stepWords(s), s.Member, s.Verdict.Text(), rulingWords(s, rulings)})
		}
	}
	switch {
	case len(rows) == 0:
		page.Line("No slot on the ring is reserved yet.")
		return
	case r.Owner == "":
		page.Line("Nobody owns the shard; the ring has tried slots %d times.", len(r.Steps))
	}
	page.Rows([]string{"STEP", "NAMES", "WHICH", "BY"}, rows)
}

// stepWords say what names a candidate.
func stepWords(s drm.Step) string {
	if s.Kind == drm.StepSlot || s.Kind == drm.StepNearest {
		return fmt.Sprintf("%s %d", s.Kind, s.Slot)
	}
	return string(s.Kind)
}

// rulingWords say where the step of a route comes from.
func rulingWords(s drm.Step, rulings []drm.Ruling) string {
	for _, r := range rulings {
		if string(r.Kind) != string(s.Kind) && !(s.Kind == drm.StepThen && r.Kind == drm.RulingException) {
			continue
		}
		words := r.Why
		if r.By != "" {
			words = strings.TrimSpace(words + " by " + r.By)
		}
		if r.Reason != "" {
			words = strings.TrimSpace(words + ": " + r.Reason)
		}
		if !r.Since.IsZero() {
			words = strings.TrimSpace(words + " since " + cell(r.Since))
		}
		return words
	}
	return ""
}

// mostStands is how many members a table has that is not wide.
const mostStands = 30

// standTable tells what the members are to a shard. Of a large group it leaves out those that only could take it.
func standTable(page *output.Page, members []drm.Stand) {
	if len(members) == 0 {
		page.Line("There is no member.")
		return
	}
	shown := members
	if len(members) > mostStands && !page.IsWide() {
		takes := func(m drm.Stand) bool { return m.Verdict == drm.VerdictTakes }
		shown = slices.DeleteFunc(slices.Clone(members), takes)
		shown = shown[:min(len(shown), mostStands)]
	}
	rows := [][]any{}
	for _, m := range shown {
		rows = append(rows, []any{m.Member, toned(m.State), m.Shards, m.Verdict.Text(), m.Detail})
	}
	page.Rows([]string{"MEMBER", "STATE", "SHARDS", "VERDICT", "DETAIL"}, rows)
	if n := len(members) - len(shown); n > 0 {
		page.Line("%d members more: -o %s lists them.", n, output.Wide)
	}
}
