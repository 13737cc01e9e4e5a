package scenario_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
)

func TestAnEtcdWithoutSpaceHurtsNothingThatIsHeld(t *testing.T) {
	t.Parallel()
	const n = 40
	cfg := embeddedtest.Config()
	cfg.Quota = 4 << 20
	server, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	w, r := worldAt(t, server.Endpoint()), newRecorder(t) // the recorder fails on any overlap
	proxy, err := faultproxy.New(w.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	src, ms := newSource(ids(n)...), map[string]*drm.Manager{}
	seen, log := observer.New(zap.WarnLevel)       // the log of the member that stays
	for _, id := range []string{"gone", "stays"} { // the first one coordinates
		cfg := w.config(id, r)
		cfg.LeaseTTL, cfg.Etcd = 4*time.Second, drm.EtcdConfig{
			Endpoints: []string{w.endpoint}, CommandTimeout: time.Second,
		}
		cfg.AllocateOnly, cfg.Retriever = false, src
		if id == "gone" {
			cfg.Etcd.Endpoints = []string{proxy.Endpoint()}
		} else {
			cfg.Logger = zap.New(zapcore.NewTee(seen, cfg.Logger.Core()))
		}
		ms[id] = w.start(cfg)
	}
	t.Cleanup(proxy.Heal) // else the member could not stop in order
	r.until("they share all", func() bool { return len(r.holders()) == n && settled(t, w) })
	before := r.holders()
	kept := len(ms["stays"].Held())
	calls := len(r.all())

	embeddedtest.FillUp(t, w.etcd)
	err = ms["stays"].Allocate(t.Context(), drm.Resource{ID: "late"})
	if err == nil || errors.Is(err, drm.ErrUnreachable) || !strings.Contains(err.Error(), "database space exceeded") {
		t.Errorf("Allocate in a full etcd: %v", err)
	}
	proxy.BlackHole()
	r.until("its claims have expired", func() bool {
		resp, err := w.etcd.Get(context.Background(), "/drm/app/shards/", clientv3.WithPrefix(),
			clientv3.WithKeysOnly())
		if err != nil {
			return false
		}
		claimed := 0
		for _, kv := range resp.Kvs {
			if strings.Contains(string(kv.Key), "/claims/") {
				claimed++
			}
		}
		return claimed == kept
	})
	stands := func() []observer.LoggedEntry { return log.FilterMessage("cannot stand for coordinator").All() }
	// A member that is alive would have taken over in this time.
	r.until("it has tried for the office four times", func() bool { return len(stands()) >= 4 })
	// The first retry does not count, since news may have brought it forward.
	for i, least := range []time.Duration{800 * time.Millisecond, 1600 * time.Millisecond} {
		if tries := stands(); tries[i+2].Time.Sub(tries[i+1].Time) < least {
			t.Errorf("it stood for coordinator again %v after try %d, and was to wait for %v at least",
				tries[i+2].Time.Sub(tries[i+1].Time), i+2, least)
		}
	}
	for _, c := range r.all()[calls:] {
		if c.Member != "gone" || c.Action != "terminate" {
			t.Errorf("in a full etcd: %v", c)
		}
	}
	if held := len(ms["stays"].Held()); held != kept {
		t.Errorf("the live member holds %d in a full etcd, of %d", held, kept)
	}

	embeddedtest.MakeRoom(t, w.etcd)
	r.until("what the other one had is taken over", allHeld(r, n))
	for _, c := range r.all()[calls:] {
		if before[c.Resource] == "stays" {
			t.Errorf("what the live member has was touched: %v", c)
		}
	}
	if err := ms["stays"].Allocate(t.Context(), drm.Resource{ID: "late"}); err != nil {
		t.Error(err)
	}
	proxy.Heal()
	r.until("they share again", func() bool {
		return len(r.holders()) == n+1 && len(ms["gone"].Held()) > 0 && settled(t, w)
	})
}
