package events

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/wire"
)

// etcd sends its history in answers of 1,000 revisions, and to find each of them it reads all that follows: what a long
// history costs grows with the square of its length. But it reads that once for all watches that wait for something. So
// several watches read parts of the history, each in one answer, as far as the answers are small; one after another, a
// history of single writes would take minutes.
const (
	// fullAnswer is how many revisions etcd puts into one answer. Where it is another number, this only takes longer.
	fullAnswer = 1000
	// mostStripes is how many watches read parts of the history at a time. etcd's work for each event grows with it.
	mostStripes = 16
	// stripeBytes is how large the answers of all of them may be together, about.
	stripeBytes = 8 << 20
)

// measure is what is known of the answers to come, from the last ones.
type measure struct {
	bytes  int   // of an answer
	span   int64 // how many of etcd's revisions a full one is about; 0: none was full
	widest int   // how many watches there were last
}

// note notes an answer that was about all revisions from one up to another, with changes in some of them.
func (m *measure) note(bytes, revisions int, from, upTo int64) {
	m.bytes = max(m.bytes, bytes)
	if span := upTo - from + 1; revisions >= fullAnswer && (m.span == 0 || span < m.span) {
		m.span = span
	}
}

// width is how many watches are to read next.
func (m *measure) width() int {
	if m.span == 0 || m.bytes == 0 {
		return 1
	}
	return max(1, min(mostStripes, 4*m.widest, stripeBytes/m.bytes))
}

// history tells all that had happened when the feed began.
func (t *tail) history(ctx context.Context) error {
	for m := (&measure{widest: 1}); t.next <= t.target; {
		width := m.width()
		*m = measure{bytes: m.bytes, span: m.span, widest: width}
		var err error
		if width == 1 {
			err = t.along(ctx, m)
		} else {
			err = t.stripes(ctx, width, m)
		}
		if err != nil {
			return err
		}
	}
	if err := t.send(ctx, t.late.rest()); err != nil {
		return err
	}
	t.late, t.caught = nil, true
	return nil
}

// all is the span of all keys of the app. Watches of several ranges are put in order by what etcd says of how far they
// are, which it says only when all of them have read their history.
func (t *tail) all() []span {
	return []span{{t.Layout.Root(), clientv3.GetPrefixRangeEnd(t.Layout.Root())}}
}

// along reads the history with one watch, until there is no more, or several are better.
func (t *tail) along(ctx context.Context, m *measure) error {
	stream, err := t.open(ctx, t.all(), t.next, t.Timeout)
	if err != nil {
		return err
	}
	defer stream.close()
	stream.wants.Store(true)
	for *m = (measure{widest: 1}); t.next <= t.target && m.width() == 1; {
		_, answer, err := stream.recv()
		if err != nil {
			return etcd.Unreachable(ctx, err)
		}
		*m = measure{widest: 1}
		if err := t.read(ctx, answer, t.next, m); err != nil {
			return err
		}
	}
	return nil
}

// stripes reads some parts of the history, each with a watch that ends with its first answer, so that etcd does not
// read on for a slow reader.
func (t *tail) stripes(ctx context.Context, width int, m *measure) error {
	type result struct {
		*wire.Watched
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	span := m.span
	*m = measure{widest: width}
	var begins []int64
	for begin := t.next; begin <= t.target && len(begins) < width; begin += span {
		begins = append(begins, begin)
	}
	results := make([]chan result, len(begins))
	for i, begin := range begins {
		results[i] = make(chan result, 1)
		reading.Go(func() {
			stream, err := t.open(ctx, t.all(), begin, t.Timeout)
			if err != nil {
				results[i] <- result{nil, err}
				return
			}
			defer stream.close()
			stream.wants.Store(true)
			_, answer, err := stream.recv()
			results[i] <- result{answer, err}
		})
	}
	answers := make([]*wire.Watched, len(begins))
	for i := range begins {
		one := <-results[i]
		if one.err != nil {
			return etcd.Unreachable(ctx, one.err)
		}
		answers[i] = one.Watched
	}
	// If etcd has this now, it had compacted nothing of what it has answered.
	if _, err := t.get(ctx, t.Layout.Config(), clientv3.WithRev(t.next-1), clientv3.WithKeysOnly()); err != nil {
		return err
	}
	for i, begin := range begins {
		if begin > t.next { // these revisions have more than those before had, so that some are missing
			return nil
		}
		if err := t.read(ctx, answers[i], begin, m); err != nil {
			return err
		}
		answers[i] = nil
	}
	return nil
}

// read tells what an answer says of all revisions from one on, but for those that were told.
func (t *tail) read(ctx context.Context, answer *wire.Watched, from int64, m *measure) error {
	if answer.Count == 0 {
		t.next = max(t.next, answer.Head.Header.GetRevision()+1)
		return nil
	}
	var bad error
	n, last := 0, from-1
	err := t.decode(ctx, func(yield func([]*clientv3.Event) bool) {
		for changes, err := range revisions(answer) {
			if err != nil {
				bad = err
				return
			}
			n, last = n+1, changes[0].Kv.ModRevision
			if last >= t.next && !yield(changes) {
				return
			}
		}
	})
	switch {
	case err != nil:
		return err
	case bad != nil:
		return bad
	}
	m.note(answer.Bytes, n, from, last)
	t.next = max(t.next, last+1)
	if t.decoder.shards != t.Shards {
		t.resize(t.decoder.shards)
	}
	return nil
}

// revisions yields the changes of each revision in an answer.
func revisions(answer *wire.Watched) iter.Seq2[[]*clientv3.Event, error] {
	return func(yield func([]*clientv3.Event, error) bool) {
		var changes []*clientv3.Event
		for e, err := range answer.Events() {
			if err != nil {
				yield(nil, err)
				return
			}
			if len(changes) > 0 && e.Kv.GetModRevision() != changes[0].Kv.ModRevision {
				if !yield(inOrder(changes), nil) {
					return
				}
				changes = nil
			}
			changes = append(changes, e)
		}
		if len(changes) > 0 {
			yield(inOrder(changes), nil)
		}
	}
}

// inOrder puts the changes of a revision into the same order whichever keys are watched, so that an event has the same
// Index.
func inOrder(changes []*clientv3.Event) []*clientv3.Event {
	slices.SortStableFunc(changes, func(a, b *clientv3.Event) int { return bytes.Compare(a.Kv.Key, b.Kv.Key) })
	return changes
}
