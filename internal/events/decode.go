package events

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/appconfig"
	"github.com/distributed-resource-manager/drm/internal/deed"
	"github.com/distributed-resource-manager/drm/internal/excerpt"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/record"
	"github.com/distributed-resource-manager/drm/membership"
)

// LeaseState says whether a lease was still there after a revision.
type LeaseState int

// The states of a lease.
const (
	LeaseUnknown LeaseState = iota
	LeaseLives              // so nothing that was deleted up to that revision was deleted by its end
	LeaseEnded              // by now; that may have been later
)

// Oracle answers what the changes of keys do not say. A Decoder without one does without the answers.
type Oracle interface {
	// Lease says whether a lease has ended, after something on it was deleted at a revision.
	Lease(lease, revision int64) LeaseState
	// Plain lists the claims of a shard on a lease that said claimed at a revision, and were last modified after one
	// revision and up to another one. It calls add for each, and returns false if etcd does not know any more.
	Plain(shard int, lease, revision, after, through int64, add func(id string)) bool
	// Through returns what the summary of a shard's claims on a lease said before a revision; 0: nothing.
	Through(shard int, lease, revision int64) int64
}

// Decoder turns changes of keys into events. It must be given all changes of the keys that matter, in the order of
// their revisions. Its methods are for one goroutine.
type Decoder struct {
	layout keys.Layout
	shards int
	pick   *picker
	oracle Oracle // nil: there is none
	begin  int64  // the first revision that it is given
	live   bool   // what it is given has just happened

	resharding bool // the number of shards is being changed

	members map[string]membership.State // of those that are there, as far as known
	died    map[string]bool             // those whose key went while they were not leaving, and did not come back
	bundles map[bundleKey]*bundle
	plain   int  // how many ids all bundles have
	forgot  bool // some bundles were forgotten

	events []Event // of the revision in progress
}

// NewDecoder makes a Decoder for an app with so many shards. It will be given all changes from the revision begin on.
func NewDecoder(layout keys.Layout, shards int, begin int64, oracle Oracle) *Decoder {
	return newDecoder(layout, shards, begin, oracle, &picker{})
}

func newDecoder(layout keys.Layout, shards int, begin int64, oracle Oracle, pick *picker) *Decoder {
	return &Decoder{
		layout: layout, shards: shards, pick: pick, oracle: oracle, begin: begin,
		members: map[string]membership.State{}, died: map[string]bool{}, bundles: map[bundleKey]*bundle{},
	}
}

// knows notes the members' keys as they were before the first revision.
func (d *Decoder) knows(members []*mvccpb.KeyValue) {
	for _, kv := range members {
		if key := d.layout.Parse(string(kv.Key)); key.Kind == keys.Member {
			if m, ok := memberOf(d, key.ID, kv); ok {
				d.members[key.ID] = stateOf(m)
			}
		}
	}
}

// Decode returns the events of all changes of one revision. The changes must have the values of the keys before them.
// The events have neither an Index nor a Cursor yet, and only those times that a value says.
func (d *Decoder) Decode(revision int64, changes []*clientv3.Event) []Event {
	d.events = nil
	about := factsOf(d, changes)
	for _, c := range changes {
		d.change(revision, c, about)
	}
	by, fresh := d.deedOf(changes)
	for i := range d.events {
		e := &d.events[i]
		e.Revision = revision
		if by.Origin().IsZero() {
			continue
		}
		if e.OrderedBy, e.OrderedWhy = by.By, by.Why; e.Time.IsZero() {
			e.Time = fresh
		}
	}
	return d.events
}

