package drm_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
)

// fillUp puts other people's keys into an etcd until it takes no more.
func fillUp(tb testing.TB, etcd *clientv3.Client) {
	tb.Helper()
	value := strings.Repeat("x", 100_000)
	for i := 0; ; i++ {
		_, err := etcd.Put(tb.Context(), fmt.Sprintf("filler/%d", i), value)
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return
		}
		if err != nil || i > 1000 {
			tb.Fatalf("after %d keys etcd is not full: %v", i, err)
		}
	}
}

// makeRoom does what an operator does for a full etcd: it deletes, compacts, gives the space back, and ends the alarm.
func makeRoom(tb testing.TB, etcd *clientv3.Client) {
	tb.Helper()
	ctx := tb.Context()
	resp, err := etcd.Delete(ctx, "filler/", clientv3.WithPrefix())
	if err == nil {
		_, err = etcd.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err == nil {
		_, err = etcd.Defragment(ctx, etcd.Endpoints()[0])
	}
	if err == nil {
		_, err = etcd.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	}
	if err != nil {
		tb.Fatalf("make room: %v", err)
	}
}

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
	w, r := worldAt(t, server.Endpoint()), newRecorder(t) // it fails the test if any resource is handled by two at once
	proxy, err := faultproxy.New(w.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	src, ms := newSource(ids(n)...), map[string]*drm.Manager{}
	for id, endpoint := range map[string]string{"gone": proxy.Endpoint(), "stays": w.endpoint} {
		cfg := w.config(id, r)
		cfg.LeaseTTL, cfg.Etcd = 4*time.Second, drm.EtcdConfig{Endpoints: []string{endpoint}, CommandTimeout: time.Second}
		cfg.AllocateOnly, cfg.Retriever = false, src
		ms[id] = w.start(cfg)
	}
	t.Cleanup(proxy.Heal) // or it would stop in no good order
	r.until("they share all", func() bool { return len(r.holders()) == n && settled(t, w) })
	before := r.holders()
	kept := len(ms["stays"].Held())
	calls := len(r.all())

	fillUp(t, w.etcd)
	err = ms["stays"].Allocate(t.Context(), drm.Resource{ID: "late"})
	if err == nil || errors.Is(err, drm.ErrUnreachable) || !strings.Contains(err.Error(), "database space exceeded") {
		t.Errorf("Allocate in a full etcd: %v", err)
	}
	proxy.BlackHole()
	r.until("its claims have expired", func() bool {
		resp, err := w.etcd.Get(context.Background(), "/drm/app/shards/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
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
	<-time.After(2 * time.Second) // it would take over meanwhile
	for _, c := range r.all()[calls:] {
		if c.Member != "gone" || c.Action != "terminate" {
			t.Errorf("in a full etcd: %v", c)
		}
	}
	if held := len(ms["stays"].Held()); held != kept {
		t.Errorf("the live member holds %d in a full etcd, of %d", held, kept)
	}

	makeRoom(t, w.etcd)
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
