package catalogue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"

	"github.com/distributed-resource-manager/drm/internal/catalogue"
	"github.com/distributed-resource-manager/drm/internal/txn"
)

// limited is an etcd that takes less than usual in a transaction.
type limited struct {
	txn.Committer
	ops, bytes int
	refused    *atomic.Int64
}

func (l limited) Commit(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	switch {
	case l.ops > 0 && txn.Weight(req) > l.ops:
		l.refused.Add(1)
		return nil, rpctypes.ErrTooManyOps
	case l.bytes > 0 && proto.Size(req) > l.bytes:
		l.refused.Add(1)
		return nil, rpctypes.ErrRequestTooLarge
	}
	return l.Committer.Commit(ctx, req)
}

func TestLowerLimitsOfEtcdAreLearntOnce(t *testing.T) {
	for _, l := range []limited{
		{ops: 3}, {ops: 4}, {ops: 8}, {ops: 64}, {ops: 127}, {bytes: 4 << 10}, {bytes: 16 << 10},
	} {
		t.Run(fmt.Sprintf("%d operations, %d bytes", l.ops, l.bytes), func(t *testing.T) {
			w := newWorld(t)
			l.Committer, l.refused = txn.New(client), new(atomic.Int64)
			w.store.Etcd = l
			const n = 300
			all := items(0, n)
			wantOutcome(t, w.apply(all...), outcome{Resources: n, Added: n})
			w.want(wanted(all))
			if refused := l.refused.Load(); refused > 40 { // the transactions in progress at each of 7 steps down
				t.Errorf("%d transactions were refused", refused)
			}
			// Everything that is done in batches: conflicts, marks, and entries that are read again.
			for i := range 20 {
				w.edit(all[i].ID, catalogue.Entry{FromSource: true, Data: item(all[i].ID, `"by":"hand"`).Data})
				id := all[20+i].ID
				if _, err := w.store.Deallocate(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				_, err := w.store.Allocate(t.Context(), catalogue.Item{ID: id, Data: all[20+i].Data}, false)
				if err != nil {
					t.Fatal(err)
				}
			}
			w.elect()
			before := l.refused.Load()
			for i := range all {
				all[i] = item(all[i].ID, `"v":2`)
			}
			out := w.apply(all...)
			if out.Changed != n || len(out.Rejected) != 0 {
				t.Errorf("%+v", out)
			}
			if again := l.refused.Load() - before; again > 15 { // a transaction grows when it has a conflict
				t.Errorf("%d transactions were refused once the limits were known", again)
			}
		})
	}
}

func TestAnEtcdThatTakesTooFewOperationsForACatalogueIsNamed(t *testing.T) {
	w := newWorld(t)
	w.store.Etcd = limited{Committer: txn.New(client), ops: 2, refused: new(atomic.Int64)}
	_, err := w.sync.Apply(t.Context(), catalogue.Answer{Items: items(0, 10)}, w.revision())
	var limit *txn.LimitError
	if !errors.As(err, &limit) || limit.Needs != 3 ||
		!strings.Contains(err.Error(), "--max-txn-ops is too low: this needs 3") {
		t.Errorf("Apply: %v", err)
	}
	if _, err := w.store.Allocate(t.Context(), item("a"), false); err != nil {
		t.Errorf("Allocate: %v", err)
	}
	if _, err := w.store.Deallocate(t.Context(), "a"); err != nil {
		t.Errorf("Deallocate: %v", err)
	}
}
