package catalogue_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// counting counts the comparisons in transactions.
type counting struct {
	txn.Committer
	compares *atomic.Int64
}

func (c counting) Commit(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	c.compares.Add(int64(len(req.Compare)))
	return c.Committer.Commit(ctx, req)
}

// shuffled makes many items in random order, with ids that are escaped in keys.
func shuffled(n int, fields ...string) []catalogue.Item {
	all := make([]catalogue.Item, n)
	for i := range all {
		all[i] = item(fmt.Sprintf("%c r/%04d", "aé~ "[i%4], i), fields...)
	}
	rand.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// In shards of which no entry is known, new entries are compared as ranges; elsewhere one by one.
func TestAFirstFetchComparesRanges(t *testing.T) {
	const n = 3000
	w := newWorld(t)
	var compares atomic.Int64
	w.store.Etcd = counting{w.store.Etcd, &compares}
	first := shuffled(n)
	wantOutcome(t, w.apply(first...), outcome{Resources: n, Added: n})
	w.want(wanted(first))
	if got := compares.Swap(0); got > n/10 {
		t.Errorf("%d comparisons for the first %d entries", got, n)
	}
	changed := shuffled(n, `"v":1`)
	wantOutcome(t, w.apply(changed...), outcome{Resources: n, Changed: n})
	w.want(wanted(changed))
	if got := compares.Load(); got < n {
		t.Errorf("%d comparisons to change %d entries", got, n)
	}
}

// An entry that others have put into a range meanwhile stays, and keeps no other entry out.
func TestAFirstFetchOverwritesNothingInARange(t *testing.T) {
	w := newWorld(t)
	all := items(0, 600)
	began := w.revision()
	for _, id := range []string{"r0000", "r0300", "r0599"} {
		w.allocate(item(id, `"v":2`), true)
	}
	want := wanted(all)
	for id, e := range w.entries() {
		want[id] = e
	}
	out := w.applyAt(began, all...)
	if out.Added != len(all)-3 {
		t.Errorf("%d were added, want %d", out.Added, len(all)-3)
	}
	w.want(want)
	wantOutcome(t, w.apply(all...),
		outcome{Resources: len(all), Added: 3}) // a later fetch has them, and their data stay
}
