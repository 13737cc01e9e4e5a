package events

import (
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// parse reads a key below group/; the view is not nil.
func (d *Decoder) parse(kv *mvccpb.KeyValue) (v *membership.View, ok bool) {
	if kv == nil {
		return &membership.View{}, false
	}
	return membership.Parse(d.layout.Root(), d.shards, kv)
}

func memberOf(d *Decoder, id string, kv *mvccpb.KeyValue) (membership.Member, bool) {
	v, ok := d.parse(kv)
	return v.Members[id], ok
}

// stateOf is the state of a member, for which one that is about to leave is leaving.
func stateOf(m membership.Member) membership.State {
	if m.Leaves {
		return membership.Leaving
	}
	return m.State
}

// member tells of a change of a member's key.
func (d *Decoder) member(id string, now, before *mvccpb.KeyValue, about facts) {
	e := of("")
	e.Member = id
	was, known := memberOf(d, id, before)
	if now == nil {
		if e.Kind = MemberDied; known && stateOf(was) == membership.Leaving {
			e.Kind = MemberLeft
		} else {
			d.died[id] = true
			if about.lease == 0 {
				e.Detail = "its key was deleted by hand or by its program"
			}
		}
		delete(d.members, id)
		d.add(e)
		return
	}
	is, ok := memberOf(d, id, now)
	if !ok {
		d.notUnderstood(now, "")
		return
	}
	d.members[id] = stateOf(is)
	delete(d.died, id)
	if !known || before.CreateRevision != now.CreateRevision {
		joined := e
		joined.Kind, joined.Weight, joined.Detail = MemberJoined, is.Weight, is.Address
		d.add(joined)
		was, known = membership.Member{}, false
		was.State = membership.Joining
	}
	if stateOf(is) != stateOf(was) || is.State == membership.Unready && is.Reason != was.Reason {
		next := e
		switch stateOf(is) {
		case membership.Active:
			if next.Kind = MemberActive; was.State == membership.Unready {
				next.Kind = MemberReady
			}
		case membership.Unready:
			next.Kind, next.Why = MemberUnready, is.Reason
		case membership.Leaving:
			next.Kind = MemberLeaving
		default:
			next.Kind, next.Detail = MemberChanged, fmt.Sprintf("state %s", is.State)
		}
		d.add(next)
	}
	if what := changesOf(was, is); known && what != "" {
		e.Kind, e.Weight, e.Detail = MemberChanged, is.Weight, what
		d.add(e)
	}
}

// changesOf says what else a member says of itself.
func changesOf(was, is membership.Member) string {
	var all []string
	change := func(what string, before, now any) {
		if before != now {
			all = append(all, fmt.Sprintf("%s %v, was %v", what, now, before))
		}
	}
	change("weight", was.Weight, is.Weight)
	change("address", was.Address, is.Address)
	change("version", was.Version, is.Version)
	change("source", was.Source, is.Source)
	if fmt.Sprint(was.Labels) != fmt.Sprint(is.Labels) {
		all = append(all, "labels")
	}
	return strings.Join(all, "; ")
}

// decline tells that a member is full, or is not any more.
func (d *Decoder) decline(id string, now, before *mvccpb.KeyValue, about facts) {
	e := of(MemberFull)
	e.Member = id
	switch {
	case now == nil && about.gone[id]: // the member is gone, and so is what it said
		return
	case now == nil:
		e.Kind = MemberRoom
	case before != nil:
		return
	}
	d.add(e)
}

func (d *Decoder) coordinator(now, before *mvccpb.KeyValue) {
	if before != nil && (now == nil || string(now.Value) != string(before.Value)) {
		e := of(CoordinatorLost)
		if v, ok := d.parse(before); ok {
			e.Member = v.Coordinator.ID
		}
		e.Token = before.CreateRevision
		d.add(e)
	}
	switch {
	case now == nil && before == nil: // etcd has forgotten whose it was
		d.add(of(CoordinatorLost))
	case now != nil && (before == nil || string(now.Value) != string(before.Value)):
		v, ok := d.parse(now)
		if !ok {
			d.notUnderstood(now, "")
			return
		}
		e := of(CoordinatorElected)
		e.Member, e.Token = v.Coordinator.ID, now.CreateRevision
		d.add(e)
	}
}

func (d *Decoder) schema(now, before *mvccpb.KeyValue) {
	is, ok := d.parse(now)
	switch was, _ := d.parse(before); {
	case now == nil:
	case !ok:
		d.notUnderstood(now, "")
	case is.Schema != was.Schema:
		e := of(SchemaRaised)
		e.Count, e.Detail = is.Schema, fmt.Sprintf("schema %d", is.Schema)
		d.add(e)
	}
}

func (d *Decoder) reservation(key keys.Key, now, before *mvccpb.KeyValue) {
	e := of(ReservationEnded)
	e.Member = key.ID
	if now != nil {
		is, _ := d.parse(now)
		was, _ := d.parse(before)
		r := is.Reservations[key.ID]
		e.Kind, e.Since, e.Until = MemberReserved, r.Since, r.Until
		e.Time = fresh(r.Since, was.Reservations[key.ID].Since)
		if before != nil && r.Until.Equal(was.Reservations[key.ID].Until) {
			return
		}
	}
	d.add(e)
}

// exception tells of a shard that the coordinator has placed, or an operator has moved.
func (d *Decoder) exception(key keys.Key, now, before *mvccpb.KeyValue) {
	old, _ := d.parse(before)
	was, known := old.Exceptions[key.Number]
	byOrder := was.Why == membership.WhyMove
	ended := func() {
		e := of(ExceptionDropped)
		e.Shard, e.Member, e.By, e.Why = key.Number, was.Member, was.By, string(was.Why)
		if byOrder {
			e.Kind, e.Why = MoveEnded, was.Reason
		}
		d.add(e)
	}
	if now == nil {
		ended()
		return
	}
	v, ok := d.parse(now)
	is, there := v.Exceptions[key.Number]
	if !ok || !there {
		d.notUnderstood(now, "")
		return
	}
	e := of(ExceptionPlaced)
	e.Shard, e.Member, e.From, e.By, e.Why = key.Number, is.Member, was.Member, is.By, string(is.Why)
	e.Time = fresh(is.Since, was.Since)
	if is.Why == membership.WhyMove {
		e.Kind, e.Why, e.Since = MoveOrdered, is.Reason, is.Since
		e.OrderedBy, e.OrderedWhy = is.By, is.Reason
	}
	if known && is.Member == was.Member && is.Why == was.Why && is.Since.Equal(was.Since) && is.Reason == was.Reason {
		return // only what the coordinator notes for itself has changed
	}
	if known && byOrder && is.Why != membership.WhyMove {
		ended()
	}
	d.add(e)
}

// move tells of a resource that belongs to another member than its shard does.
func (d *Decoder) move(key keys.Key, now, before *mvccpb.KeyValue) {
	old, _ := d.parse(before)
	was := old.Moves[key.ID]
	e := of(ResourceMoveEnded)
	e.Resource, e.Member = key.ID, was.Member
	if now != nil {
		v, ok := d.parse(now)
		if !ok {
			d.notUnderstood(now, key.ID)
			return
		}
		is := v.Moves[key.ID]
		e.Kind, e.Member, e.From, e.Why = ResourceMoved, is.Member, is.From, is.Why
		e.Time = fresh(is.Since, was.Since)
	}
	d.add(e)
}

// standing is an operator's order as a key says it.
type standing struct {
	membership.Order
	member string
	weight int
	until  time.Time
}

// fill makes an event one about the order.
func (s standing) fill(e *Event) {
	e.Member, e.Weight, e.By, e.Why, e.Since, e.Until = s.member, s.weight, s.By, s.Why, s.Since, s.until
}

// standingOf reads the order at a key. It is false if there is none, or it cannot be read.
func (d *Decoder) standingOf(key keys.Key, kv *mvccpb.KeyValue) (s standing, ok bool) {
	v, ok := d.parse(kv)
	s = standing{member: key.ID, weight: -1}
	switch key.Kind {
	case keys.Drain:
		r := v.Drains[key.ID]
		s.Order, s.until = r.Order, r.Until
	case keys.Cordon:
		r := v.Cordons[key.ID]
		s.Order, s.until = r.Order, r.Until
	case keys.Weight:
		w := v.Weights[key.ID]
		if s.Order = w.Order; ok {
			s.weight = w.Weight
		}
	case keys.Pin:
		p, there := v.Pins[key.Number]
		s.Order, s.member, ok = p.Order, p.Member, ok && there
	}
	return s, ok
}

// orderKinds are the kinds of events about orders by the kind of their key: given, and ended.
var orderKinds = map[keys.Kind][2]Kind{
	keys.Drain:  {Drained, Undrained},
	keys.Cordon: {Cordoned, Uncordoned},
	keys.Weight: {Weighed, Unweighed},
	keys.Pin:    {Pinned, Unpinned},
}

// order tells of an order that was given, changed, or has ended.
func (d *Decoder) order(key keys.Key, now, before *mvccpb.KeyValue) {
	was, known := d.standingOf(key, before)
	is, ok := d.standingOf(key, now)
	e := of(orderKinds[key.Kind][0])
	if key.Kind == keys.Pin {
		e.Shard = key.Number
	}
	switch {
	case now == nil:
		e.Kind = orderKinds[key.Kind][1]
		was.fill(&e)
	case !ok && key.Kind == keys.Pin && len(now.Value) == 0: // an older version's pin to nobody
		return
	case !ok:
		d.notUnderstood(now, "")
		return
	case known && is == was: // only what the member keeps has changed
		return
	default:
		is.fill(&e)
		e.OrderedBy, e.OrderedWhy = is.By, is.Why
		if e.Time = fresh(is.Since, was.Since); known {
			e.Detail = "the order was changed"
		}
	}
	d.add(e)
}
