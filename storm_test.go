package drm_test

import (
	"testing"

	"github.com/distributed-resource-manager/drm"
)

// An etcd whose leader stalled may revoke every lease there is. All members have to begin anew then, and do so at the same
// moment; it must not take them more requests than that.
func TestLosingAllLeasesAtOnceMakesNoStorm(t *testing.T) {
	const members, resources = 5, 30
	w, r := newWorld(t), newRecorder(t) // the recorder checks that nothing is handled by two
	q := newRequests(w.app)
	src := newSource(ids(resources)...)
	for _, id := range []string{"a", "b", "c", "d", "e"}[:members] {
		cfg := w.config(id, r)
		cfg.Etcd = drm.EtcdConfig{Client: q.client(t, w.endpoint)}
		cfg.AllocateOnly, cfg.Retriever, cfg.CacheResources = false, src, true
		w.start(cfg)
	}
	r.until("all are handled", func() bool { return len(r.holders()) == resources && settled(t, w) })
	mark, before := len(r.all()), q.count(grants, registers, stands)
	leases, err := w.etcd.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases.Leases {
		if _, err := w.etcd.Revoke(t.Context(), l.ID); err != nil {
			t.Fatal(err)
		}
	}
	r.until("all were terminated, and are handled again", func() bool {
		ended := map[string]bool{}
		for _, c := range r.all()[mark:] {
			if c.Action == "terminate" {
				ended[c.Resource] = true
			}
		}
		return len(ended) == resources && len(r.holders()) == resources && settled(t, w)
	})
	// Two leases and a registration each, and some more for those that others were faster than.
	if n := q.count(grants, registers, stands) - before; n > 12*members {
		t.Errorf("%d requests of %d members to begin anew", n, members)
	}
}
