package events

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/membership"
)

// pageSize is how many keys one request reads, at most. An entry may be large.
const pageSize = 500

// lister reads what there is at one revision.
type lister struct {
	f        *Feed
	d        *Decoder // for its filter, and to read values
	revision int64
	tell     func([]Event) error // called with the events of each page
}

// list tells of all that there is, as far as the filter wants it: the group, the source, and then shard by shard.
func (l *lister) list(ctx context.Context, families family) error {
	if families&inGroup != 0 {
		if err := l.each(ctx, l.f.Layout.Group(), l.group); err != nil {
			return err
		}
	}
	if families&inSource != 0 {
		resp, err := l.f.get(ctx, l.f.Layout.Source(), clientv3.WithRev(l.revision))
		if err != nil {
			return err
		}
		if err := l.page(resp.Kvs, l.sourceRecord); err != nil {
			return err
		}
	}
	if families&inShards == 0 {
		return nil
	}
	if l.d.pick.resources != nil {
		for id := range l.d.pick.resources {
			if err := l.resource(ctx, id); err != nil {
				return err
			}
		}
		return nil
	}
	return l.shards(ctx)
}

// shards tells of all shards, one after another.
func (l *lister) shards(ctx context.Context) error {
	at, summaries := -1, map[int64]claims.Summary{} // those of the shard at; they sort before its claims
	take := func(key keys.Key, kv *mvccpb.KeyValue) (Event, bool) {
		if (key.Kind == keys.Summary || key.Kind == keys.Claim) && key.Number != at {
			at, summaries = key.Number, map[int64]claims.Summary{}
		}
		return l.inShard(key, kv, summaries)
	}
	prefix := l.f.Layout.Shards()
	all := etcd.Stream(ctx, l.f.Client, l.f.Timeout, prefix, clientv3.GetPrefixRangeEnd(prefix),
		clientv3.WithRev(l.revision))
	for part, err := range all {
		switch {
		case errors.Is(err, etcd.ErrNoStreams):
			return l.eachShard(ctx, take)
		case err != nil:
			return fmt.Errorf("read %q: %w", prefix, etcd.Unreachable(ctx, err))
		}
		if err := l.page(part, take); err != nil {
			return err
		}
	}
	return nil
}

// eachShard reads all shards from an etcd without streams, which counts all of a range to read a page of it.
func (l *lister) eachShard(ctx context.Context, take func(keys.Key, *mvccpb.KeyValue) (Event, bool)) error {
	for n := range l.d.shards {
		if err := l.each(ctx, l.f.Layout.Shard(n), take); err != nil {
			return err
		}
	}
	return nil
}

// resource tells of one resource.
func (l *lister) resource(ctx context.Context, id string) error {
	n := l.f.shardOf(id, l.d.shards)
	summaries := map[int64]claims.Summary{}
	take := func(key keys.Key, kv *mvccpb.KeyValue) (Event, bool) { return l.inShard(key, kv, summaries) }
	if err := l.each(ctx, l.f.Layout.Summaries(n), take); err != nil {
		return err
	}
	for _, key := range []string{
		l.f.Layout.Resource(n, id), l.f.Layout.Claim(n, id), l.f.Layout.Quarantine(n, id),
	} {
		resp, err := l.f.get(ctx, key, clientv3.WithRev(l.revision))
		if err != nil {
			return err
		}
		if err := l.page(resp.Kvs, take); err != nil {
			return err
		}
	}
	return nil
}

