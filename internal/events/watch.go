package events

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/follow"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

const (
	// mostLanes is how many watches there are at most. Of more, one of everything is cheaper.
	mostLanes = 12
	// mostApart is how many changes wait at most because another watch may have older ones.
	mostApart = 20_000
	// askEvery is how often etcd is asked how far the watches are, while that matters.
	askEvery = 50 * time.Millisecond
	// probeEvery is how often it is checked that etcd answers: a watch of etcd's client reconnects silently.
	probeEvery = 5 * time.Second
	// passEvery is how often etcd is asked how far the watches are while nothing happens in the app, so that they need
	// not go on from a revision that was compacted long ago.
	passEvery = 20 * time.Second
)

// span is the keys from key up to end, without end; with no end, the one key.
type span struct{ key, end string }

// spans are the keys to be watched, if not all are.
func (t *tail) spans() []span {
	families := t.o.Filter.families()
	root := span{t.Layout.Root(), clientv3.GetPrefixRangeEnd(t.Layout.Root())}
	if families == anywhere {
		return []span{root}
	}
	below := func(prefix string) span { return span{prefix, clientv3.GetPrefixRangeEnd(prefix)} }
	var all []span
	for _, s := range []struct {
		of family
		span
	}{
		{inGroup, below(t.Layout.Group())},
		{inOrders, below(t.Layout.Orders())},
		{inSource, span{key: t.Layout.Source()}},
		{inAlone, span{key: t.Layout.Alone()}},
		{inDeaths, below(t.Layout.AllDeaths())},
		{inLives, below(t.Layout.AllLives())},
		{inApp, span{key: t.Layout.Config()}},
		{inApp, span{key: t.Layout.Reshard()}},
	} {
		if families&s.of != 0 {
			all = append(all, s.span)
		}
	}
	if families&inShards != 0 {
		if t.pick.shards == nil {
			all = append(all, below(t.Layout.Shards()))
		}
		for n := range t.pick.shards {
			all = append(all, below(t.Layout.Shard(n)))
		}
	}
	if families&byCommand != 0 && families&inOrders == 0 { // who has made the changes is among the orders
		all = append(all, span{key: t.Layout.Deed()})
	}
	if len(all) > mostLanes {
		return []span{root}
	}
	return all
}

// lane is one watch.
type lane struct {
	seen  int64 // all changes up to this revision have come
	queue []*clientv3.Event
}

// watch tells all changes from the next revision on, until it has told all that there is to tell (nil), or an error.
func (t *tail) watch(ctx context.Context) error {
	if !t.caught {
		if err := t.history(ctx); err != nil {
			return err
		}
	}
	if !t.o.Follow {
		return nil
	}
	spans := t.spans()
	stream, err := t.open(ctx, spans, t.next, 0) // the probe tells of outages
	if err != nil {
		return err
	}
	defer stream.close()
	lanes := make([]lane, len(spans))
	for i := range lanes {
		lanes[i].seen = t.next - 1
	}
	for {
		stream.wants.Store(apart(lanes))
		n, answer, err := stream.recv()
		if err != nil {
			return etcd.Unreachable(ctx, err)
		}
		about := lanes
		if n >= 0 {
			about = lanes[n : n+1]
		}
		for i := range about {
			if err := about[i].take(answer); err != nil {
				return err
			}
		}
		if err := t.advance(ctx, lanes); err != nil {
			return err
		}
	}
}

// apart says whether one watch has received something that waits for another one.
func apart(lanes []lane) bool {
	return slices.ContainsFunc(lanes, func(l lane) bool { return len(l.queue) > 0 })
}

// advance tells of all changes that no watch can have older ones of.
func (t *tail) advance(ctx context.Context, lanes []lane) error {
	upTo, waiting := lanes[0].seen, 0
	for _, l := range lanes {
		upTo = min(upTo, l.seen)
		waiting += len(l.queue)
	}
	if err := t.decode(ctx, merge(lanes, upTo)); err != nil {
		return err
	}
	t.next = max(t.next, upTo+1)
	switch {
	case t.decoder.shards != t.Shards:
		t.resize(t.decoder.shards)
		return errOthers
	case waiting <= mostApart || len(lanes) == 1:
		return nil
	}
	t.caught = false // so much has happened that one watch of everything is better
	head, err := t.head(ctx)
	if err != nil {
		return err
	}
	t.target = max(t.target, head)
	return errApart
}

