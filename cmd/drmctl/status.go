package main

import (
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
	flagCheck = "check"
	flagWarn  = "warn"
)

// statusSettle is the default of status --settle: it is longer than a resource takes to change hands in order.
const statusSettle = 5 * time.Second

const statusDescription = `
At the end it says what is wrong, with a code, since when, and what mends it; docs/codes.md tells more of each code.
An error is that something which should be handled is not, or that nothing keeps it so; all else is a warning.
With --check, exit code 1 if there is any error. What may be seen for a moment in a healthy app (a resource that
changes hands) counts only if it is still there after --settle.
With --watch it goes on until interrupted, and prints the status again when something has changed.

Examples:
   drmctl --app feeds status -o json
   drmctl --app feeds status --check --warn
   drmctl --app feeds status --watch
`

func statusCommand() *cli.Command {
	const name = "status"
	return &cli.Command{
		Name:        name,
		Usage:       "sum up the app, its members, its source and etcd, and say what is wrong",
		Description: strings.TrimSpace(statusDescription),
		Flags: []cli.Flag{
			&cli.BoolFlag{
				Name: flagCheck, EnvVars: commandEnv(name, flagCheck),
				Usage: "exit code 1 if there is any error",
			},
			&cli.BoolFlag{
				Name: flagWarn, EnvVars: commandEnv(name, flagWarn),
				Usage: "with --check, exit code 1 also if there is any warning",
			},
			&cli.DurationFlag{
				Name: flagSettle, EnvVars: commandEnv(name, flagSettle), Value: statusSettle,
				Usage: "with --check, for how long what may pass by itself is given the time to: 0 to 24h",
			},
			watchFlag(name),
			&cli.DurationFlag{
				Name: flagEvery, EnvVars: commandEnv(name, flagEvery), Value: time.Second,
				Usage: "with --watch, the least time between two looks: 100ms to 24h",
			},
		},
		Action: statusAction,
	}
}

func statusAction(c *cli.Context) error {
	err := errors.Join(
		noArguments(c),
		inRange(c, flagSettle, 0, 24*time.Hour),
		inRange(c, flagEvery, 100*time.Millisecond, 24*time.Hour),
	)
	if err != nil {
		return err
	}
	if c.Bool(flagCheck) && c.Bool(flagWatch) {
		return usagef("%s does not go with %s, which does not end", givenBy(c, flagCheck), givenBy(c, flagWatch))
	}
	return withApp(c, func(_ context.Context, client *drm.Client) error {
		if c.Bool(flagWatch) {
			return watchStatus(c, client)
		}
		o, err := overview(c, client)
		if err != nil {
			return withCode(o, err)
		}
		noteWarnings(c, o.Warnings)
		return errors.Join(showStatus(c, o), checkStatus(c, o))
	})
}

// overview looks once or, with --check, for as long as something may pass by itself. The command timeout bounds each
// request, and not the whole: a large app takes longer to read.
func overview(c *cli.Context, client *drm.Client) (drm.Overview, error) {
	if c.Bool(flagCheck) {
		return client.OverviewSettled(c.Context, c.Duration(flagSettle))
	}
	return client.Overview(c.Context)
}

// withCode puts the code of what is wrong before an error that says it, or that follows from it.
func withCode(o drm.Overview, err error) error {
	for _, w := range o.Warnings {
		if w.Severity == drm.SeverityError {
			return fmt.Errorf("%s: %w", w.Code, err)
		}
	}
	return err
}

