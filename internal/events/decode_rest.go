package events

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/record"
	"github.com/distributed-resource-manager/drm/membership"
)

// source tells of a change of the source's record, which may be several things at once.
func (d *Decoder) source(now, before *mvccpb.KeyValue) {
	if now == nil {
		d.add(of(SourceForgotten))
		return
	}
	was, _ := sourceOf(before)
	is, ok := sourceOf(now)
	if !ok {
		d.notUnderstood(now, "")
		return
	}
	d.fetched(was, is)
	held, heldBefore := is.HeldRemovals, was.HeldRemovals
	switch e := of(RemovalsHeld); {
	case is.Held > 0 && (was.Held != is.Held || held.Digest != heldBefore.Digest):
		e.Count, e.Resources, e.Since, e.Until = is.Held, held.IDs, held.Since, held.Until
		e.Detail = fmt.Sprintf("%d removals", is.Held)
		d.addPicked(e)
	case is.Held == 0 && was.Held > 0:
		e.Kind, e.Count, e.Resources = RemovalsEnded, was.Held, heldBefore.IDs
		d.addPicked(e)
	}
	if is.Accepted.Revision != was.Accepted.Revision && is.Accepted.Revision != 0 {
		e := of(RemovalsAccepted)
		if e.Count, e.Detail = is.Accepted.Removed, is.Accepted.Error; e.Detail == "" {
			e.Detail = fmt.Sprintf("%d removed", e.Count)
		}
		d.add(e)
	}
	if is.Bad > 0 && (is.Bad != was.Bad || fmt.Sprint(is.BadItems) != fmt.Sprint(was.BadItems)) {
		e := of(BadItems)
		if e.Count = is.Bad; len(is.BadItems) > 0 {
			e.Detail = fmt.Sprintf("%d items; item %d: %s", is.Bad, is.BadItems[0].Index, is.BadItems[0].Error)
		}
		d.add(e)
	}
}

// fetched tells of a fetch.
func (d *Decoder) fetched(was, is record.Source) {
	e := of(Fetched)
	switch {
	case is.Error != "" && (is.Error != was.Error || !is.LastAttempt.Equal(was.LastAttempt)):
		e.Kind, e.Detail, e.Until = FetchFailed, is.Error, is.NotBefore
		e.Time = fresh(is.LastAttempt, was.LastAttempt)
	case is.Error == "" && !is.LastSuccess.Equal(was.LastSuccess):
		e.Count, e.Time = is.Resources, fresh(is.LastSuccess, was.LastSuccess)
		e.Detail = fmt.Sprintf("%d resources", is.Resources)
		if c := is.LastChange; !c.At.Equal(was.LastChange.At) {
			e.Kind = SourceChanged
			e.Detail = fmt.Sprintf("%d added, %d changed, %d removed", c.Added, c.Changed, c.Removed)
		}
	default:
		return // the record was written for something else
	}
	d.add(e)
}

// addPicked adds an event about resources without those that are not wanted.
func (d *Decoder) addPicked(e Event) {
	if d.pick.resources == nil {
		d.add(e)
		return
	}
	var some []string
	for _, id := range e.Resources {
		if d.pick.wants(id) {
			some = append(some, id)
		}
	}
	if len(some) > 0 {
		e.Resources = some
		d.add(e)
	}
}

// errand tells of an order that is carried out once. e is about what the order is about.
func (d *Decoder) errand(e Event, given, ended Kind, now, before *mvccpb.KeyValue) {
	read := func(kv *mvccpb.KeyValue) (o membership.Order) {
		if kv == nil || json.Unmarshal(kv.Value, &o) != nil {
			return membership.Order{} // the key alone is the order
		}
		return o
	}
	was := read(before)
	o := was
	if e.Kind = ended; now != nil {
		o = read(now)
		e.Kind, e.Time = given, fresh(o.Since, was.Since)
		e.OrderedBy, e.OrderedWhy = o.By, o.Why
	}
	e.By, e.Why, e.Since = o.By, o.Why, o.Since
	d.add(e)
}

// deaths tells of the ends of a member's processes.
func (d *Decoder) deaths(member string, now, before *mvccpb.KeyValue) {
	if now == nil {
		return
	}
	is, err := claims.DecodeDeaths(now.Value)
	if err != nil {
		d.notUnderstood(now, "")
		return
	}
	known := map[string]bool{}
	if before != nil {
		was, _ := claims.DecodeDeaths(before.Value) // where it cannot be read, nothing is known of before
		for _, x := range was.Deaths {
			known[x.At.String()+x.Exit] = true
		}
	}
	for _, x := range is.Deaths {
		if !known[x.At.String()+x.Exit] {
			e := of(Death)
			e.Member, e.Detail, e.Count = member, x.Exit, len(x.Leases)
			if plausible(x.At) {
				e.Time = x.At.UTC()
			}
			d.add(e)
		}
	}
}

// alone tells that a member handles a suspect alone.
func (d *Decoder) alone(now, before *mvccpb.KeyValue) {
	read := func(kv *mvccpb.KeyValue) claims.Alone {
		if kv == nil {
			return claims.Alone{}
		}
		a, _ := claims.DecodeAlone(kv.Value) // one that cannot be read names nobody
		return a
	}
	was, is := read(before), read(now)
	tell := func(kind Kind, a claims.Alone) {
		e := of(kind)
		e.Member, e.Resource = a.Member, a.ID
		if d.pick.wants(a.ID) {
			d.add(e)
		}
	}
	if was.Member != "" && is != was {
		tell(IsolationEnded, was)
	}
	switch {
	case is.Member != "" && is != was:
		tell(Isolated, is)
	case now != nil && is.Member == "":
		d.notUnderstood(now, "")
	}
}

// lives tells that a member starts again and again.
func (d *Decoder) lives(member string, now *mvccpb.KeyValue) {
	if now == nil {
		return
	}
	l, err := claims.DecodeLives(now.Value)
	switch {
	case err != nil:
		d.notUnderstood(now, "")
	case l.Starts > 1:
		e := of(MemberFlapping)
		e.Member, e.Count, e.Since, e.Detail = member, l.Starts, l.Since, fmt.Sprintf("%d starts", l.Starts)
		d.add(e)
	}
}