// merge takes the changes up to a revision out of the lanes, by revision.
func merge(lanes []lane, upTo int64) iter.Seq[[]*clientv3.Event] {
	return func(yield func([]*clientv3.Event) bool) {
		for {
			first := upTo + 1
			for i := range lanes {
				if q := lanes[i].queue; len(q) > 0 {
					first = min(first, q[0].Kv.ModRevision)
				}
			}
			if first > upTo {
				return
			}
			var changes []*clientv3.Event
			for i := range lanes {
				q, n := lanes[i].queue, 0
				for n < len(q) && q[n].Kv.ModRevision == first {
					n++
				}
				changes = append(changes, q[:n]...)
				clear(q[:n]) // they may be large
				if lanes[i].queue = q[n:]; len(lanes[i].queue) == 0 {
					lanes[i].queue = nil
				}
			}
			if !yield(inOrder(changes)) {
				return
			}
		}
	}
}

// probe asks etcd now and then whether it answers, and tells of outages.
func (t *tail) probe(ctx context.Context) {
	out, latest := false, int64(0)
	for {
		asking, cancel := context.WithTimeout(ctx, min(t.Timeout, probeEvery))
		resp, err := t.Client.Get(asking, t.Layout.Config(), clientv3.WithKeysOnly())
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !out:
			out = true
			t.tell(etcd.Unreachable(ctx, err))
		case err == nil && out:
			out = false
			t.tell(nil)
		}
		if err == nil {
			if resp.Header.Revision < latest {
				t.cancel(fmt.Errorf("%w: it is at revision %d, and was at %d", follow.ErrRewound,
					resp.Header.Revision, latest))
				return
			}
			latest = resp.Header.Revision
		}
		pause := time.NewTimer(probeEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

func (t *tail) tell(err error) {
	if t.o.Lost != nil {
		t.o.Lost(err)
	}
}

// oracle answers a decoder's questions by asking etcd.
type oracle struct {
	t   *tail
	ask func() (context.Context, context.CancelFunc) // makes the context of a question
	// lives has the leases that were there at a revision, and ended those that have ended.
	lives map[int64]int64
	ended map[int64]bool
}

// mostLeases is how many leases an oracle remembers.
const mostLeases = 10_000

// Lease implements Oracle. It asks about a lease once for all revisions up to that of the answer.
func (o *oracle) Lease(lease, revision int64) LeaseState {
	switch {
	case o.ended[lease]:
		return LeaseEnded
	case o.lives[lease] >= revision:
		return LeaseLives
	}
	ctx, cancel := o.ask()
	defer cancel()
	resp, err := o.t.Client.TimeToLive(ctx, clientv3.LeaseID(lease))
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return LeaseUnknown
	}
	if len(o.lives)+len(o.ended) >= mostLeases || o.lives == nil {
		o.lives, o.ended = map[int64]int64{}, map[int64]bool{}
	}
	if err != nil || resp.TTL <= 0 {
		o.ended[lease] = true
		return LeaseEnded
	}
	o.lives[lease] = resp.Revision
	if resp.Revision < revision { // another server of the cluster has answered, which lags behind
		return LeaseUnknown
	}
	return LeaseLives
}

// Through implements Oracle.
func (o *oracle) Through(n int, lease, revision int64) int64 {
	ctx, cancel := o.ask()
	defer cancel()
	resp, err := o.t.get(ctx, o.t.Layout.Summary(n, lease), clientv3.WithRev(revision-1))
	if err != nil {
		return 0 // then an event may say once more that a resource is active
	}
	for _, kv := range resp.Kvs {
		if s, err := claims.DecodeSummaryOf(o.t.Layout.Parse(string(kv.Key)), kv); err == nil {
			return s.Through
		}
	}
	return 0
}

// Plain implements Oracle.
func (o *oracle) Plain(n int, lease, revision, after, through int64, add func(id string)) bool {
	ctx, cancel := o.ask()
	defer cancel()
	from, end := o.t.Layout.Claims(n), clientv3.GetPrefixRangeEnd(o.t.Layout.Claims(n))
	for {
		resp, err := o.t.page(ctx, from, end, revision)
		if err != nil {
			return false
		}
		for _, kv := range resp.Kvs {
			key := o.t.Layout.Parse(string(kv.Key))
			if key.Kind != keys.Claim || kv.Lease != lease || kv.ModRevision <= after || kv.ModRevision > through {
				continue
			}
			if r, ok := claimOf(kv); ok && r.State == claims.Claimed {
				add(key.ID)
			}
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return true
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}
