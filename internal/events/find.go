package events

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
)

const (
	// near is within how many revisions find is content: reading that many takes less time than another look.
	near = 2000
	// looks is how many answers of a watch are read to find a time, at most.
	looks = 5
)

// find returns a revision before which nothing is known to have happened after a time. It is one of the last of these:
// at most near revisions are before it that also could be. head is etcd's revision. etcd keeps no times, so find looks
// at the values of a few changes, and searches by halves: clocks of members that are wrong make it less exact. short
// says that the revision is the first of which etcd has all changes, and that nothing shows that it is from before the
// time.
func (t *tail) find(ctx context.Context, after time.Time, head int64) (from int64, short bool, err error) {
	oldest, err := t.oldest(ctx)
	if err != nil {
		return 0, false, err
	}
	low := oldest
	for high := head + 1; high-low > near; {
		middle := low + (high-low)/2
		before, err := t.isBefore(ctx, middle, after)
		if err != nil {
			return 0, false, err
		}
		if before {
			low = middle
		} else {
			high = middle
		}
	}
	if low > oldest || oldest == 1 { // there was nothing before the first revision
		return low, false, nil
	}
	before := false
	if oldest <= head {
		before, err = t.isBefore(ctx, oldest, after)
	}
	return oldest, !before, err
}

// isBefore says whether a change at a revision, or soon after it, is known to have happened before a time.
func (t *tail) isBefore(ctx context.Context, revision int64, when time.Time) (bool, error) {
	at, known, err := t.timeAt(ctx, revision)
	return known && at.Before(when), err
}

// oldest returns the first revision of which etcd has all changes.
func (t *tail) oldest(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), t.Timeout)
	defer cancel()
	for resp := range t.Client.Watch(ctx, t.Layout.Config(), clientv3.WithRev(1), clientv3.WithCreatedNotify()) {
		switch {
		case resp.CompactRevision != 0:
			return resp.CompactRevision + 1, nil // what was deleted at that revision itself is gone
		case resp.Err() != nil:
			return 0, etcd.Unreachable(ctx, resp.Err())
		case len(resp.Events) > 0 || resp.IsProgressNotify():
			return 1, nil
		}
		if err := t.Client.RequestProgress(ctx); err != nil {
			return 0, etcd.Unreachable(ctx, err)
		}
	}
	return 1, nil // nobody has said that anything was compacted
}

// timeAt returns the first time that is known of a change at a revision or soon after it.
func (t *tail) timeAt(ctx context.Context, revision int64) (at time.Time, known bool, err error) {
	all := span{t.Layout.Root(), clientv3.GetPrefixRangeEnd(t.Layout.Root())}
	stream, err := t.open(ctx, []span{all}, revision, t.Timeout)
	if err != nil {
		return time.Time{}, false, err
	}
	defer stream.close()
	stream.wants.Store(true)
	d := newDecoder(t.Layout, t.Shards, revision, nil, &picker{})
	for range looks {
		_, answer, err := stream.recv()
		var behind *behindError
		switch {
		case errors.As(err, &behind):
			return time.Time{}, true, nil // so it is older than anything that is looked for
		case err != nil:
			return time.Time{}, false, etcd.Unreachable(ctx, err)
		case answer.Count == 0: // there is nothing more
			return time.Time{}, false, nil
		}
		for c, err := range answer.Events() {
			if err != nil {
				return time.Time{}, false, err
			}
			if at := firstTime(d, c); !at.IsZero() {
				return at, true, nil
			}
		}
	}
	return time.Time{}, false, nil
}

// firstTime returns the first time that the value of a change says; zero if it says none.
func firstTime(d *Decoder, c *clientv3.Event) time.Time {
	for _, e := range d.Decode(c.Kv.ModRevision, []*clientv3.Event{c}) {
		if !e.Time.IsZero() {
			return e.Time
		}
	}
	return time.Time{}
}
