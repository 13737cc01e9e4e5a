package follow

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A range of keys is the same at two revisions if, at the later one, it has as many keys as at the earlier one, and
// none of them was modified after that. For a key that was modified before has been there all the time; so nothing was
// added, and as many keys as are gone would have to be new. etcd tells both in one small answer.

// mostSorted is how many keys a range may have to be asked about as a whole. etcd reads and sorts all of them to find
// the one that was modified last.
const mostSorted = 4096

// prove reports whether etcd shows that nothing below the reader's prefix has changed since the last list, so that
// nothing can have been missed. If so, it sets when that is due again. No event must have come since the list.
func (h *Hub) prove(ctx context.Context, r reader, at *place) bool {
	asked := time.Now()
	rev, when, same := int64(0), asked, false
	if r.within != "" {
		rev, when, same = h.wholes.same(ctx, h, r.within, at.sure)
	}
	if !same {
		resp, header, err := h.firsts.read(ctx, h, latest(r.prefix))
		rev, when = header, asked
		same = err == nil && unchanged(resp, int64(at.keys), at.sure)
	}
	if same {
		at.sure, at.resync = rev, when.Add(h.resyncAfter())
	}
	return same
}

// latest asks for the key below a prefix that was modified last, and for the number of keys.
func latest(prefix string) *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix)), Limit: 1, KeysOnly: true,
		SortOrder: pb.RangeRequest_DESCEND, SortTarget: pb.RangeRequest_MOD,
	}
}

// unchanged reports whether an answer to latest shows that a range is what it was at a revision, when it had so many
// keys.
func unchanged(resp *pb.RangeResponse, keys, since int64) bool {
	return resp.Count == keys && (len(resp.Kvs) == 0 || resp.Kvs[0].ModRevision <= since)
}

// wholes are the ranges of which parts are followed. The zero value is ready for use.
type wholes struct {
	mu sync.Mutex
	by map[string]*whole
}

// whole is what is known about a range.
type whole struct {
	users int           // how many parts of it are followed; guarded by wholes
	turn  chan struct{} // holds a token while somebody asks, and guards what follows

	from, to int64     // the range was the same at all revisions in between; to is 0 if nothing is known
	keys     int64     // how many keys it had
	asked    time.Time // when etcd was asked for what it is at the revision to
}

// use keeps what is known about a range until done is called.
func (ws *wholes) use(prefix string) (done func()) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.by == nil {
		ws.by = map[string]*whole{}
	}
	if ws.by[prefix] == nil {
		ws.by[prefix] = &whole{turn: make(chan struct{}, 1)}
	}
	w := ws.by[prefix]
	w.users++
	return func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		if w.users--; w.users == 0 {
			delete(ws.by, prefix)
		}
	}
}

func (ws *wholes) of(prefix string) *whole {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.by[prefix]
}

// same reports whether a range has not changed since a revision, and up to which revision that is certain. when is the
// moment at which etcd was asked for that: what one reader was told counts for others that ask soon after.
func (ws *wholes) same(ctx context.Context, h *Hub, prefix string, since int64) (rev int64, when time.Time, ok bool) {
	w := ws.of(prefix)
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return 0, when, false
	}
	lasts := h.opts.Resync / 10
	if w.keys > mostSorted { // nothing will be proven, and to count so many is not cheap
		lasts = 4 * h.opts.Resync
	}
	if time.Since(w.asked) >= lasts {
		if err := w.ask(ctx, h, prefix); err != nil {
			return 0, when, false // nothing is proven
		}
	}
	return w.to, w.asked, w.from <= since && since <= w.to
}

// ask asks etcd how many keys the range has, and then whether any of them has changed.
func (w *whole) ask(ctx context.Context, h *Hub, prefix string) error {
	asked := time.Now()
	count := latest(prefix)
	count.CountOnly, count.KeysOnly, count.Limit = true, false, 0
	count.SortOrder, count.SortTarget = pb.RangeRequest_NONE, pb.RangeRequest_KEY
	resp, err := h.page(ctx, count)
	if err != nil {
		return fmt.Errorf("count %s: %w", prefix, err)
	}
	rev := resp.GetHeader().GetRevision()
	same := w.to > 0 && resp.Count == w.keys && resp.Count <= mostSorted
	if same {
		asked = time.Now()
		if resp, err = h.page(ctx, latest(prefix)); err != nil {
			return fmt.Errorf("look for changes of %s: %w", prefix, err)
		}
		rev = resp.GetHeader().GetRevision()
		same = unchanged(resp, w.keys, w.to)
	}
	w.to, w.keys, w.asked = rev, resp.Count, asked
	if !same {
		w.from = rev
	}
	return nil
}