// checkStatus is the outcome of --check.
func checkStatus(c *cli.Context, o drm.Overview) error {
	if !c.Bool(flagCheck) {
		return nil
	}
	var wrong []string
	for _, w := range o.Warnings {
		if w.Severity == drm.SeverityError || c.Bool(flagWarn) {
			wrong = append(wrong, w.Code)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("something is wrong: %s (docs/codes.md)", strings.Join(wrong, ", "))
}

// showStatus prints an overview.
func showStatus(c *cli.Context, o drm.Overview) error {
	return show(c, statusJSONOf(o), o.App, func(p *output.Page) { statusPage(p, o) })
}

// statusPage is the overview for people.
func statusPage(p *output.Page, o drm.Overview) {
	statusRows(p, o.Status)
	healthRows(p, o)
	warningRows(p, o)
}

// statusJSON is part of the JSON contract.
type statusJSON struct {
	Schema      int         `json:"schema"`
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

	At           *time.Time         `json:"at"`
	Corrupt      int                `json:"corrupt"`
	Schemas      string             `json:"schemas"`
	MemberHealth []memberHealthJSON `json:"member_health"`
	Leases       string             `json:"leases"`
	Etcd         etcdHealthJSON     `json:"etcd"`
	Warnings     []warningJSON      `json:"warnings"`

	Suspended   int              `json:"suspended,omitempty"`
	Suspensions []suspensionJSON `json:"suspensions,omitempty"`
}

// statusSchema is the number of statusJSON: it changes when a field changes its meaning, and not when one is added.
const statusSchema = 1

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

	TooLarge    int               `json:"too_large"`
	HeldUntil   *time.Time        `json:"held_until"`
	LastChange  *sourceChangeJSON `json:"last_change"`
	PollSeconds *float64          `json:"poll_seconds"`
	AgeSeconds  *float64          `json:"age_seconds"`
	Overdue     bool              `json:"overdue"`
}

// sourceChangeJSON is what an answer of the source changed.
type sourceChangeJSON struct {
	At      *time.Time `json:"at"`
	Added   int        `json:"added"`
	Changed int        `json:"changed"`
	Removed int        `json:"removed"`
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

// lastChange says when the source last changed the catalogue, and what changed.
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

// statusJSONOf makes the JSON of an overview.
func statusJSONOf(o drm.Overview) statusJSON {
	s := o.Status
	drains := make([]drainJSON, 0, len(s.Drains))
	for _, d := range s.Drains {
		drains = append(drains, drainJSON{d.Member, utc(d.Since), d.Live})
	}
	unready := make([]unreadyJSON, 0, len(s.Unready))
	for _, u := range s.Unready {
		unready = append(unready, unreadyJSON(u))
	}
	object := statusJSON{
		Schema: statusSchema, At: utc(o.At), Corrupt: s.Corrupt, Schemas: s.Schemas, Leases: o.Leases,
		MemberHealth: memberHealth(o), Etcd: etcdHealth(o.Etcd), Warnings: warningsJSON(o.Warnings),
		App: s.App, Members: s.Members, Resources: s.Resources, Active: s.Active, Failed: s.Failed,
		Unassigned: s.Unassigned, Misplaced: s.Misplaced, Coordinator: s.Coordinator, Revision: s.Revision,
		Source: sourceJSONOf(o),
		Drains: drains, Orders: ordersJSON(s.Orders), Unready: unready, Quarantined: s.Quarantined, NoRoom: s.NoRoom,
		Awaited:          s.Awaited,
		WaitingForBudget: s.WaitingForBudget,
		Suspended:        s.Suspended,
	}
	for _, one := range s.Suspensions {
		object.Suspensions = append(object.Suspensions, suspensionJSON{one.Resource, one.Suspension})
	}
	return object
}

// sourceJSONOf makes the part of the JSON that is about the source.
func sourceJSONOf(o drm.Overview) sourceJSON {
	s := o.Source
	object := sourceJSON{
		LastSuccess: utc(s.LastSuccess), LastAttempt: utc(s.LastAttempt), Resources: s.Resources, Error: s.Error,
		NotBefore: utc(s.NotBefore), Held: s.Held, HeldSince: utc(s.HeldSince), HeldUntil: utc(s.HeldUntil),
		HeldIDs: append([]string{}, s.HeldIDs...), Bad: s.Bad, BadItems: badItems(s), TooLarge: s.TooLarge,
		Overdue: o.SourceOverdue,
	}
	if change := s.LastChange; !change.At.IsZero() {
		object.LastChange = &sourceChangeJSON{utc(change.At), change.Added, change.Changed, change.Removed}
	}
	if o.SourcePoll > 0 {
		object.PollSeconds = inSeconds(o.SourcePoll)
	}
	if !s.LastSuccess.IsZero() {
		object.AgeSeconds = inSeconds(o.At.Sub(s.LastSuccess))
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
	p.Row("failed", badIfAny(s.Failed))
	if s.WaitingForBudget > 0 {
		p.Row("waiting for budget", s.WaitingForBudget)
	}
	p.Row("unassigned", badIfAny(s.Unassigned))
	if s.NoRoom > 0 {
		p.Row("unassigned for lack of room", s.NoRoom)
	}
	if s.Awaited > 0 {
		p.Row("unassigned, member expected back", s.Awaited)
	}
	p.Row("misplaced", s.Misplaced)
	if s.Quarantined > 0 {
		p.Row("quarantined", badIfAny(s.Quarantined))
	}
	suspensionRows(p, s)
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
