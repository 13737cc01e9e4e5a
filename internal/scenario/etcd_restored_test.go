package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// restorable is an etcd that can be taken back to an earlier state, as an operator does with a snapshot: with the same
// address, the same cluster, and older data.
type restorable struct {
	tb     testing.TB
	cfg    embedded.Config
	server *embedded.Server
}

func newRestorable(tb testing.TB) *restorable {
	tb.Helper()
	r := &restorable{tb: tb, cfg: embeddedtest.Config()}
	r.cfg.DataDir, r.cfg.ListenClient = filepath.Join(tb.TempDir(), "etcd"), embeddedtest.Address(tb)
	r.start()
	tb.Cleanup(r.stop)
	return r
}

func (r *restorable) start() {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if r.server, err = embedded.Start(ctx, r.cfg); err != nil {
		r.tb.Fatal(err)
	}
}

func (r *restorable) stop() {
	if err := r.server.Close(); err != nil {
		r.tb.Error(err)
	}
}

// save keeps the present state for restore. etcd is away meanwhile.
func (r *restorable) save() (saved string) {
	r.tb.Helper()
	saved = filepath.Join(r.tb.TempDir(), "saved")
	r.stop()
	if err := os.CopyFS(saved, os.DirFS(r.cfg.DataDir)); err != nil {
		r.tb.Fatal(err)
	}
	r.start()
	return saved
}

// restore brings a saved state back.
func (r *restorable) restore(saved string) {
	r.tb.Helper()
	r.stop()
	if err := os.RemoveAll(r.cfg.DataDir); err != nil {
		r.tb.Fatal(err)
	}
	if err := os.CopyFS(r.cfg.DataDir, os.DirFS(saved)); err != nil {
		r.tb.Fatal(err)
	}
	r.start()
}

func TestAnEtcdRestoredFromAnOlderStateEndsEveryMember(t *testing.T) {
	t.Parallel()
	etcd := newRestorable(t)
	w, r := worldAt(t, etcd.server.Endpoint()), newRecorder(t) // the recorder fails the test if a token falls
	r.onTerminate = r.hasItsTime
	var members []*drm.Manager
	for i := range 3 {
		cfg := w.config(fmt.Sprintf("m%d", i), r)
		cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, newSource(ids(30)...), time.Second
		m, err := w.tryStart(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Stop(context.Background()) })
		members = append(members, m)
	}
	r.until("all are handled", func() bool { return len(r.holders()) == 30 && settled(t, w) })
	saved := etcd.save() // has the members' leases, so that their keepalives succeed after the restore
	for i := range 20 {
		id := fmt.Sprintf("later%d", i)
		r.until("etcd takes an allocation again", func() bool {
			return members[0].Allocate(t.Context(), drm.Resource{ID: id}) == nil
		})
	}
	r.until("etcd has gone on", func() bool { return len(r.holders()) == 50 && settled(t, w) })
	for _, m := range members {
		if m.Err() != nil {
			t.Fatalf("%s ended when etcd was restarted with all it had: %v", m.ID(), m.Err())
		}
	}
	handled := r.count("handle", "")

	etcd.restore(saved)
	back := time.Now()
	for _, m := range members {
		select {
		case <-m.Done():
			t.Logf("%s ended %v after etcd was back", m.ID(), time.Since(back).Round(time.Millisecond))
		case <-time.After(soon): // the probe alone would take up to 30 s
			t.Fatalf("%s goes on", m.ID())
		}
		if err := m.Err(); !errors.Is(err, drm.ErrStoreRewound) ||
			strings.Count(err.Error(), drm.ErrStoreRewound.Error()) != 1 {
			t.Errorf("%s ended because of %v", m.ID(), err)
		}
		if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err == nil {
			t.Errorf("%s took an allocation", m.ID())
		}
	}
	if n := len(r.holders()); n != 0 {
		t.Errorf("%d are still handled", n)
	}
	if n := r.count("handle", ""); n != handled {
		t.Errorf("%d were handled in a store that was rewound", n-handled)
	}
}
