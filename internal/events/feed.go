package events

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/login"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/shard"
)

// Feed tells what has happened in an app, and what happens. All fields must be set. It has no state of its own.
type Feed struct {
	Client  *clientv3.Client
	Layout  keys.Layout
	Shards  int
	Timeout time.Duration // of each request
}

// Options say what a Feed tells.
type Options struct {
	// Since is the revision after which the first event has happened. 0: Ago counts.
	Since int64
	// Ago is how long ago the first event may have happened at most, as far as etcd still has it. An event whose time
	// is not known is told if no later one is known to be older. 0: only what happens from now on.
	Ago    time.Duration
	Follow bool // go on with what happens from now on
	Filter Filter
	// Lost is called with the reason when etcd does not answer, or refuses, while it is followed, and with nil when it
	// answers again: in turn, and never twice for one outage. Another goroutine calls it. nil: nobody is told.
	Lost func(error)
	// Short is called before the first event where etcd's history may not go back as far as Ago, with the first
	// revision that it has. nil: nobody is told.
	Short func(from int64)
}

// FutureError says that etcd has not come to the revision after which events were asked for: it was restored from a
// snapshot, it is another etcd, or the revision is wrong.
type FutureError struct{ Since, Now int64 }

func (e *FutureError) Error() string {
	return fmt.Sprintf("revision %d is not there yet: etcd is at %d", e.Since, e.Now)
}

const (
	// queued is how many parcels of events wait for the reader, of mostParcel events each.
	queued     = 2
	mostParcel = 1000
	// mostTogether is about how many events are decided on together.
	mostTogether = 4 * mostParcel
	// tokens is how often a watch is asked for again at once since a token of etcd's has expired.
	tokens = 3
)

// Events tells what has happened, in the order of revisions. It ends with an error when ctx ends, or when etcd refuses
// or, unless it follows, does not answer.
func (f *Feed) Events(ctx context.Context, o Options) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		t := &tail{
			Feed: f, o: o, out: make(chan []Event, queued), cancel: cancel,
			pick: newPicker(o.Filter, func(id string) int { return f.shardOf(id, f.Shards) }),
		}
		var err error // set before t.out is closed
		go func() {
			err = t.run(ctx)
			close(t.out)
		}()
		for parcel := range t.out {
			for _, e := range parcel {
				if !yield(e, nil) {
					cancel(context.Canceled)
					for range t.out { // what is on its way is not wanted any more
					}
					return
				}
			}
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		if err != nil {
			yield(Event{}, err)
		}
	}
}

func (f *Feed) shardOf(id string, shards int) int { return shard.Of(id, shards) }

// tail follows the app for one caller. One goroutine calls its methods.
type tail struct {
	*Feed
	o      Options
	pick   *picker
	out    chan []Event
	cancel context.CancelCauseFunc // ends all

	decoder *Decoder
	times   estimator
	next    int64 // the revision whose events come next
	target  int64 // what had happened when the feed began
	caught  bool  // all that had happened then was told
	late    *late // not nil: what is too old is still to be left out
}

// Why a watch has ended.
var (
	errOthers = errors.New("other keys are to be watched")
	errApart  = errors.New("the watches are too far apart")
)

