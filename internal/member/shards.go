package member

import (
	"bytes"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/failures"
	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// shards follows the shards that the core has asked for. Only the loop calls its methods.
type shards struct {
	parts    *follow.Parts
	layout   keys.Layout
	count    int // how many shards the app has
	core     *core.Core
	post     func(func(now time.Duration)) bool
	failures *failures.Log
	weigh    func(data []byte) (int64, error) // nil: all resources weigh the same
	epoch    func() time.Time                 // the wall time at which the clock that measures leases stood at zero

	followers map[int]*shardFollower
}

// watch starts to follow a shard.
func (s *shards) watch(number int) {
	f := &shardFollower{shards: s, number: number}
	s.followers[number] = f
	s.parts.Follow(s.layout.Shard(number), f)
}

func (s *shards) unwatch(number int) {
	if s.followers[number] != nil {
		s.parts.Unfollow(s.layout.Shard(number))
		delete(s.followers, number)
	}
}

// shardFollower feeds the core with the resources and claims of one shard. It decodes them on the goroutine of
// whoever calls it, to spare the loop the work.
type shardFollower struct {
	shards *shards
	number int
}

// post hands news to the loop, which drops it if f does not follow the shard any more.
func (f *shardFollower) post(news func(c *core.Core, now time.Duration)) {
	f.shards.post(func(now time.Duration) {
		if f.shards.followers[f.number] == f {
			news(f.shards.core, now)
		}
	})
}

// Reset implements follow.Sink.
func (f *shardFollower) Reset(kvs []*mvccpb.KeyValue, revision int64) {
	entries, held, sums := make([]core.Entry, 0, len(kvs)), []core.ClaimKey(nil), []core.SummaryKey(nil)
	trails, records, retries := []core.TrailKey(nil), []core.QuarantineKey(nil), []core.RetryKey(nil)
	spelled := spell(len(kvs), func(i int) *mvccpb.KeyValue { return kvs[i] })
	for i, kv := range kvs {
		switch key := f.parse(spelled(i)); key.Kind {
		case keys.Resource:
			e, ok := f.entry(key.ID, kv)
			if !ok {
				e = core.Entry{ID: key.ID, Unreadable: true}
			}
			entries = append(entries, e)
		case keys.Claim:
			held = append(held, claimKey(key.ID, kv))
		case keys.Summary:
			sums = append(sums, summaryKey(key, kv))
		case keys.Trail:
			trails = append(trails, f.trailKey(key, kv))
		case keys.Quarantine:
			if q, ok := f.quarantineKey(key.ID, kv); ok {
				records = append(records, q)
			}
		case keys.Retry:
			retries = append(retries, retryKey(strings.Clone(key.ID), kv))
		default:
		}
	}
	compact(entries)
	f.post(func(c *core.Core, now time.Duration) {
		c.ListTraces(now, f.number, revision, trails, records)
		c.Snapshot(now, f.number, revision, entries, held, sums)
		c.ListRetries(now, f.number, retries)
	})
}

// Apply implements follow.Sink.
func (f *shardFollower) Apply(events []*clientv3.Event, _ int64) {
	all := make([]news, 0, len(events))
	spelled := spell(len(events), func(i int) *mvccpb.KeyValue { return events[i].Kv })
	for i, ev := range events {
		n := news{key: f.parse(spelled(i)), delete: ev.Type == clientv3.EventTypeDelete}
		ok := true
		switch n.key.Kind {
		case keys.Resource:
			if !n.delete {
				n.entry, ok = f.entry(n.key.ID, ev.Kv)
				n.entry.Data = bytes.Clone(n.entry.Data) // it would keep the whole answer of etcd in memory
			}
		case keys.Claim:
			n.claim = claimKey(n.key.ID, ev.Kv)
		case keys.Summary:
			n.sum = summaryKey(n.key, ev.Kv)
		case keys.Trail:
			n.trail = f.trailKey(n.key, ev.Kv)
		case keys.Quarantine:
			if n.record.Token = ev.Kv.ModRevision; !n.delete {
				n.record, ok = f.quarantineKey(n.key.ID, ev.Kv)
			}
		case keys.Retry:
			n.retry = retryKey(n.key.ID, ev.Kv)
		default:
			ok = false
		}
		if ok {
			all = append(all, n)
		}
	}
	f.post(func(c *core.Core, now time.Duration) {
		for i := range all {
			all[i].tell(c, now, f.number)
		}
	})
}

// news is a change of a key of a shard.
type news struct {
	key    keys.Key
	delete bool
	entry  core.Entry
	claim  core.ClaimKey
	sum    core.SummaryKey
	trail  core.TrailKey
	record core.QuarantineKey // if it was deleted, Token is the revision of that
	retry  core.RetryKey
}

// tell tells the core.
func (n *news) tell(c *core.Core, now time.Duration, shard int) {
	switch n.key.Kind {
	case keys.Resource:
		if n.delete {
			c.EntryDeleted(now, shard, n.key.ID)
		} else {
			c.EntryPut(now, shard, n.entry)
		}
	case keys.Summary:
		if n.delete {
			c.SummaryDeleted(now, shard, n.sum.Lease, n.sum.ModRevision)
		} else {
			c.SummaryPut(now, shard, n.sum)
		}
	case keys.Trail:
		if n.delete {
			c.TrailDeleted(now, shard, n.trail.Lease, n.trail.ModRevision)
		} else {
			c.TrailPut(now, shard, n.trail)
		}
	case keys.Quarantine:
		if n.delete {
			c.QuarantineDeleted(now, shard, n.key.ID, n.record.Token)
		} else {
			c.QuarantinePut(now, shard, n.record)
		}
	case keys.Retry:
		if n.delete {
			c.RetryDeleted(now, shard, n.key.ID, n.retry.ModRevision)
		} else {
			c.RetryPut(now, shard, n.retry)
		}
	default:
		if n.delete {
			c.ClaimDeleted(now, shard, n.key.ID, n.claim.ModRevision)
		} else {
			c.ClaimPut(now, shard, n.claim)
		}
	}
}

// parse parses a key of the shard. It returns the zero Key for a key that DRM would not have put there: if an id were
// accepted in a shard that is not its own, two members would take it for theirs.
func (f *shardFollower) parse(spelled string) keys.Key {
	key := f.shards.layout.Parse(spelled)
	if key.Kind == keys.Foreign || key.Home(f.shards.count) != f.number {
		f.shards.failures.Add(failures.Failure{
			Message: "a key that does not belong here is ignored",
			Level:   zap.WarnLevel,
			Fields:  []zap.Field{zap.String("key", spelled)},
		})
		return keys.Key{}
	}
	return key
}

// compact copies all ids into one piece of memory, and all data into another, so that the entries do not keep the list
// that they came from in memory.
func compact(entries []core.Entry) {
	ids, data := 0, 0
	for i := range entries {
		ids += len(entries[i].ID)
		data += len(entries[i].Data)
	}
	var b strings.Builder
	b.Grow(ids)
	for i := range entries {
		b.WriteString(entries[i].ID)
	}
	id, all := b.String(), make([]byte, 0, data)
	for i := range entries {
		e := &entries[i]
		e.ID, id = id[:len(e.ID)], id[len(e.ID):]
		from := len(all)
		all = append(all, e.Data...)
		e.Data = all[from:len(all):len(all)]
	}
}

// spell converts n keys to strings, which share one piece of memory, because there may be a million of them.
func spell(n int, kv func(i int) *mvccpb.KeyValue) func(i int) string {
	ends, size := make([]int, n+1), 0
	for i := range n {
		size += len(kv(i).Key)
		ends[i+1] = size
	}
	var b strings.Builder
	b.Grow(size)
	for i := range n {
		b.Write(kv(i).Key)
	}
	all := b.String()
	return func(i int) string { return all[ends[i]:ends[i+1]] }
}

func (f *shardFollower) entry(id string, kv *mvccpb.KeyValue) (core.Entry, bool) {
	e, err := catalogue.DecodeOf(id, kv.Value)
	if err != nil {
		f.shards.failures.Add(failures.Failure{
			Message: "a corrupt catalogue entry is ignored", Level: zap.WarnLevel, Resource: id, Error: err.Error(),
		})
		return core.Entry{}, false
	}
	entry := core.Entry{ID: id, Suspended: e.Suspended, Data: e.Data}
	if f.shards.weigh != nil {
		if entry.Weight, err = f.shards.weigh(e.Data); err != nil {
			f.shards.failures.Add(failures.Failure{
				Message: "a resource has no weight; it counts as 1", Level: zap.WarnLevel, Resource: id,
				Error: err.Error(),
			})
		}
	}
	return entry, true
}

func claimKey(id string, kv *mvccpb.KeyValue) core.ClaimKey {
	return core.ClaimKey{ID: id, Token: kv.CreateRevision, ModRevision: kv.ModRevision, Lease: kv.Lease}
}

// retryKey returns what the key of an order to try a resource again says. Its value is for people, so any will do.
func retryKey(id string, kv *mvccpb.KeyValue) core.RetryKey {
	return core.RetryKey{ID: id, ModRevision: kv.ModRevision}
}

// summaryKey returns what a summary's key says. A summary that cannot be decoded says nothing about any claim.
func summaryKey(key keys.Key, kv *mvccpb.KeyValue) core.SummaryKey {
	k := core.SummaryKey{Lease: key.Lease, ModRevision: kv.ModRevision}
	if s, err := claims.DecodeSummaryOf(key, kv); err == nil {
		k.Through = s.Through
	}
	return k
}
