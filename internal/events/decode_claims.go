package events

import (
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

const (
	// mostPlain is how many ids of claims are kept that a summary may soon stand for. Of more, only the number is kept.
	mostPlain = 100_000
	// mostBundles is about how many bundles are known at a time. Of a bundle that was forgotten, etcd is asked again.
	mostBundles = 50_000
	// mostIDs is how many ids one event has. A summary for more makes several events.
	mostIDs = 500
)

// bundleKey names the claims of a shard on a lease.
type bundleKey struct {
	shard int
	lease int64
}

// bundle is what is known of those claims.
type bundle struct {
	through int64            // that of the summary; 0: there is none
	asked   bool             // etcd was asked for that, since it may have been there before the decoder began
	plain   map[string]int64 // those that say claimed, and that no summary stands for: when they were last modified
	more    int              // how many more there are, of which only the number is kept
}

func (d *Decoder) bundle(key bundleKey) *bundle {
	b := d.bundles[key]
	if b == nil {
		if len(d.bundles) >= mostBundles { // most of them are of leases that have ended long ago
			d.forgot = true
			maps.DeleteFunc(d.bundles, func(_ bundleKey, b *bundle) bool { return len(b.plain) == 0 && b.more == 0 })
		}
		b = &bundle{}
		d.bundles[key] = b
	}
	return b
}

// through returns what the summary of some claims says, as far as that matters for a claim that was last modified at a
// revision.
func (d *Decoder) through(key bundleKey, revision, modified int64) int64 {
	b := d.bundles[key]
	if (b == nil || b.through == 0 && !b.asked) && (modified < d.begin || d.forgot) && d.oracle != nil {
		b = d.bundle(key)
		b.through, b.asked = d.oracle.Through(key.shard, key.lease, revision), true
	}
	if b == nil {
		return 0
	}
	return b.through
}

// keep notes a claim that says claimed.
func (d *Decoder) keep(key bundleKey, id string, modified int64) {
	b := d.bundle(key)
	if _, there := b.plain[id]; !there {
		if d.plain >= mostPlain {
			b.more++
			return
		}
		d.plain++
	}
	if b.plain == nil {
		b.plain = map[string]int64{}
	}
	b.plain[id] = modified
}

// drop forgets such a claim.
func (d *Decoder) drop(key bundleKey, id string) {
	b := d.bundles[key]
	if b == nil {
		return
	}
	if _, there := b.plain[id]; there {
		delete(b.plain, id)
		d.plain--
	}
	if len(b.plain) == 0 {
		b.plain = nil
		if b.through == 0 && b.more == 0 && !b.asked {
			delete(d.bundles, key)
		}
	}
}

// claim tells of a change of a claim's key.
func (d *Decoder) claim(key keys.Key, revision int64, now, before *mvccpb.KeyValue, about facts) {
	e := of("")
	e.Resource, e.Shard = key.ID, key.Number
	was, known := claimOf(before)
	if before != nil {
		at := bundleKey{key.Number, before.Lease}
		if modified := before.ModRevision; now != nil && was.State == claims.Claimed &&
			modified <= d.through(at, revision, modified) {
			was.State = claims.Active // by the summary
		}
		d.drop(at, key.ID)
	}
	if now == nil {
		e.Member = was.Member
		if before != nil {
			e.Token, e.lease = before.CreateRevision, before.Lease
		}
		e.Kind, e.unsure = d.endOf(was.Member, revision, before, about)
		d.add(e)
		return
	}
	is, ok := claimOf(now)
	e.Token, e.lease = now.CreateRevision, now.Lease
	if !ok {
		d.notUnderstood(now, key.ID)
		return
	}
	if is.State == claims.Claimed {
		d.keep(bundleKey{key.Number, now.Lease}, key.ID, now.ModRevision)
	}
	e.Member, e.Time = is.Member, fresh(is.Since, was.Since)
	if now.CreateRevision == now.ModRevision || known && was.Member != is.Member || !known && before != nil {
		first := e
		if first.Kind = Claimed; now.CreateRevision != now.ModRevision {
			first.From, first.Detail = was.Member, "the claim's key was overwritten"
		}
		d.add(first)
		was = claims.Record{State: claims.Claimed}
	}
	d.state(e, was, is)
}

// state tells how a claim is now, if that is not how it was.
func (d *Decoder) state(e Event, was, is claims.Record) {
	e.Detail = is.Error
	switch changed := was.State != is.State; {
	case changed && is.State == claims.Active && (was.State == claims.Failed || was.State == claims.Quarantined):
		e.Kind = Recovered
	case changed && is.State == claims.Active:
		e.Kind = Active
		e.Count = 1
	case changed && is.State == claims.Claimed:
		e.Kind = Handling
	case is.State == claims.Failed && (changed || !is.Since.Equal(was.Since) || is.Error != was.Error):
		e.Kind = Failed
	case changed && is.State == claims.Quarantined:
		e.Kind = Quarantined
	case !changed && is.Error != "" && is.Error != was.Error:
		e.Kind = Slow
	default:
		return
	}
	d.add(e)
}

func claimOf(kv *mvccpb.KeyValue) (r claims.Record, ok bool) {
	if kv == nil {
		return claims.Record{}, false
	}
	r, err := claims.Decode(kv.Value)
	return r, err == nil
}

// endOf decides whether a claim was released, or its lease has ended. Where nothing tells, it was released; unsure says
// that.
func (d *Decoder) endOf(member string, revision int64, before *mvccpb.KeyValue, about facts) (kind Kind, unsure bool) {
	if before == nil || before.Lease == 0 || about.lease != before.Lease {
		return Released, false
	}
	if about.witness {
		return Lost, false
	}
	lease := LeaseUnknown
	if d.oracle != nil && (d.pick.kinds == nil || d.pick.kinds[Lost] || d.pick.kinds[Released]) {
		lease = d.oracle.Lease(before.Lease, revision)
	}
	switch {
	case lease == LeaseLives:
		return Released, false
	case d.died[member]:
		return Lost, false
	case lease == LeaseEnded && d.live && d.members[member] != membership.Leaving:
		return Lost, false
	default: // a member that stops revokes its leases when it has released everything
		return Released, d.members[member] != membership.Leaving
	}
}

// settle decides again about claims of which it is not sure that they were released, now that more is known: events are
// those of the revisions that came together. A lease on which something happened later has not ended. When a process is
// gone, etcd may delete its claims a moment before its member's key; but nobody claims what such a member had as long
// as its key is there.
func settle(events []Event) {
	lives := map[int64]int64{}   // by lease: the last revision at which something happened on it
	died := map[string]bool{}    // members that died later
	claimed := map[string]bool{} // resources that somebody claimed later, and before that
	for i := len(events) - 1; i >= 0; i-- {
		e := &events[i]
		if e.unsure && lives[e.lease] > e.Revision {
			e.unsure = false
		}
		lives[e.lease] = max(lives[e.lease], e.Revision)
		switch e.Kind {
		case MemberDied:
			died[e.Member] = true
			clear(claimed)
		case MemberJoined:
			delete(died, e.Member)
		case Claimed:
			claimed[e.Resource] = true
		case Released:
			if e.unsure && died[e.Member] && !claimed[e.Resource] {
				e.Kind, e.unsure = Lost, false
			}
			delete(claimed, e.Resource)
		}
	}
	unwanted := map[string]bool{} // resources that nobody claims since nobody wants them
	for i := range events {
		switch e := &events[i]; {
		case e.Kind == ResourceRemoved || e.Kind == ResourceSuspended || e.Kind == Suspended:
			unwanted[e.Resource] = true
		case e.Kind == ResourceAdded || e.Kind == ResourceWoken || e.Kind == Resumed:
			delete(unwanted, e.Resource)
		case e.unsure && unwanted[e.Resource]:
			e.unsure = false
		}
		if events[i].unsure {
			events[i].Detail = "perhaps lost"
		}
	}
}

// summary tells of the claims that a summary says are active, and that nothing has said so of before.
func (d *Decoder) summary(key keys.Key, revision int64, now, before *mvccpb.KeyValue) {
	at := bundleKey{key.Number, key.Lease}
	if now == nil {
		if b := d.bundles[at]; b != nil {
			if b.through, b.asked = 0, true; len(b.plain) == 0 && b.more == 0 {
				delete(d.bundles, at)
			}
		}
		return
	}
	is, err := claims.DecodeSummaryOf(key, now)
	if err != nil {
		d.notUnderstood(now, "")
		return
	}
	b, after := d.bundle(at), int64(0)
	if before != nil {
		if was, err := claims.DecodeSummaryOf(key, before); err == nil {
			after = was.Through
		}
	}
	b.through = is.Through
	var ids []string
	for id, modified := range b.plain {
		if modified <= is.Through {
			ids = append(ids, id)
			delete(b.plain, id)
			d.plain--
		}
	}
	if len(b.plain) == 0 {
		b.plain = nil
	}
	more := b.more
	b.more = 0
	e := of(Active)
	e.Member, e.Shard = is.Member, key.Number
	if until := min(is.Through, d.begin-1); after < until && d.oracle != nil && d.wantsActive(is.Member) {
		// These claims were last modified before the decoder began, so that none of them is among ids.
		if !d.oracle.Plain(key.Number, key.Lease, revision, after, until, func(id string) {
			switch {
			case !d.pick.wants(id):
			case len(ids) < mostPlain:
				ids = append(ids, id)
			default:
				more++
			}
		}) {
			e.Detail = "etcd does not say any more which other claims became active"
		}
	}
	d.addActive(e, ids, more)
}

func (d *Decoder) wantsActive(member string) bool {
	return (d.pick.kinds == nil || d.pick.kinds[Active]) && (d.pick.member == "" || d.pick.member == member)
}

// addActive adds the events which say that some resources are active, and so many more without their ids.
func (d *Decoder) addActive(e Event, ids []string, more int) {
	slices.Sort(ids)
	for part := range slices.Chunk(ids, mostIDs) {
		one := e
		one.Count, one.Resources = len(part), part
		if len(part) == 1 {
			one.Resource, one.Resources = part[0], nil
		}
		d.add(one)
	}
	if more > 0 && d.pick.resources == nil || len(ids) == 0 && e.Detail != "" {
		e.Count = more
		d.add(e)
	}
}

// entry tells of a change of the catalogue.
func (d *Decoder) entry(key keys.Key, now, before *mvccpb.KeyValue) {
	e := of("")
	e.Resource, e.Shard = key.ID, key.Number
	was, known := entryOf(key.ID, before)
	if now == nil {
		e.Kind, e.By = ResourceRemoved, originOf(was)
		d.add(e)
		return
	}
	is, ok := entryOf(key.ID, now)
	if !ok {
		d.notUnderstood(now, key.ID)
		return
	}
	e.By = originOf(is)
	if !known {
		if e.Kind = ResourceAdded; is.Suspended {
			e.Detail = stateSuspended
		}
		d.add(e)
		if is.Suspension != nil {
			d.suspension(e, is, was)
		}
		return
	}
	if string(is.Data) != string(was.Data) {
		changed := e
		if changed.Kind, changed.By = ResourceChanged, originSource; is.OwnData || !is.FromSource {
			changed.By = originAllocation
		}
		d.add(changed)
	}
	if is.Suspension != nil || was.Suspension != nil {
		d.suspension(e, is, was)
		return
	}
	switch {
	case is.Suspended && !was.Suspended:
		e.Kind = ResourceSuspended
	case !is.Suspended && was.Suspended:
		e.Kind = ResourceWoken
	case originOf(is) != originOf(was):
		e.Kind = ResourceOrigin
	default:
		return
	}
	d.add(e)
}

// suspension tells of an operator's order that a resource not be handled.
func (d *Decoder) suspension(e Event, is, was catalogue.Entry) {
	var now, before catalogue.Suspension
	if is.Suspension != nil {
		now = *is.Suspension
	}
	if was.Suspension != nil {
		before = *was.Suspension
	}
	e.By, e.Why, e.Since = now.By, now.Why, now.Since
	switch {
	case is.Suspension == nil: // taken back, or only a deallocation is left of it
		e.Kind, e.By, e.Why, e.Since = Resumed, before.By, before.Why, before.Since
		d.add(e)
		if is.Suspended {
			e.Kind, e.By, e.Why, e.Since = ResourceSuspended, originOf(is), "", time.Time{}
			d.add(e)
		}
	case now != before:
		e.Kind, e.Time = Suspended, fresh(now.Since, before.Since)
		e.OrderedBy, e.OrderedWhy = now.By, now.Why
		d.add(e)
	}
}

// What Event.By says of a change of the catalogue, and what Event.State says of a resource that is listed.
const (
	originSource     = "source"
	originAllocation = "allocation"
	originBoth       = "both"

	stateWanted    = "wanted"
	stateSuspended = "suspended"
)

func originOf(e catalogue.Entry) string {
	switch {
	case e.FromSource && e.Allocated:
		return originBoth
	case e.FromSource:
		return originSource
	case e.Allocated:
		return originAllocation
	default:
		return ""
	}
}

func entryOf(id string, kv *mvccpb.KeyValue) (e catalogue.Entry, ok bool) {
	if kv == nil {
		return catalogue.Entry{}, false
	}
	e, err := catalogue.DecodeOf(id, kv.Value)
	return e, err == nil
}

// quarantine tells of a change of a record of quarantine.
func (d *Decoder) quarantine(key keys.Key, now, before *mvccpb.KeyValue) {
	e := of(Freed)
	e.Resource, e.Shard = key.ID, key.Number
	if now != nil {
		q, err := claims.DecodeQuarantine(now.Value)
		if err != nil {
			d.notUnderstood(now, key.ID)
			return
		}
		e.Kind, e.Detail, e.Count = Accused, q.Text(), len(q.Deaths)
		e.Member = q.Deaths[len(q.Deaths)-1].Member
		var was claims.Quarantine
		if before != nil {
			was, _ = claims.DecodeQuarantine(before.Value) // where it cannot be read, nothing is known of before
		}
		e.Time = fresh(q.At, was.At)
	}
	d.add(e)
}
