package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

const (
	flagSince    = "since"
	flagResource = "resource"
	flagKind     = "kind"
)

// eventsAgo is how far back events looks where nothing else is said.
const eventsAgo = 10 * time.Minute

const eventsDescription = `
Prints what etcd still has of the last 10 minutes, or what happened since a revision or for a while, and ends. With
--watch it goes on; without --since it then begins with what happens from now on. The revision is the cursor:
--since the "cursor" of an event (in JSON) goes on after it, and nothing is missed or comes twice.
Where etcd has compacted what was asked for, the event "gap" says so, and "listed" events tell all that there is.
docs/events.md has all kinds, and what each of them has.

Examples:
   drmctl --app feeds events --since 5m
   drmctl --app feeds events --watch --kind failed,lost,member-died
   drmctl --app feeds events --resource feed-42 --since 1h -o wide
   drmctl --app feeds events --watch --since 48210 -o json
`

func eventsCommand() *cli.Command {
	const name = "events"
	return &cli.Command{
		Name:        name,
		Usage:       "tell what has happened, and what happens",
		Description: strings.TrimSpace(eventsDescription),
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: flagSince, EnvVars: commandEnv(name, flagSince), DefaultText: "10m, or with --watch: now",
				Usage: "after which revision, or for how long, as `REVISION|DURATION`: 48210, 5m, 2h",
			},
			&cli.GenericFlag{
				Name: flagResource, EnvVars: commandEnv(name, flagResource), Value: new(texts), DefaultText: "all",
				Usage: "only what concerns the resource `ID`, or where its shard is placed; repeatable " +
					"(in the environment: one a line)",
			},
			&cli.StringFlag{
				Name: flagMember, EnvVars: commandEnv(name, flagMember), DefaultText: "all",
				Usage: "only what concerns this `MEMBER`",
			},
			&cli.GenericFlag{
				Name: flagKind, EnvVars: commandEnv(name, flagKind), Value: new(texts), DefaultText: "all",
				Usage: "only events of this `KIND`; several separated by commas, or repeatable",
			},
			&cli.BoolFlag{
				Name: flagWatch, EnvVars: commandEnv(name, flagWatch),
				Usage: "go on with what happens from now on, until interrupted",
			},
		},
		Action: eventsAction,
	}
}

func eventsAction(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	o, err := eventOptions(c)
	if err != nil {
		return err
	}
	return withClient(c, func(_ context.Context, client *drm.Client) error {
		// The command timeout bounds each request, and not the whole: a long history takes longer.
		ctx, cancel := context.WithCancel(c.Context)
		defer cancel()
		err := showEvents(c, client.Events(ctx, o), cancel)
		var input *drm.InputError
		switch {
		case o.Follow && c.Context.Err() != nil && errors.Is(err, context.Canceled): // this is the usual end
			return nil
		case errors.As(err, &input) && input.Field == "Since":
			return badFlag(flagSince, input.Value, input.Want)
		}
		return err
	})
}

// eventOptions are what the flags ask for.
func eventOptions(c *cli.Context) (drm.EventOptions, error) {
	o := drm.EventOptions{
		Resources: textsOf(c, flagResource), Member: c.String(flagMember), Follow: c.Bool(flagWatch),
		Lost: noteLoss(c), Short: func(from int64) {
			note(c, "etcd has compacted its history, and has all of it from revision %d on only; "+
				"--since 1 lists what there was by then", from)
		},
	}
	for _, some := range textsOf(c, flagKind) {
		for k := range strings.SplitSeq(some, ",") {
			o.Kinds = append(o.Kinds, drm.EventKind(strings.TrimSpace(k)))
		}
	}
	switch since := c.String(flagSince); {
	case !c.IsSet(flagSince) && !o.Follow:
		o.Ago = eventsAgo
	case c.IsSet(flagSince):
		revision, err := strconv.ParseInt(since, 10, 64)
		ago, notAgo := time.ParseDuration(since)
		switch {
		case err == nil && revision > 0:
			o.Since = revision
		case notAgo == nil && ago > 0:
			o.Ago = ago
		default:
			return o, badFlag(flagSince, since, "a revision from 1 on, such as 48210, or a time, such as 5m or 2h")
		}
	}
	if c.IsSet(flagMember) { // also if it is empty, which Validate takes for none
		if err := keys.CheckID(o.Member); err != nil {
			return o, badFlag(flagMember, o.Member, err.Error())
		}
	}
	var input *drm.InputError
	if err := o.Validate(); errors.As(err, &input) {
		flag := map[string]string{"Resources": flagResource, "Member": flagMember, "Kinds": flagKind}[input.Field]
		return o, badFlag(flag, input.Value, input.Want)
	}
	return o, nil
}

// eventKindWords are the values of --kind.
func eventKindWords() []string {
	var all []string
	for _, k := range drm.EventKinds() {
		all = append(all, string(k))
	}
	return all
}

// mostTogether is how many events are printed at once, at most.
const mostTogether = 256

// showEvents prints events as they come: those that have come already at once, and none later than it must. end makes
// the events end.
func showEvents(c *cli.Context, events iter.Seq2[drm.Event, error], end func()) error {
	stream := eventView().Follow(printer(c))
	come, ended := make(chan drm.Event, mostTogether), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		defer close(come)
		for e, err := range events {
			if err != nil {
				done <- err
				return
			}
			select {
			case come <- e:
			case <-ended:
				return
			}
		}
		done <- nil
	}()
	for e := range come {
		together := []drm.Event{e}
		for more := true; more && len(together) < mostTogether; {
			select {
			case e, more = <-come:
				if more {
					together = append(together, e)
				}
			default:
				more = false
			}
		}
		if err := stream.Add(together...); err != nil {
			close(ended)
			end()
			for range come { // until the other goroutine has ended
			}
			return err
		}
	}
	return <-done
}

