package drm

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distributed-resource-manager/drm/internal/events"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// EventKind says what has happened. EventKinds lists all kinds; docs/events.md says what each of them has.
type EventKind string

// The kinds of events that say how far a caller has come.
const (
	// EventGap says that etcd does not know any more what happened after the revision Event.After, up to
	// Event.Revision.
	EventGap = EventKind(events.Gap)
	// EventListed follows a gap: something that there was at Event.Revision. Event.Of says what it is.
	EventListed = EventKind(events.Listed)
	// EventListEnd ends such a list.
	EventListEnd = EventKind(events.ListEnd)
)

// EventKinds lists all kinds of events, in the order of the documentation.
func EventKinds() []EventKind {
	all := make([]EventKind, 0, len(events.Kinds()))
	for _, k := range events.Kinds() {
		all = append(all, EventKind(k))
	}
	return all
}

// Event is one thing that has happened in an app. Which fields are set depends on its Kind. It never has the data of a
// resource.
type Event struct {
	// Revision is etcd's revision when it happened. Several events may have the same one.
	Revision int64
	Index    int // its place among the events of that revision that the options let through, from 0
	// Cursor is what to give as EventOptions.Since to go on after this event. It is Revision for the last event of a
	// revision. For the others it is an earlier revision, so that nothing is lost: events that have come already come
	// again then, with the same Revision and Index if the filters are the same.
	Cursor int64
	Kind   EventKind

	Time time.Time // when it happened, by the clock of who wrote it
	// Estimated says that nothing in etcd says when it happened. Time is then when the caller's machine heard of it, if
	// it was followed live, and otherwise the last time before it that is known (never later than the next one, as far
	// as that came together with it); zero where none is.
	Estimated bool

	Of    string // of EventListed: member, coordinator, drain, cordon, weight, pin, move, exception, … , claim
	State string // of EventListed: how it is

	Resource  string
	Resources []string // of an event about several resources: the first of their ids, in order
	Count     int      // how many resources it is about; of some kinds another number
	Member    string   // who has it now, or whom it is about; of what has ended: who had it
	From      string   // who had it before
	Shard     int      // -1: it is about no shard
	Token     int64    // of the claim, or of the coordinator's term
	Weight    int      // -1: it is about no weight

	By    string    // who ordered or did it; of a change of the catalogue: source, allocation or both
	Why   string    // the reason that was given
	Since time.Time // of an order: since when it stands
	Until time.Time // of an order: when it ends by itself
	// OrderedBy is who has made the change by a command (Client.As), and OrderedWhy the reason that they gave. Both are
	// empty where a member has made it, or where it is not known.
	OrderedBy, OrderedWhy string

	After  int64  // of EventGap
	Detail string // more, for people
}

// EventOptions say which events Client.Events yields. Its zero value yields none.
type EventOptions struct {
	// Since is a revision: the first event is one that happened after it. 0: Ago counts.
	Since int64
	// Ago is how long ago the first event may have happened, at most, as far as etcd still has its history; where it
	// has not, there is no gap. etcd keeps no times, so this is as exact as the times in the values of the changes: an
	// event without one is yielded where no later event is known to be older. 0, without Since: what happens from now
	// on.
	Ago time.Duration
	// Follow goes on with what happens from now on. Otherwise the events end with what had happened at the beginning.
	Follow bool

	Resources []string    // only what concerns one of these resources, or where its shard is placed; empty: all
	Member    string      // only what concerns this member; empty: all
	Kinds     []EventKind // only these kinds, besides EventGap, EventListed and EventListEnd; empty: all

	// Lost is called with the reason when etcd does not answer while it is followed, and with nil when it answers
	// again: in turn, and never twice for one outage. Another goroutine calls it, and it must not block for long. nil:
	// nobody is told.
	Lost func(error)

	// Short is called before the first event where etcd's history may not go back as far as Ago, since etcd has
	// compacted it, with the first revision of which etcd has everything. Another goroutine calls it, and it must not
	// block for long. nil: nobody is told.
	Short func(from int64)
}

