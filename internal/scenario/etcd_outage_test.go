package scenario_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
)

// outage starts an app in which keeper goes on through an outage, and stopper does not. They have a recorder each:
// where only one of them is cut off, two members handle a resource, as the policy says.
func (w *world) outage(keeper, stopper *recorder, n int, change func(*drm.Config)) map[string]*drm.Manager {
	w.tb.Helper()
	all := map[string]*drm.Manager{}
	src := newSource(ids(n)...)
	for id, r := range map[string]*recorder{"keeper": keeper, "stopper": stopper} {
		cfg := w.config(id, r)
		cfg.LeaseTTL, cfg.Etcd.CommandTimeout = 2*time.Second, time.Second
		cfg.AllocateOnly, cfg.Retriever = false, src
		if id == "keeper" {
			cfg.OutagePolicy = drm.KeepOnOutage
			change(&cfg)
		}
		all[id] = w.start(cfg)
	}
	return all
}

func TestKeepOnOutageHandlesOnWhileEtcdIsGone(t *testing.T) {
	t.Parallel()
	cfg := embeddedtest.Config()
	cfg.DataDir, cfg.ListenClient = t.TempDir(), embeddedtest.Address(t)
	var server *embedded.Server
	etcd := func() {
		var err error
		if server, err = embedded.Start(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = server.Close() }) // this runs after the members have stopped
	etcd()
	w := worldAt(t, server.Endpoint())
	keeper, stopper := newRecorder(t), newRecorder(t)
	var claims sync.Map // for each resource: the claim of its last Handle
	keeper.onHandle = func(ctx context.Context, c drm.Claim) error {
		claims.Store(c.Resource.ID, c)
		return nil
	}
	ms := w.outage(keeper, stopper, 20, func(*drm.Config) {})
	keeper.until("20 resources are shared", func() bool {
		return len(keeper.holders()) > 0 && len(stopper.holders()) > 0 && settled(t, w)
	})
	held, calls := keeper.holders(), len(keeper.all())
	untouched := func(when string) {
		t.Helper()
		for _, c := range keeper.all()[calls:] {
			if held[c.Resource] != "" {
				t.Errorf("%s: %v", when, c)
			}
		}
	}

	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	stopper.until("the one with the default policy has ended everything", func() bool {
		return len(stopper.holders()) == 0
	})
	untouched("in the outage")
	if n := len(ms["keeper"].Held()); n != len(held) {
		t.Errorf("in the outage %d are held, of %d", n, len(held))
	}
	for id := range held {
		if c, _ := claims.Load(id); !c.(drm.Claim).Valid() {
			t.Errorf("the claim of %s is to be kept, and does not count as valid", id)
		}
	}

	etcd()
	stopper.until("all is as before", func() bool {
		return len(stopper.holders()) == 20-len(held) && len(keeper.holders()) == len(held) && settled(t, w)
	})
	// What else it had for a while belonged to the other member, which had to register again.
	untouched("after the outage")
}

func TestStopWithKeepOnOutageDoesNotWaitForEtcd(t *testing.T) {
	t.Parallel()
	server, err := embedded.Start(t.Context(), embeddedtest.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() }) // closing it twice does no harm
	w, r := worldAt(t, server.Endpoint()), newRecorder(t)
	cfg := w.config("a", r)
	cfg.LeaseTTL, cfg.Etcd.CommandTimeout, cfg.OutagePolicy = 2*time.Second, time.Second, drm.KeepOnOutage
	cfg.AllocateOnly, cfg.Retriever = false, newSource(ids(10)...)
	m := w.start(cfg)
	r.until("all are handled", allHeld(r, 10))
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := m.Stop(ctx); err != nil || ctx.Err() != nil {
		t.Errorf("Stop: %v; its context: %v", err, ctx.Err())
	}
	if r.count("terminate", "") != 10 {
		t.Errorf("calls: %v", r.all())
	}
}

func TestKeepOnOutageEndsWhatOthersTookOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy, err := faultproxy.New(w.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	keeper, stopper := newRecorder(t), newRecorder(t)
	w.outage(keeper, stopper, 20, func(c *drm.Config) { c.Etcd.Endpoints = []string{proxy.Endpoint()} })
	keeper.until("20 resources are shared", func() bool {
		return len(keeper.holders()) > 0 && len(stopper.holders()) > 0 && settled(t, w)
	})
	held := keeper.holders()

	proxy.BlackHole()
	stopper.until("the other one took over", func() bool { return len(stopper.holders()) == 20 })
	if n := len(keeper.holders()); n != len(held) {
		t.Errorf("the keeper handles %d, of %d", n, len(held))
	}
	proxy.Heal()
	keeper.until("each is handled by one", func() bool {
		for id := range held {
			if keeper.count("terminate", id) == 0 {
				return false
			}
		}
		return len(keeper.holders())+len(stopper.holders()) == 20 && settled(t, w)
	})
}

func TestFollowOwnersTellsWhenEtcdIsLostAndWhenItIsBack(t *testing.T) {
	t.Parallel()
	cfg := embeddedtest.Config()
	cfg.DataDir, cfg.ListenClient = t.TempDir(), embeddedtest.Address(t)
	server, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	c, err := drm.NewClient(t.Context(), drm.ClientConfig{App: "app", Etcd: drm.EtcdConfig{
		Endpoints: []string{server.Endpoint()}, CommandTimeout: time.Second,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	states, ended := make(chan error, 10), make(chan error, 1)
	go func() { ended <- c.FollowOwners(ctx, func(drm.OwnerChange) {}, func(err error) { states <- err }) }()
	isLost := false
	until := func(want bool) {
		t.Helper()
		timeout := time.After(time.Minute)
		for isLost != want { // on a slow machine the member may also report that etcd is lost
			select {
			case err := <-states:
				if isLost == (err != nil) {
					t.Fatalf("told twice that etcd is lost, or that it is not: %v", err)
				}
				isLost = err != nil
			case <-timeout:
				t.Fatalf("it is not told that etcd is lost: %v", want)
			}
		}
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	until(true)
	if server, err = embedded.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	until(false)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it returned %v", err)
	}
}
