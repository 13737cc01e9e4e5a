package drm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
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

// patience bounds every wait of these tests. It is long because machines are slow; what is measured is order, not time. It
// is shorter than the longest JoinDelay.
const patience = 50 * time.Second

// soon bounds what has to happen before something else would bring it about, such as a probe or a timeout of 30 s.
const soon = 20 * time.Second

// statsInterval is how often the members of a world write their figures, unless its options say something else.
const statsInterval = 200 * time.Millisecond

// call is one call of a handler.
type call struct {
	Action, Member, Resource string
	Token                    int64
	Data                     string
}

// recorder is a Handler that writes down its calls. Several members may share one, and it checks that no resource is
// handled by two of them at once. The functions, where set, run inside of the calls.
type recorder struct {
	tb          testing.TB
	onHandle    func(ctx context.Context, c drm.Claim) error
	onTerminate func(ctx context.Context, c drm.Claim) error

	mu      sync.Mutex
	calls   []call
	holder  map[string]string // resource → member from the call of Handle to the end of Terminate
	tokens  map[string]int64
	changed chan struct{}
}

func newRecorder(tb testing.TB) *recorder {
	return &recorder{tb: tb, holder: map[string]string{}, tokens: map[string]int64{}, changed: make(chan struct{})}
}

func (r *recorder) note(action string, c drm.Claim) {
	r.calls = append(r.calls, call{action, c.Member, c.Resource.ID, c.Token, string(c.Resource.Data)})
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Handle(ctx context.Context, c drm.Claim) error {
	r.mu.Lock()
	id := c.Resource.ID
	if other, held := r.holder[id]; held {
		r.tb.Errorf("%s is handled by %s while %s has it", id, c.Member, other)
	}
	if c.Token < r.tokens[id] {
		r.tb.Errorf("the token of %s fell from %d to %d", id, r.tokens[id], c.Token)
	}
	if !c.Valid() && ctx.Err() == nil {
		r.tb.Errorf("Handle of %s under a claim that is not valid", id)
	}
	r.holder[id], r.tokens[id] = c.Member, c.Token
	r.note("handle", c)
	r.mu.Unlock()
	var err error
	if r.onHandle != nil {
		err = r.onHandle(ctx, c)
	}
	if err != nil && ctx.Err() == nil { // else Terminate follows, whatever it returned
		r.mu.Lock()
		delete(r.holder, id)
		r.mu.Unlock()
	}
	return err
}

func (r *recorder) HandleFailed(_ context.Context, c drm.Claim, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note("handle_failed", c)
}

func (r *recorder) Terminate(ctx context.Context, c drm.Claim) error {
	r.mu.Lock()
	if holder := r.holder[c.Resource.ID]; holder != c.Member {
		r.tb.Errorf("%s terminates %s, which %q has", c.Member, c.Resource.ID, holder)
	}
	r.note("terminate", c)
	r.mu.Unlock()
	var err error
	if r.onTerminate != nil {
		err = r.onTerminate(ctx, c)
	}
	if err != nil && errors.Is(context.Cause(ctx), drm.CauseFenced) {
		return err // another one is to follow
	}
	r.mu.Lock()
	delete(r.holder, c.Resource.ID)
	r.mu.Unlock()
	return err
}

func (r *recorder) TerminateFailed(_ context.Context, c drm.Claim, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note("terminate_failed", c)
}

// hasItsTime is for onTerminate, where a lease ends before what is on it: a Terminate that comes after that is there to
// clean up, and must not be told to end at once.
func (r *recorder) hasItsTime(ctx context.Context, c drm.Claim) error {
	select {
	case <-ctx.Done():
		r.tb.Errorf("the Terminate of %s is to end at once: %v", c.Resource.ID, context.Cause(ctx))
		return ctx.Err()
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}

// all returns the calls so far.
func (r *recorder) all() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// holders returns who handles what now.
func (r *recorder) holders() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := make(map[string]string, len(r.holder))
	for id, m := range r.holder {
		held[id] = m
	}
	return held
}

// count counts the calls of an action for a resource; an empty resource counts all.
func (r *recorder) count(action, resource string) int {
	n := 0
	for _, c := range r.all() {
		if c.Action == action && (resource == "" || c.Resource == resource) {
			n++
		}
	}
	return n
}

// until waits until ok says yes, looking after each call of the recorder and now and then.
func (r *recorder) until(what string, ok func() bool) {
	r.tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if ok() {
			return
		}
		again := time.NewTimer(50 * time.Millisecond)
		select {
		case <-changed:
		case <-again.C:
		case <-deadline.C:
			calls := r.all()
			r.tb.Fatalf("not in time: %s; last calls: %v; held: %v", what, calls[max(0, len(calls)-10):], r.holders())
		}
		again.Stop()
	}
}

