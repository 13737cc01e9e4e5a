package follow

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A range of keys is the same at two revisions if, at the later one, it has as many keys as at the earlier one, and
// none of them was modified after that. For a key that was modified before has been there all the time; so nothing was
// added, and as many keys as are gone would have to be new. etcd tells both in one small answer.
//
// If it is known when a key was modified last at the earlier revision, that must be the same too. It follows from the
// above, unless etcd has lost writes and made up for their revisions unnoticed: it was restored from a snapshot.

// mostSorted is how many keys a range may have to be asked about as a whole. etcd reads and sorts all of them to find
// the one that was modified last.
const mostSorted = 4096

// prove reports whether etcd shows that nothing below the reader's prefix has changed since the last list, so that
// nothing can have been missed. If so, it sets when that is due again. No event must have come since the list. With an
// error of etcd, it has shown neither that nor the opposite.
func (h *Hub) prove(ctx context.Context, r *reader) (same bool, err error) {
	at := &r.at
	asked := time.Now()
	rev, when := int64(0), asked
	if r.part != nil {
		if w := r.part.of.whole; w.refresh(ctx, h) {
			rev, when, same = w.to, w.asked, w.proves(r.prefix, at)
			<-w.turn
		}
	}
	if !same {
		resp, header, err := h.firsts.read(ctx, h, latest(r.prefix))
		if err != nil {
			return false, err
		}
		rev, when = header, asked
		same = unchanged(resp, int64(at.keys), at.sure, at.latest)
	}
	if same {
		at.sure, at.resync = rev, when.Add(h.resyncAfter())
	}
	return same, nil
}

// latest asks for the key below a prefix that was modified last, and for the number of keys.
func latest(prefix string) *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix)), Limit: 1, KeysOnly: true,
		SortOrder: pb.RangeRequest_DESCEND, SortTarget: pb.RangeRequest_MOD,
	}
}

// unchanged reports whether an answer to latest shows that a range is what it was at a revision, when it had so many
// keys, of which the latest one was modified at a given revision; 0: that is not known.
func unchanged(resp *pb.RangeResponse, keys, since, last int64) bool {
	modified := lastOf(resp.Kvs)
	return resp.Count == keys && modified <= since && (last == 0 || modified == last)
}

// lastOf returns the revision at which one of some keys was modified last; 0: there are none.
func lastOf(kvs []*mvccpb.KeyValue) (last int64) {
	for _, kv := range kvs {
		last = max(last, kv.ModRevision)
	}
	return last
}

// wholes are the ranges of which parts are followed. The zero value is ready for use.
type wholes struct {
	mu sync.Mutex
	by map[string]*whole
}

// whole is what is known about a range.
type whole struct {
	prefix string
	huge   atomic.Bool   // it had far too many keys to be watched as a whole when they were counted last
	about  atomic.Int64  // how many keys it has about, by the last count and the events of its watches since
	users  int           // how many Parts are of it; guarded by wholes
	turn   chan struct{} // holds a token while somebody asks, and guards what follows

	from, to int64            // the range was the same at all revisions in between; to is 0 if nothing is known
	keys     int64            // how many keys it had
	latest   int64            // the revision at which one of them was modified last; 0: not known
	asked    time.Time        // when etcd was asked for what it is at the revision to
	parts    map[string]state // what its parts had at the revision from; nil: not known
	large    time.Time        // until when its parts are watched each by itself, however few keys it has
	failed   time.Time        // when etcd was last asked, and gave no answer
}

// state is what a part of a range has.
type state struct {
	keys   int   // how many keys
	latest int64 // the revision at which one of them was modified last
}

// use returns what is known about a range, and keeps it until done is called.
func (ws *wholes) use(prefix string) (w *whole, done func()) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.by == nil {
		ws.by = map[string]*whole{}
	}
	if ws.by[prefix] == nil {
		ws.by[prefix] = &whole{prefix: prefix, turn: make(chan struct{}, 1)}
	}
	w = ws.by[prefix]
	w.users++
	return w, func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		if w.users--; w.users == 0 {
			delete(ws.by, prefix)
		}
	}
}

