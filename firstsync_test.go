package drm_test

import (
	"context"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
)

func TestALargeFirstAnswerIsWrittenBeforeTheCoordinatorClaims(t *testing.T) {
	const n = 12_000
	w, r := newWorld(t), newRecorder(t)
	var first sync.Once
	r.onHandle = func(ctx context.Context, _ drm.Claim) error {
		first.Do(func() {
			resp, err := w.etcd.Get(ctx, "/drm/app/shards/", clientv3.WithPrefix(), clientv3.WithCountOnly())
			if err != nil || resp.Count < n { // claims count too
				t.Errorf("the first resource is handled when there are %d keys of %d, %v", resp.Count, n, err)
			}
		})
		return nil
	}
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever = false, newSource(ids(n)...)
	w.start(cfg)
	r.until("all are handled", allHeld(r, n))
}