// deedOf says who has made the changes of one revision, as far as the record of the last deed says so, or the key that
// says what is being done to the whole app. at is when, if that is the time of these changes.
func (d *Decoder) deedOf(changes []*clientv3.Event) (by deed.Deed, at time.Time) {
	read := func(kv *mvccpb.KeyValue) deed.Deed {
		if kv == nil {
			return deed.Deed{}
		}
		is, _ := deed.Decode(kv.Value) // what cannot be read says nothing
		return is
	}
	for _, c := range changes {
		switch kind := d.layout.Parse(string(c.Kv.Key)).Kind; {
		case kind != keys.Deed && kind != keys.Reshard:
			continue
		case c.Type != clientv3.EventTypeDelete:
			by = read(c.Kv)
			at = fresh(by.Since, read(c.PrevKv).Since) // how far a task is says again when it began
		case kind == keys.Reshard: // with its end, what it was about is done
			by = read(c.PrevKv)
		}
		if !by.Origin().IsZero() {
			return by, at
		}
	}
	return deed.Deed{}, time.Time{}
}

// add adds an event of the revision in progress.
func (d *Decoder) add(e Event) { d.events = append(d.events, e) }

// of makes an event that is about nothing but what the caller sets.
func of(kind Kind) Event { return Event{Kind: kind, Shard: -1, Weight: -1} }

// change decodes the change of one key.
func (d *Decoder) change(revision int64, c *clientv3.Event, about facts) {
	now, before := c.Kv, c.PrevKv
	if c.Type == clientv3.EventTypeDelete {
		now = nil
	}
	key := d.layout.Parse(string(c.Kv.Key))
	if d.resharding && strings.HasPrefix(string(c.Kv.Key), d.layout.Shards()) {
		return // it only gets another place
	}
	switch key.Kind {
	case keys.Claim:
		if key.Home(d.shards) == key.Number && d.pick.wants(key.ID) {
			d.claim(key, revision, now, before, about)
		}
	case keys.Summary:
		d.summary(key, revision, now, before)
	case keys.Resource:
		if key.Home(d.shards) == key.Number && d.pick.wants(key.ID) {
			d.entry(key, now, before)
		}
	case keys.Quarantine:
		if key.Home(d.shards) == key.Number && d.pick.wants(key.ID) {
			d.quarantine(key, now, before)
		}
	case keys.Retry:
		if key.Home(d.shards) == key.Number && d.pick.wants(key.ID) {
			e := of("")
			e.Resource, e.Shard = key.ID, key.Number
			d.errand(e, RetryOrdered, RetryEnded, now, before)
		}
	case keys.Member:
		d.member(key.ID, now, before, about)
	case keys.Decline:
		d.decline(key.ID, now, before, about)
	case keys.Coordinator:
		d.coordinator(now, before)
	case keys.Schema:
		d.schema(now, before)
	case keys.Reservation:
		d.reservation(key, now, before)
	case keys.Drain, keys.Cordon, keys.Weight, keys.Pin:
		d.order(key, now, before)
	case keys.Exception:
		d.exception(key, now, before)
	case keys.Move:
		if d.pick.wants(key.ID) {
			d.move(key, now, before)
		}
	case keys.Source:
		d.source(now, before)
	case keys.FetchOrder:
		d.errand(of(""), FetchOrdered, FetchEnded, now, before)
	case keys.AcceptOrder:
		d.errand(of(""), AcceptOrdered, AcceptEnded, now, before)
	case keys.RebalanceOrder:
		d.errand(of(""), RebalanceOrdered, RebalanceEnded, now, before)
	case keys.Deaths:
		d.deaths(key.ID, now, before)
	case keys.Alone:
		d.alone(now, before)
	case keys.Lives:
		d.lives(key.ID, now)
	case keys.Config:
		d.config(now, before)
	case keys.Reshard:
		d.unfinished(now, before)
	case keys.Foreign:
		if now != nil {
			d.notUnderstood(now, "")
		}
	case keys.Deed: // it says whose the other changes are
		if now == nil {
			return
		}
		if _, err := deed.Decode(now.Value); err != nil {
			d.notUnderstood(now, "")
		}
	case keys.Stats, keys.Load, keys.Deallocation, keys.Trail, keys.Prepared, keys.Slot, keys.Block, keys.Placement:
		// These are details of what other keys tell.
	}
}