// ids makes n ids.
func ids(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("r%d", i)
	}
	return all
}

// resources makes resources of ids.
func resources(ids ...string) []drm.Resource {
	all := make([]drm.Resource, len(ids))
	for i, id := range ids {
		all[i] = drm.Resource{ID: id, Data: json.RawMessage(fmt.Sprintf(`{"id":%q}`, id))}
	}
	return all
}

// source is a Retriever whose answer can be changed.
type source struct {
	mu      sync.Mutex
	answer  []drm.Resource
	err     error
	fetches int
	setups  int
	downs   int
	api     drm.API
	onFetch func(context.Context)
}

func newSource(ids ...string) *source { return &source{answer: resources(ids...)} }

func (s *source) set(answer []drm.Resource, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.err = answer, err
}

func (s *source) Setup(_ context.Context, api drm.API) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setups++
	s.api = api
	return nil
}

func (s *source) Fetch(ctx context.Context) ([]drm.Resource, error) {
	s.mu.Lock()
	hook := s.onFetch
	s.mu.Unlock()
	if hook != nil {
		hook(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetches++
	return slices.Clone(s.answer), s.err
}

func (s *source) TearDown(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.downs++
	return nil
}

func (s *source) counts() (setups, fetches, downs int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.setups, s.fetches, s.downs
}

// staysAt fails the test if the source has been asked more often than that when some time has passed, in which it would
// have been if it were to be.
func (s *source) staysAt(tb testing.TB, fetches int, quiet time.Duration) {
	tb.Helper()
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	<-timer.C
	if _, now, _ := s.counts(); now != fetches {
		tb.Errorf("the source was asked %d times, want %d", now, fetches)
	}
}

// world is one etcd and the members of an app on it.
type world struct {
	tb       testing.TB
	endpoint string
	etcd     *clientv3.Client
	app      string
	options  member.Options // of the members that are started from now on
	probes   sync.Map       // *drm.Manager → member.Probe
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	server := embeddedtest.Server(tb)
	return worldAt(tb, server.Endpoint())
}

// worldAt is a world on an etcd that is there.
func worldAt(tb testing.TB, endpoint string) *world {
	tb.Helper()
	return &world{tb: tb, endpoint: endpoint, etcd: embeddedtest.Client(tb, endpoint), app: "app"}
}

// config is the least that a member needs. Its lease is long, so that a slow machine does not make a member lose it; a
// test that waits for one to expire sets its own.
func (w *world) config(id string, h drm.Handler) drm.Config {
	return drm.Config{
		App: w.app, ID: id, Etcd: drm.EtcdConfig{Endpoints: []string{w.endpoint}}, Handler: h, AllocateOnly: true,
		Logger: testLogger(w.tb), Shards: 64, LeaseTTL: 10 * time.Second, SettleDelay: 50 * time.Millisecond, JoinDelay: 20 * time.Millisecond, HandleBackoff: 20 * time.Millisecond,
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

// probe looks into a member that this world has started.
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

// client makes a Client of the app, which it may make.
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
	c, err := drm.NewClient(w.tb.Context(), cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	return c
}
