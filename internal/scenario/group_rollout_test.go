package scenario_test

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// coordinator returns who coordinates; "" if nobody does.
func (w *world) coordinator() string {
	w.tb.Helper()
	s, err := w.client().Status(w.tb.Context())
	if err != nil {
		w.tb.Fatal(err)
	}
	return s.Coordinator
}

// While members are replaced by those of a newer version, the office moves once, to a member that stays.
func TestInARolloutTheOfficeGoesToTheNewerVersion(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.catalogueOf(10)
	of := func(id, version string) drm.Config {
		cfg := w.config(id, r)
		cfg.Version = version
		return cfg
	}
	first := w.startOnly(of("a", "v1"))
	r.until("a coordinates, and handles all", func() bool { return w.coordinator() == "a" && len(r.holders()) == 10 })
	for _, id := range []string{"b", "c", "d", "e"} {
		w.start(of(id, "v1"))
	}
	w.start(of("z", "v2"))
	r.until("six are there", func() bool { return settled(t, w) && w.member("z").State == "active" })
	w.stop(first)
	r.until("somebody coordinates", func() bool { return w.coordinator() != "" })
	if got := w.coordinator(); got != "z" {
		t.Errorf("%s coordinates, want z, which has the newer version", got)
	}
	// Without it, the others do not wait for another one.
	was, err := w.etcd.Get(t.Context(), keys.New(drm.DefaultPrefix, w.app).Coordinator(), clientv3.WithLimit(1))
	if err != nil || len(was.Kvs) == 0 {
		t.Fatalf("read the coordinator's key: %v, %v", was, err)
	}
	if _, err := w.etcd.Revoke(t.Context(), clientv3.LeaseID(was.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	r.until("somebody coordinates again", func() bool { return w.coordinator() != "" && settled(t, w) })
}