// eventJSON is part of the JSON contract. Each is printed on one line.
type eventJSON struct {
	Revision  int64      `json:"revision"`
	Index     int        `json:"index"`
	Cursor    int64      `json:"cursor"`
	Kind      string     `json:"kind"`
	Time      *time.Time `json:"time"`
	Estimated bool       `json:"estimated"`
	Of        string     `json:"of"`
	State     string     `json:"state"`
	Resource  string     `json:"resource"`
	Resources []string   `json:"resources"`
	Count     int        `json:"count"`
	Member    string     `json:"member"`
	From      string     `json:"from"`
	Shard     *int       `json:"shard"`
	Token     int64      `json:"token"`
	Weight    *int       `json:"weight"`
	By        string     `json:"by"`
	Why       string     `json:"why"`
	Since     *time.Time `json:"since"`
	Until     *time.Time `json:"until"`
	After     int64      `json:"after"`
	Detail    string     `json:"detail"`
	// Who has made the change by a command, and the reason that they gave.
	OrderedBy  string `json:"ordered_by"`
	OrderedWhy string `json:"ordered_why"`
}

func toEventJSON(e drm.Event) eventJSON {
	j := eventJSON{
		Revision: e.Revision, Index: e.Index, Cursor: e.Cursor, Kind: string(e.Kind), Time: utc(e.Time),
		Estimated: e.Estimated, Of: e.Of, State: e.State, Resource: e.Resource,
		Resources: append([]string{}, e.Resources...), Count: e.Count, Member: e.Member, From: e.From, Token: e.Token,
		By: e.By, Why: e.Why, Since: utc(e.Since), Until: utc(e.Until), After: e.After, Detail: e.Detail,
		OrderedBy: e.OrderedBy, OrderedWhy: e.OrderedWhy,
	}
	if e.Shard >= 0 {
		j.Shard = &e.Shard
	}
	if e.Weight >= 0 {
		j.Weight = &e.Weight
	}
	return j
}

// eventView says how events are printed.
func eventView() output.View[drm.Event] {
	type column = output.Column[drm.Event]
	number := func(n int64) any {
		if n == 0 {
			return ""
		}
		return n
	}
	return output.View[drm.Event]{
		Columns: []column{
			{Title: "TIME", Cell: eventTime, Exact: true},
			{Title: "REVISION", Cell: func(e drm.Event) any { return e.Revision }},
			{Title: "KIND", Cell: func(e drm.Event) any { return toned(e.Kind) }, Exact: true},
			{Title: "RESOURCE", Cell: eventResource, Whole: true},
			{Title: "MEMBER", Cell: eventMember, Whole: true},
			{Title: "SHARD", Wide: true, Cell: func(e drm.Event) any {
				if e.Shard < 0 {
					return ""
				}
				return e.Shard
			}},
			{Title: "TOKEN", Wide: true, Cell: func(e drm.Event) any { return number(e.Token) }},
			{Title: "CURSOR", Wide: true, Cell: func(e drm.Event) any { return e.Cursor }},
			{Title: "BY", Wide: true, Cell: func(e drm.Event) any { return e.By }},
			{Title: "RESOURCES", Wide: true, Cell: func(e drm.Event) any { return strings.Join(e.Resources, " ") }},
			{Title: "DETAIL", Cell: eventDetail},
		},
		Object: func(e drm.Event) any { return toEventJSON(e) },
		Name: func(e drm.Event) string {
			if len(e.Resources) > 0 {
				return strings.Join(e.Resources, "\n")
			}
			return cmp.Or(e.Resource, e.Member, string(e.Kind))
		},
	}
}

// eventTime shows the time of an event; "~" says that it is an estimate.
func eventTime(e drm.Event) any {
	if e.Estimated && !e.Time.IsZero() {
		return "~" + cell(e.Time)
	}
	return e.Time
}

func eventResource(e drm.Event) any {
	switch {
	case e.Resource != "":
		return e.Resource
	case len(e.Resources) > 1:
		return fmt.Sprintf("%s and %d more", e.Resources[0], max(e.Count, len(e.Resources))-1)
	case len(e.Resources) == 1:
		return e.Resources[0]
	case e.Kind == drm.EventActive:
		return fmt.Sprintf("%d resources", e.Count)
	}
	return ""
}

func eventMember(e drm.Event) any {
	if e.From != "" && e.From != e.Member {
		return e.From + " -> " + e.Member
	}
	return e.Member
}

// eventDetail is what else an event tells, for people.
func eventDetail(e drm.Event) any {
	var words []string
	add := func(ok bool, format string, args ...any) {
		if ok {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(e.Of != "", "%s %s", e.Of, e.State)
	add(e.Kind == drm.EventGap, "what happened after revision %d is not known", e.After)
	add(e.Shard >= 0 && e.Resource == "" && e.Kind != drm.EventActive, "shard %d", e.Shard)
	add(e.Weight >= 0, "weight %d", e.Weight)
	add(e.By != "", "by %s", e.By)
	add(e.Why != "", "%s", e.Why)
	if e.OrderedBy != e.By || e.OrderedWhy != e.Why {
		add(e.OrderedBy != "", "ordered by %s", e.OrderedBy)
		add(e.OrderedWhy != "", "%s", e.OrderedWhy)
	}
	add(!e.Until.IsZero(), "until %s", cell(e.Until))
	add(e.Detail != "", "%s", e.Detail)
	return strings.Join(words, "; ")
}