// run tells all that the options ask for.
func (t *tail) run(ctx context.Context) error {
	head, err := t.head(ctx)
	if err != nil {
		return err
	}
	t.target = head
	switch {
	case t.o.Since > head:
		return &FutureError{t.o.Since, head}
	case t.o.Since > 0:
		t.next = t.o.Since + 1
	case t.o.Ago > 0:
		t.late = &late{before: time.Now().Add(-t.o.Ago)}
		var short bool
		if t.next, short, err = t.find(ctx, t.late.before, head); err != nil {
			return err
		}
		if short && t.o.Short != nil {
			t.o.Short(t.next)
		}
	case !t.o.Follow:
		return nil
	default:
		t.next = head + 1
	}
	if t.next > head { // nothing has happened since
		if t.caught, t.late = true, nil; !t.o.Follow {
			return nil
		}
	}
	t.decoder = t.decoderFrom(ctx, t.next)
	if t.o.Follow {
		var probing sync.WaitGroup
		asking, stop := context.WithCancel(ctx)
		probing.Go(func() { t.probe(asking) })
		defer probing.Wait()
		defer stop()
	}
	stale := 0
	for pauses := pace.Retry(); ; {
		err := t.step(ctx)
		var behind *behindError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errApart), errors.Is(err, errOthers), errors.As(err, &behind):
			pauses.Reset()
		case errors.Is(err, rpctypes.ErrCompacted):
			if err := t.gap(ctx); err != nil && (!errors.Is(err, rpctypes.ErrCompacted) || ctx.Err() != nil) {
				if !t.o.Follow || !errors.Is(err, etcd.ErrUnreachable) {
					return err
				}
				if !pauses.Wait(ctx) {
					return context.Cause(ctx)
				}
			} else if err == nil && !t.o.Follow {
				return nil
			}
		case login.IsStale(err) && stale < tokens: // a new stream gets another token
			stale++
		case !t.o.Follow, !retriable(err):
			return err
		case !pauses.Wait(ctx):
			return context.Cause(ctx)
		}
	}
}

// retriable says whether a watch may be opened again after an error: the probe tells of the outage.
func retriable(err error) bool {
	return !errors.Is(err, rpctypes.ErrPermissionDenied) && !errors.Is(err, rpctypes.ErrAuthFailed)
}

// decoderFrom makes a decoder for all changes from a revision on.
func (t *tail) decoderFrom(ctx context.Context, revision int64) *Decoder {
	ask := func() (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, t.Timeout) }
	return newDecoder(t.Layout, t.Shards, revision, &oracle{t: t, ask: ask}, t.pick)
}

// step reads the members if nothing was decoded yet, makes sure that etcd has all from the next revision on, and
// follows it.
func (t *tail) step(ctx context.Context) error {
	// What etcd had at the revision before is there only if it has every change since.
	if before := t.next - 1; before > 0 {
		opts := []clientv3.OpOption{clientv3.WithRev(before)}
		prefix := t.Layout.Config()
		if t.decoder.begin == t.next {
			prefix = t.Layout.Members()
			opts = append(opts, clientv3.WithPrefix())
		}
		resp, err := t.get(ctx, prefix, opts...)
		if err != nil {
			return err
		}
		if t.decoder.begin == t.next {
			t.decoder.knows(resp.Kvs)
		}
	}
	return t.watch(ctx)
}