// unfinished tells of what is done to the whole app: the key that says so is not there for changes of the number of
// shards only.
func (d *Decoder) unfinished(now, before *mvccpb.KeyValue) {
	d.resharding = now != nil
	switch {
	case now != nil && before == nil:
		e := of(ReshardBegun)
		e.Detail = taskWords(now.Value)
		d.add(e)
	case now == nil:
		e := of(ReshardEnded)
		if before != nil {
			e.Detail = taskWords(before.Value)
		}
		d.add(e)
	}
}

// taskWords says what is done to the whole app, by the value of the key that says so.
func taskWords(value []byte) string {
	var task *appconfig.TaskError
	var reshard *appconfig.ReshardError
	switch err := appconfig.Unfinished(value); {
	case errors.As(err, &task) && task.Task == appconfig.Deleting:
		return "deletion of the app"
	case errors.As(err, &task) && task.Task == appconfig.Loading:
		return "load from a dump"
	case errors.As(err, &reshard) && reshard.To != 0:
		return fmt.Sprintf("from %d to %d shards", reshard.From, reshard.To)
	default:
		return ""
	}
}

// mostKey is how many bytes of a key are shown that is not understood.
const mostKey = 200

// notUnderstood tells of a key or a value that DRM would not have written. The value appears nowhere.
func (d *Decoder) notUnderstood(kv *mvccpb.KeyValue, resource string) {
	e := of(NotUnderstood)
	e.Resource, e.Detail = resource, excerpt.Clip(string(kv.Key), mostKey)
	d.add(e)
}

func (d *Decoder) config(now, before *mvccpb.KeyValue) {
	if now == nil {
		d.add(of(AppDeleted))
		return
	}
	is, err := appconfig.Decode(now.Value)
	if err != nil {
		return // a barrier, or what no member accepts either
	}
	d.shards = is.Shards
	if before == nil || before.CreateRevision != now.CreateRevision {
		e := of(AppCreated)
		e.Count, e.Detail = is.Shards, fmt.Sprintf("%d shards", is.Shards)
		d.add(e)
	}
}

// fresh returns the time that a value says, if the value before did not say the same: only then is it that of the
// change.
func fresh(now, before time.Time) time.Time {
	if now.Equal(before) || !plausible(now) {
		return time.Time{}
	}
	return now.UTC()
}

// plausible says whether a time can be when something happened that etcd knows of.
func plausible(t time.Time) bool { return t.Year() >= 2000 && t.Year() <= 9999 }

// sourceOf reads a source's record; the zero record stands for none.
func sourceOf(kv *mvccpb.KeyValue) (r record.Source, ok bool) {
	if kv == nil {
		return record.Source{}, false
	}
	r, err := record.DecodeSource(kv.Value)
	return r, err == nil
}

// facts are what the changes of one revision have in common. The end of a lease is one revision, which deletes all keys
// on the lease and does nothing else.
type facts struct {
	lease   int64           // all changes are deletions of keys on this lease; 0: they are not
	witness bool            // one of them is a key that only the end of its lease deletes beside claims
	gone    map[string]bool // the members whose keys are deleted
}

func factsOf(d *Decoder, changes []*clientv3.Event) (f facts) {
	alike := true
	for i, c := range changes {
		if c.Type != clientv3.EventTypeDelete || c.PrevKv == nil || c.PrevKv.Lease == 0 {
			alike = false
		}
		switch {
		case !alike:
			f.lease = 0
		case i == 0:
			f.lease = c.PrevKv.Lease
		case f.lease != c.PrevKv.Lease:
			alike, f.lease = false, 0
		}
		if c.Type != clientv3.EventTypeDelete {
			continue
		}
		switch key := d.layout.Parse(string(c.Kv.Key)); key.Kind {
		case keys.Summary:
			f.witness = true
		case keys.Member:
			if f.gone == nil {
				f.gone = map[string]bool{}
			}
			f.gone[key.ID] = true
		}
	}
	return f
}
