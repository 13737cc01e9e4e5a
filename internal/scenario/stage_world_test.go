package scenario_test

import (
	"cmp"
	"context"
	"os"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/member"
)

// patience bounds every wait of these tests. It is long because machines are slow: the tests judge order, not time.
const patience = 2 * time.Minute

// soon bounds waits for things that must happen before something else, such as a probe or a timeout of 30 s, would make
// them happen.
const soon = 20 * time.Second

// statsInterval is how often the members of a world write their figures, unless its options say something else.
const statsInterval = 200 * time.Millisecond

// world is one etcd and the members of an app on it.
type world struct {
	tb       testing.TB
	endpoint string
	etcd     *clientv3.Client
	app      string
	options  member.Options // for the members that are started from now on
	probes   sync.Map       // for each *drm.Manager: its member.Probe
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	server := embeddedtest.Server(tb)
	return worldAt(tb, server.Endpoint())
}

// worldAt makes a world on an etcd that runs already.
func worldAt(tb testing.TB, endpoint string) *world {
	tb.Helper()
	return &world{tb: tb, endpoint: endpoint, etcd: embeddedtest.Client(tb, endpoint), app: "app"}
}

// config returns the least config that a member needs. Its lease is long, so that members on a slow machine do not lose
// it, and so are its timeouts: on such a machine etcd is slow too. A test that waits for an expiry, or for an etcd that
// does not answer, sets its own.
func (w *world) config(id string, h drm.Handler) drm.Config {
	return drm.Config{
		App: w.app, ID: id, Handler: h, AllocateOnly: true,
		Etcd:   drm.EtcdConfig{Endpoints: []string{w.endpoint}, DialTimeout: patience, CommandTimeout: soon},
		Logger: testLogger(w.tb), Shards: 64, LeaseTTL: 10 * time.Second, SettleDelay: 50 * time.Millisecond,
		JoinDelay: 20 * time.Millisecond, HandleBackoff: 20 * time.Millisecond,
		RemovalDelay: time.Millisecond,
	}
}

// start starts a member and stops it at the end of the test.
func (w *world) start(cfg drm.Config) *drm.Manager {
	w.tb.Helper()
	m := w.startOnly(cfg)
	w.tb.Cleanup(func() { w.stop(m) })
	return m
}

// startOnly starts a member that the test stops.
func (w *world) startOnly(cfg drm.Config) *drm.Manager {
	w.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := w.tryStart(ctx, cfg)
	if err != nil {
		w.tb.Fatalf("start %s: %v", cfg.ID, err)
	}
	return m
}

// tryStart is drm.Start with the world's options.
func (w *world) tryStart(ctx context.Context, cfg drm.Config) (*drm.Manager, error) {
	options := w.options
	if options.StatsInterval == 0 {
		options.StatsInterval = statsInterval
	}
	var probe member.Probe
	options.Observe = func(p member.Probe) { probe = p }
	m, err := drm.Start(member.WithOptions(ctx, options), cfg)
	if err == nil {
		w.probes.Store(m, probe)
	}
	return m, err
}

// probe returns the probe of a member that this world has started.
func (w *world) probe(m *drm.Manager) member.Probe {
	w.tb.Helper()
	p, ok := w.probes.Load(m)
	if !ok {
		w.tb.Fatalf("the member %s was not started by the world", m.ID())
	}
	return p.(member.Probe)
}

// testLogger logs to the test where DRM_TEST_LOG is set.
func testLogger(tb testing.TB) *zap.Logger {
	if os.Getenv("DRM_TEST_LOG") == "" {
		return zap.NewNop()
	}
	return zaptest.NewLogger(tb)
}

func (w *world) stop(m *drm.Manager) {
	w.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.Stop(ctx); err != nil {
		w.tb.Errorf("stop %s: %v", m.ID(), err)
	}
}

// client makes a Client of the app, which may create the app.
func (w *world) client() *drm.Client {
	w.tb.Helper()
	return w.clientOf(drm.ClientConfig{Create: true})
}

// clientOf makes a Client of the app.
func (w *world) clientOf(cfg drm.ClientConfig) *drm.Client {
	w.tb.Helper()
	cfg.App = w.app
	if cfg.Etcd.Client == nil {
		cfg.Etcd.Client = w.etcd
	}
	cfg.Etcd.DialTimeout = cmp.Or(cfg.Etcd.DialTimeout, patience)
	cfg.Etcd.CommandTimeout = cmp.Or(cfg.Etcd.CommandTimeout, soon)
	c, err := drm.NewClient(w.tb.Context(), cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	return c
}