// each tells of all keys below a prefix, page by page.
func (l *lister) each(ctx context.Context, prefix string, read func(keys.Key, *mvccpb.KeyValue) (Event, bool)) error {
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		resp, err := l.f.page(ctx, from, end, l.revision)
		if err != nil {
			return err
		}
		if err := l.page(resp.Kvs, read); err != nil {
			return err
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

func (l *lister) page(kvs []*mvccpb.KeyValue, read func(keys.Key, *mvccpb.KeyValue) (Event, bool)) error {
	var all []Event
	for _, kv := range kvs {
		e, ok := read(l.f.Layout.Parse(string(kv.Key)), kv)
		if ok && l.d.pick.takes(&e) {
			e.Revision = l.revision
			all = append(all, e)
		}
	}
	return l.tell(all)
}

// inShard makes the event of a key below a shard. summaries are those of the shard that have come so far.
func (l *lister) inShard(key keys.Key, kv *mvccpb.KeyValue, summaries map[int64]claims.Summary) (e Event, ok bool) {
	e = of(Listed)
	e.Resource, e.Shard = key.ID, key.Number
	if key.Kind == keys.Summary {
		if s, err := claims.DecodeSummaryOf(key, kv); err == nil {
			summaries[key.Lease] = s
		}
		return e, false
	}
	if key.Home(l.d.shards) != key.Number || !l.d.pick.wants(key.ID) {
		return e, false
	}
	switch key.Kind {
	case keys.Resource:
		entry, known := entryOf(key.ID, kv)
		if e.Of, e.State, e.By = OfResource, stateWanted, originOf(entry); entry.Suspended {
			e.State = stateSuspended
		}
		return e, known
	case keys.Claim:
		r, known := claimOf(kv)
		r = summaries[kv.Lease].Of(r, kv.ModRevision)
		e.Of, e.State, e.Member, e.Token, e.Detail = OfClaim, r.State, r.Member, kv.CreateRevision, r.Error
		e.Since = fresh(r.Since, zero)
		return e, known
	case keys.Quarantine:
		q, err := claims.DecodeQuarantine(kv.Value)
		e.Of, e.Detail, e.Since = OfQuarantine, q.Text(), fresh(q.At, zero)
		return e, err == nil
	default:
		return e, false
	}
}

// group makes the event of a key below group/.
func (l *lister) group(key keys.Key, kv *mvccpb.KeyValue) (e Event, ok bool) {
	e = of(Listed)
	v, ok := l.d.parse(kv)
	if !ok {
		return e, false
	}
	switch e.Member = key.ID; key.Kind {
	case keys.Member:
		m := v.Members[key.ID]
		e.Of, e.State, e.Weight, e.Why, e.Detail = OfMember, string(stateOf(m)), m.Weight, m.Reason, m.Address
	case keys.Coordinator:
		e.Of, e.Member, e.Token = OfCoordinator, v.Coordinator.ID, kv.CreateRevision
	case keys.Drain, keys.Cordon, keys.Weight, keys.Pin:
		s, known := l.d.standingOf(key, kv)
		if !known {
			return e, false
		}
		e.Of = map[keys.Kind]string{
			keys.Drain: OfDrain, keys.Cordon: OfCordon, keys.Weight: OfWeight, keys.Pin: OfPin,
		}[key.Kind]
		s.fill(&e)
		if key.Kind == keys.Pin {
			e.Shard = key.Number
		}
	case keys.Exception:
		x, known := v.Exceptions[key.Number]
		if !known {
			return e, false
		}
		e.Of, e.Shard, e.Member, e.By, e.Why, e.Since = OfException, key.Number, x.Member, x.By, string(x.Why), x.Since
		if x.Why == membership.WhyMove {
			e.Of, e.Why = OfMove, x.Reason
		}
	case keys.Move:
		m := v.Moves[key.ID]
		e.Of, e.Resource, e.Member, e.From, e.Why, e.Since = OfMoved, key.ID, m.Member, m.From, m.Why, m.Since
	case keys.Reservation:
		r := v.Reservations[key.ID]
		e.Of, e.Since, e.Until = OfReservation, r.Since, r.Until
	default:
		return e, false
	}
	return e, true
}

// sourceRecord makes the event of the source's record.
func (l *lister) sourceRecord(_ keys.Key, kv *mvccpb.KeyValue) (e Event, ok bool) {
	r, ok := sourceOf(kv)
	e = of(Listed)
	e.Of, e.State, e.Count, e.Detail, e.Since = OfSource, "fetched", r.Resources, r.Error, fresh(r.LastAttempt, zero)
	if r.Error != "" {
		e.State = "failed"
	}
	return e, ok
}

// page reads keys from one on, up to end, at a revision.
func (f *Feed) page(ctx context.Context, from, end string, revision int64) (*clientv3.GetResponse, error) {
	return f.get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(revision), clientv3.WithLimit(pageSize))
}

// get reads from etcd within the timeout.
func (f *Feed) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	asking, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	resp, err := f.Client.Get(asking, key, opts...)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", key, etcd.Unreachable(ctx, err))
	}
	return resp, nil
}
