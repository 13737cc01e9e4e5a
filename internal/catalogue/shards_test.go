package catalogue_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// together is a lister that answers no list before so many are being asked for.
type together struct {
	lister
	want  int32
	asked atomic.Int32
	all   chan struct{} // closed when they are
}

func (l *together) List(ctx context.Context, prefix string) ([]*mvccpb.KeyValue, int64, error) {
	if l.asked.Add(1) == l.want {
		close(l.all)
	}
	select {
	case <-l.all:
		return l.lister.List(ctx, prefix)
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

// A catalogue of a thousand shards that is read shard by shard keeps a start waiting for a thousand round trips to
// etcd.
func TestTheCatalogueIsReadManyShardsAtOnce(t *testing.T) {
	w := newWorldOf(t, 128)
	want := items(0, 100)
	w.apply(want...)
	w.sync.Age(2 * time.Hour) // so that it is read anew
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l := &together{want: 8, all: make(chan struct{})}
	if err := w.sync.Load(ctx, l); err != nil {
		t.Fatalf("%d lists of %d came together: %v", l.asked.Load(), l.want, err)
	}
	w.quiet(func() { w.apply(want...) }) // all of it is known
}

// What ends a reading ends it for all shards, and what failed can be read again.
func TestAReadingThatFailsIsDoneAgain(t *testing.T) {
	w := newWorld(t)
	want := items(0, 100)
	w.apply(want...)
	w.sync.Age(2 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.sync.Load(ctx, lister{}); err == nil {
		t.Error("a reading whose context has ended succeeds")
	}
	if err := w.sync.Load(t.Context(), lister{}); err != nil {
		t.Error(err)
	}
	w.quiet(func() { w.apply(want...) })
}
