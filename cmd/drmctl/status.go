package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:        "status",
		Usage:       "sum up the app: members, resources, and how the source fares",
		Description: "Example:\n   drmctl --app feeds status -o json",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return withApp(c, func(ctx context.Context, client *drm.Client) error {
				s, err := client.Status(ctx)
				if err != nil {
					return err
				}
				if nobody(s) {
					note(c, "no member is live: nothing is handled")
				}
				noteDrains(c, s.Orders)
				noteAbsentOrders(c, s.Orders)
				noteUnready(c, s.Unready)
				noteSchemas(c, s.Schemas)
				noteQuarantined(c, s.Quarantined)
				return showStatus(c, s)
			})
		},
	}
}

// statusJSON is part of the JSON contract.
type statusJSON struct {
	App         string      `json:"app"`
	Members     int         `json:"members"`
	Resources   int         `json:"resources"`
	Active      int         `json:"active"`
	Failed      int         `json:"failed"`
	Unassigned  int         `json:"unassigned"`
	Misplaced   int         `json:"misplaced"`
	Coordinator string      `json:"coordinator"`
	Source      sourceJSON  `json:"source"`
	Revision    int64       `json:"revision"`
	Drains      []drainJSON `json:"drains"`
	Orders      []orderJSON `json:"orders"`

	Unready []unreadyJSON `json:"unready"`

	Quarantined int `json:"quarantined"`

	NoRoom           int `json:"no_room,omitempty"`
	Awaited          int `json:"awaited,omitempty"`
	WaitingForBudget int `json:"waiting_for_budget,omitempty"`
}

type unreadyJSON struct {
	Member  string `json:"member"`
	Reason  string `json:"reason"`
	Ignored bool   `json:"ignored"`
}

type drainJSON struct {
	Member string     `json:"member"`
	Since  *time.Time `json:"since"`
	Live   bool       `json:"live"`
}

// nobody reports whether the app exists but has no member.
func nobody(s drm.Status) bool { return s.Members == 0 && s.Revision > 0 }

type sourceJSON struct {
	LastSuccess *time.Time `json:"last_success"`
	LastAttempt *time.Time `json:"last_attempt"`
	Resources   int        `json:"resources"`
	Error       string     `json:"error"`
	NotBefore   *time.Time `json:"not_before"`
	Held        int        `json:"held"`
	HeldSince   *time.Time `json:"held_since"`
	HeldIDs     []string   `json:"held_ids"`

	Bad      int           `json:"bad"`
	BadItems []badItemJSON `json:"bad_items"`
}

// held says how many removals are held, since when, and what releases them; empty where none is held.
func held(s drm.SourceStatus) string {
	switch {
	case s.Held == 0:
		return ""
	case s.HeldSince.IsZero(): // the coordinator has an older version
		return fmt.Sprint(s.Held)
	}
	until := "until `drmctl source accept`"
	if !s.HeldUntil.IsZero() {
		until = "confirmed by an answer after " + cell(s.HeldUntil)
	}
	return fmt.Sprintf("%d, since %s, %s", s.Held, cell(s.HeldSince), until)
}

type badItemJSON struct {
	Index int    `json:"index"`
	ID    string `json:"id"`
	Error string `json:"error"`
}

// badItems are the bad items of a status. They are never null.
func badItems(s drm.SourceStatus) []badItemJSON {
	all := make([]badItemJSON, 0, len(s.BadItems))
	for _, b := range s.BadItems {
		all = append(all, badItemJSON(b))
	}
	return all
}

// firstBad says how many items are bad, and names the first.
func firstBad(s drm.SourceStatus) string {
	if len(s.BadItems) == 0 { // their list did not fit into the record
		return fmt.Sprint(s.Bad)
	}
	first := s.BadItems[0]
	what := fmt.Sprintf("item %d", first.Index)
	switch {
	case first.Index < 0:
		what = fmt.Sprintf("id %q", first.ID)
	case first.ID != "":
		what += fmt.Sprintf(" (id %q)", first.ID)
	}
	if s.Bad == 1 {
		return fmt.Sprintf("1: %s: %s", what, first.Error)
	}
	return fmt.Sprintf("%d, the first (see -o json): %s: %s", s.Bad, what, first.Error)
}

// lastChange says when the source last changed the catalogue, and what changed. Only the table shows it, since the JSON
// is a contract.
func lastChange(c drm.SourceChange) string {
	if c.At.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s, +%d ~%d -%d", cell(c.At), c.Added, c.Changed, c.Removed)
}

// unreadyWords describe a member that is not ready in the table.
func unreadyWords(u drm.UnreadyInfo) string {
	words := u.Member + ": " + u.Reason
	if u.Ignored {
		words += " (ignored: too few are ready)"
	}
	return words
}