// head returns etcd's revision.
func (t *tail) head(ctx context.Context) (int64, error) {
	resp, err := t.get(ctx, t.Layout.Config(), clientv3.WithKeysOnly())
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// resize takes note of another number of shards.
func (t *tail) resize(shards int) {
	t.Feed = &Feed{t.Client, t.Layout, shards, t.Timeout}
	t.pick = newPicker(t.o.Filter, func(id string) int { return t.shardOf(id, shards) })
	if t.decoder != nil {
		t.decoder.pick = t.pick
	}
}

// gap tells that some of what has happened is not known any more, and then all that there is.
func (t *tail) gap(ctx context.Context) error {
	config, err := t.get(ctx, t.Layout.Config())
	if err != nil {
		return err
	}
	after, revision := t.next-1, config.Header.Revision
	decoder := t.decoderFrom(ctx, revision+1)
	for _, kv := range config.Kvs { // its shards may be others by now
		if decoder.config(kv, kv); decoder.shards != t.Shards {
			t.resize(decoder.shards)
			decoder = t.decoderFrom(ctx, revision+1)
		}
	}
	e := of(Gap)
	e.Revision, e.Cursor, e.After, e.Time, e.Estimated = revision, after, after, time.Now().UTC(), true
	if err := t.send(ctx, []Event{e}); err != nil {
		return err
	}
	index := 1
	l := &lister{f: t.Feed, d: decoder, revision: revision, tell: func(page []Event) error {
		for i := range page {
			page[i].Index, page[i].Cursor = index, after
			page[i].Time, page[i].Estimated = time.Now().UTC(), true
			index++
		}
		return t.send(ctx, page)
	}}
	if err := l.list(ctx, t.o.Filter.families()); err != nil {
		return err
	}
	end := of(ListEnd)
	end.Revision, end.Index, end.Cursor, end.Time, end.Estimated = revision, index, revision, time.Now().UTC(), true
	if err := t.send(ctx, []Event{end}); err != nil {
		return err
	}
	t.late = nil
	t.decoder, t.next, t.target, t.caught = decoder, revision+1, revision, true
	return nil
}

// send gives events to the reader, and waits for that.
func (t *tail) send(ctx context.Context, all []Event) error {
	for len(all) > 0 {
		n := min(len(all), mostParcel)
		select {
		case t.out <- all[:n:n]:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		all = all[n:]
	}
	return nil
}

// decode tells of the changes of some revisions, which come in order.
func (t *tail) decode(ctx context.Context, revisions iter.Seq[[]*clientv3.Event]) error {
	var all []Event
	now := time.Time{}
	if t.caught {
		now = time.Now()
	}
	t.decoder.live = t.caught
	last := int64(0)
	tell := func() error {
		settle(all)
		t.times.estimate(all, now)
		some := t.late.cut(t.filtered(all))
		if t.late != nil && t.late.over {
			t.late = nil
		}
		if err := t.send(ctx, some); err != nil {
			return err
		}
		all, t.next = nil, last+1
		return nil
	}
	for changes := range revisions {
		last = changes[0].Kv.ModRevision
		if all = append(all, t.decoder.Decode(last, changes)...); len(all) < mostTogether {
			continue
		}
		if err := tell(); err != nil {
			return err
		}
	}
	if last < t.next {
		return nil
	}
	return tell()
}

// filtered picks the events that the filter takes, says how an order has ended, and sets the places and the cursors.
func (t *tail) filtered(all []Event) []Event {
	some := all[:0]
	for i := range all {
		if e := &all[i]; t.pick.takes(e) {
			e.endsOrder()
			e.Cursor, e.Index = e.Revision-1, 0
			if n := len(some); n > 0 && some[n-1].Revision == e.Revision {
				e.Index = some[n-1].Index + 1
			} else if n > 0 {
				some[n-1].Cursor = some[n-1].Revision
			}
			some = append(some, *e)
		}
	}
	if len(some) > 0 {
		some[len(some)-1].Cursor = some[len(some)-1].Revision
	}
	return some
}

// endsOrder says of an order that has ended whether that was its time, as far as that is known.
func (e *Event) endsOrder() {
	switch e.Kind {
	case Undrained, Uncordoned:
	default:
		return
	}
	const slack = 2 * time.Second // etcd ends leases a little late, and clocks differ a little
	switch {
	case e.Until.IsZero() || !e.Time.IsZero() && e.Time.Before(e.Until.Add(-slack)) && !e.Estimated:
		e.Detail = "taken back"
	case e.Time.IsZero():
	case e.Time.Before(e.Until.Add(-slack)):
		e.Detail = "taken back"
	default:
		e.Detail = "expired"
	}
}

// late leaves out what happened before a time. An event without a time that is known is kept until it is clear that no
// later one is too old.
type late struct {
	before time.Time
	kept   []Event
	over   bool // an event came that is not too old, so nothing is left out any more
}

// mostKept is how many events are kept, at most; of more, the first are told although they may be too old.
const mostKept = 100_000

// cut returns those of the events that are to be told now.
func (l *late) cut(all []Event) []Event {
	if l == nil {
		return all
	}
	for i := range all {
		switch e := &all[i]; {
		case e.Estimated:
		case e.Time.Before(l.before): // and so is all that came before
			l.kept = l.kept[:0]
			continue
		default:
			l.over = true
			return append(l.kept, all[i:]...)
		}
		l.kept = append(l.kept, all[i])
	}
	if len(l.kept) > mostKept {
		l.over = true
		return l.kept
	}
	return nil
}

// rest returns what was kept when nothing more comes.
func (l *late) rest() []Event {
	if l == nil {
		return nil
	}
	l.over = true
	return l.kept
}