// proves reports whether what is known of the range shows that a part of it, with that prefix, is at the revision to
// what it was when a reader was at a place. The caller holds the turn.
func (w *whole) proves(prefix string, at *place) bool {
	if w.from <= at.sure && at.sure <= w.to {
		return true
	}
	p := w.parts[prefix]
	return w.parts != nil && at.sure < w.from && p.keys == at.keys && p.latest == at.latest
}

// small reports whether a range has so few keys that one watch serves all of its parts.
func (w *whole) small(ctx context.Context, h *Hub) bool {
	if w.huge.Load() || !w.refresh(ctx, h) { // to count so many would delay a takeover
		return false
	}
	defer func() { <-w.turn }()
	return w.keys <= mostGathered && time.Now().After(w.large)
}

// apart notes that the parts of a range are to be watched each by itself for a while.
func (w *whole) apart(ctx context.Context, h *Hub) {
	select {
	case w.turn <- struct{}{}:
		w.large = time.Now().Add(h.opts.Resync)
		<-w.turn
	case <-ctx.Done():
	}
}

// refresh takes the turn, and asks etcd about the range unless that was done a short time ago. It returns false,
// without the turn, if that fails, has failed a short time ago, or takes somebody else too long: hundreds of readers
// that wait for one failure after the other would hear of nothing else for as long.
func (w *whole) refresh(ctx context.Context, h *Hub) bool {
	waiting, cancel := context.WithTimeout(ctx, h.opts.ListTimeout)
	defer cancel()
	select {
	case w.turn <- struct{}{}:
	case <-waiting.Done():
		return false
	}
	lasts := h.opts.Resync / 10
	if w.keys > mostSorted { // nothing will be proven, and to count so many is not cheap
		lasts = 4 * h.opts.Resync
	}
	if time.Since(w.asked) < lasts {
		return true
	}
	if time.Since(w.failed) >= h.opts.ListTimeout {
		if w.ask(ctx, h) == nil {
			return true
		}
		if ctx.Err() == nil {
			w.failed = time.Now()
		}
	}
	<-w.turn
	return false
}

// ask asks etcd how many keys the range has, and then whether any of them has changed. If so, and they are few, it asks
// when each of them was modified.
func (w *whole) ask(ctx context.Context, h *Hub) error {
	asked := time.Now()
	count := latest(w.prefix)
	count.CountOnly, count.KeysOnly, count.Limit = true, false, 0
	count.SortOrder, count.SortTarget = pb.RangeRequest_NONE, pb.RangeRequest_KEY
	resp, err := h.page(ctx, count)
	if err != nil {
		return fmt.Errorf("count %s: %w", w.prefix, err)
	}
	rev := resp.GetHeader().GetRevision()
	same := w.to > 0 && resp.Count == w.keys && resp.Count <= mostSorted
	if same {
		asked = time.Now()
		if resp, err = h.page(ctx, latest(w.prefix)); err != nil {
			return fmt.Errorf("look for changes of %s: %w", w.prefix, err)
		}
		rev = resp.GetHeader().GetRevision()
		same = unchanged(resp, w.keys, w.to, w.latest)
	}
	var parts map[string]state
	if !same && w.to > 0 && resp.Count <= mostSorted {
		asked = time.Now()
		all := latest(w.prefix)
		all.Limit, all.SortOrder, all.SortTarget = 0, pb.RangeRequest_NONE, pb.RangeRequest_KEY
		if resp, err = h.page(ctx, all); err != nil {
			return fmt.Errorf("look at %s: %w", w.prefix, err)
		}
		rev, parts = resp.GetHeader().GetRevision(), partsOf(w.prefix, resp.Kvs)
	}
	w.to, w.keys, w.latest, w.asked = rev, resp.Count, lastOf(resp.Kvs), asked
	w.huge.Store(w.keys > 4*mostGathered)
	w.about.Store(w.keys)
	if !same {
		w.from, w.parts = rev, parts
	}
	return nil
}

// partsOf returns what each part of a range has.
func partsOf(prefix string, kvs []*mvccpb.KeyValue) map[string]state {
	parts := map[string]state{}
	for _, kv := range kvs {
		name := string(partOf(prefix, kv.Key))
		p := parts[name]
		parts[name] = state{p.keys + 1, max(p.latest, kv.ModRevision)}
	}
	return parts
}