// Validate returns an *InputError for a value that is out of its range.
func (o EventOptions) Validate() error {
	switch {
	case o.Since < 0:
		return &InputError{"Since", strconv.FormatInt(o.Since, 10), "a revision of etcd, 1 or more"}
	case o.Ago < 0:
		return &InputError{"Ago", o.Ago.String(), "0 or more"}
	case o.Since > 0 && o.Ago > 0:
		return &InputError{"Ago", o.Ago.String(), "0 beside Since"}
	}
	for _, id := range o.Resources {
		if err := keys.CheckID(id); err != nil {
			return &InputError{"Resources", id, err.Error()}
		}
	}
	if o.Member != "" {
		if err := keys.CheckID(o.Member); err != nil {
			return &InputError{"Member", o.Member, err.Error()}
		}
	}
	all := EventKinds()
	for _, k := range o.Kinds {
		if !slices.Contains(all, k) {
			names := make([]string, len(all))
			for i := range all {
				names[i] = string(all[i])
			}
			return &InputError{"Kinds", string(k), "one of " + strings.Join(names, ", ")}
		}
	}
	return nil
}

// Events yields what has happened in the app, from etcd's history and, with Follow, live, in the order of revisions.
//
// Where etcd has compacted what was to come, it yields an EventGap, then an EventListed for all that there is, and an
// EventListEnd, and goes on from there. This may happen at the beginning, and later to a caller that is slow. Until the
// EventListEnd, the Cursor is that before the gap.
//
// The events end with an error that is yielded: ErrNoApp, the cause of ctx, an *InputError for bad options and for a
// Since that etcd has not reached, ErrStoreRewound, and ErrUnreachable without Follow. With Follow, it goes on where it
// was once etcd answers again. What it keeps in memory does not depend on how large the app is, or how slow the caller.
func (c *Client) Events(ctx context.Context, o EventOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := o.Validate(); err != nil {
			yield(Event{}, fmt.Errorf("events: %w", err))
			return
		}
		config, err := c.open(ctx, false)
		if err != nil {
			yield(Event{}, fmt.Errorf("events: %w", c.noApp(err)))
			return
		}
		feed := &events.Feed{
			Client: c.client, Layout: c.layout, Shards: config.Shards, Timeout: c.cfg.Etcd.CommandTimeout,
		}
		filter := events.Filter{Resources: o.Resources, Member: o.Member}
		for _, k := range o.Kinds {
			filter.Kinds = append(filter.Kinds, events.Kind(k))
		}
		options := events.Options{
			Since: o.Since, Ago: o.Ago, Follow: o.Follow, Filter: filter, Lost: o.Lost, Short: o.Short,
		}
		for e, err := range feed.Events(ctx, options) {
			var future *events.FutureError
			if errors.As(err, &future) {
				want := fmt.Sprintf("a revision up to %d, where etcd is", future.Now)
				err = &InputError{"Since", strconv.FormatInt(o.Since, 10), want}
			}
			if err != nil {
				yield(Event{}, fmt.Errorf("events: %w", err))
				return
			}
			if !yield(eventOf(e), nil) {
				return
			}
		}
	}
}

func eventOf(e events.Event) Event {
	return Event{
		Revision: e.Revision, Index: e.Index, Cursor: e.Cursor, Kind: EventKind(e.Kind),
		Time: e.Time, Estimated: e.Estimated, Of: e.Of, State: e.State,
		Resource: e.Resource, Resources: e.Resources, Count: e.Count, Member: e.Member, From: e.From, Shard: e.Shard,
		Token: e.Token, Weight: e.Weight, By: e.By, Why: e.Why, Since: e.Since, Until: e.Until, After: e.After,
		OrderedBy: e.OrderedBy, OrderedWhy: e.OrderedWhy, Detail: e.Detail,
	}
}