func showStatus(c *cli.Context, s drm.Status) error {
	return show(c, statusJSONOf(s), s.App, func(p *output.Page) { statusRows(p, s) })
}

// statusJSONOf makes the JSON of a status.
func statusJSONOf(s drm.Status) statusJSON {
	drains := make([]drainJSON, 0, len(s.Drains))
	for _, o := range s.Drains {
		drains = append(drains, drainJSON{o.Member, utc(o.Since), o.Live})
	}
	unready := make([]unreadyJSON, 0, len(s.Unready))
	for _, u := range s.Unready {
		unready = append(unready, unreadyJSON(u))
	}
	object := statusJSON{
		App: s.App, Members: s.Members, Resources: s.Resources, Active: s.Active, Failed: s.Failed,
		Unassigned: s.Unassigned, Misplaced: s.Misplaced, Coordinator: s.Coordinator, Revision: s.Revision,
		Source: sourceJSON{
			LastSuccess: utc(s.Source.LastSuccess), LastAttempt: utc(s.Source.LastAttempt),
			Resources: s.Source.Resources, Error: s.Source.Error, NotBefore: utc(s.Source.NotBefore),
			Held: s.Source.Held, HeldSince: utc(s.Source.HeldSince), HeldIDs: s.Source.HeldIDs,
			Bad: s.Source.Bad, BadItems: badItems(s.Source),
		},
		Drains: drains, Orders: ordersJSON(s.Orders), Unready: unready, Quarantined: s.Quarantined, NoRoom: s.NoRoom,
		Awaited:          s.Awaited,
		WaitingForBudget: s.WaitingForBudget,
	}
	if object.Source.HeldIDs == nil {
		object.Source.HeldIDs = []string{}
	}
	return object
}

// orderRows writes a row for each order about a member, and for the first ones about shards.
func orderRows(p *output.Page, orders []drm.OrderInfo) {
	const most = 10
	for _, o := range ordersOf(orders, drm.OrderDrain, drm.OrderCordon, drm.OrderWeight) {
		name := o.Member
		if o.Kind == drm.OrderWeight {
			name += fmt.Sprintf(" to %d", o.Weight)
		}
		p.Row(byOrder[o.Kind], name+orderWords(o))
	}
	for _, kind := range []drm.OrderKind{drm.OrderPin, drm.OrderMove} {
		some, word := ordersOf(orders, kind), byOrder[kind]
		for _, o := range some[:min(len(some), most)] {
			p.Row(word, fmt.Sprintf("shard %d to %s%s", o.Shard, o.Member, orderWords(o)))
		}
		if more := len(some) - most; more > 0 {
			p.Row(word, fmt.Sprintf("and %d more", more))
		}
	}
}

// statusRows writes the rows of the table.
func statusRows(p *output.Page, s drm.Status) {
	p.Row("app", s.App)
	if nobody(s) {
		p.Row("members", "0 (nobody: nothing is handled)")
	} else {
		p.Row("members", s.Members)
	}
	p.Row("coordinator", s.Coordinator)
	p.Row("resources", s.Resources)
	p.Row("active", s.Active)
	p.Row("failed", s.Failed)
	if s.WaitingForBudget > 0 {
		p.Row("waiting for budget", s.WaitingForBudget)
	}
	p.Row("unassigned", s.Unassigned)
	if s.NoRoom > 0 {
		p.Row("unassigned for lack of room", s.NoRoom)
	}
	if s.Awaited > 0 {
		p.Row("unassigned, member expected back", s.Awaited)
	}
	p.Row("misplaced", s.Misplaced)
	if s.Quarantined > 0 {
		p.Row("quarantined", s.Quarantined)
	}
	p.Row("source resources", s.Source.Resources)
	p.Row("source last success", s.Source.LastSuccess)
	p.Row("source last attempt", s.Source.LastAttempt)
	p.Row("source last change", lastChange(s.Source.LastChange))
	p.Row("source error", s.Source.Error)
	if !s.Source.NotBefore.IsZero() {
		p.Row("source not asked before", s.Source.NotBefore)
	}
	if s.Source.Held > 0 {
		p.Row("source removals held", held(s.Source))
	}
	if s.Source.Bad > 0 {
		p.Row("source bad items", firstBad(s.Source))
	}
	if s.Source.TooLarge > 0 {
		p.Row("source too large", s.Source.TooLarge)
	}
	if s.Corrupt > 0 {
		p.Row("corrupt keys", fmt.Sprintf("%d (see drmctl verify)", s.Corrupt))
	}
	orderRows(p, s.Orders)
	for _, u := range s.Unready {
		p.Row("unready", unreadyWords(u))
	}
	p.Row("revision", s.Revision)
}
