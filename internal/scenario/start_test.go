package scenario_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/embedded"
)

// silentListener accepts connections and never answers.
func silentListener(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestAnUnreachableEtcdIsToldWithinTheDialTimeout(t *testing.T) {
	t.Parallel()
	for name, endpoint := range map[string]string{
		"nobody listens": "127.0.0.1:1", "nobody answers": silentListener(t),
	} {
		cfg := drm.Config{
			App: "app", Handler: newRecorder(t), AllocateOnly: true,
			Etcd: drm.EtcdConfig{Endpoints: []string{endpoint}, DialTimeout: 200 * time.Millisecond},
		}
		_, err := drm.Start(t.Context(), cfg)
		if !errors.Is(err, drm.ErrUnreachable) || !strings.Contains(err.Error(), endpoint) {
			t.Errorf("%s: Start says %v", name, err)
		}
		_, err = drm.NewClient(t.Context(), drm.ClientConfig{App: "app", Etcd: cfg.Etcd})
		if !errors.Is(err, drm.ErrUnreachable) {
			t.Errorf("%s: NewClient says %v", name, err)
		}
	}
}

func TestAnExplicitIDInUseIsAnErrorThatSaysWhose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.config("a", newRecorder(t))
	first.Address = "host-1:8080"
	w.start(first)
	second := w.config("a", newRecorder(t))
	second.LeaseTTL = 2 * time.Second
	_, err := w.tryStart(t.Context(), second)
	var used *drm.IDInUseError
	if !errors.As(err, &used) || !errors.Is(err, drm.ErrIDInUse) {
		t.Fatalf("Start with an id in use: %v", err)
	}
	if used.ID != "a" || used.Address != "host-1:8080" || time.Since(used.Since) > time.Hour || used.Since.IsZero() {
		t.Errorf("the error tells %+v", used)
	}
}

func TestADefaultIDThatIsInUseTakesASuffix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.start(w.config("", newRecorder(t)))
	second := w.config("", newRecorder(t))
	second.LeaseTTL = 2 * time.Second
	two := w.start(second)
	if two.ID() != one.ID()+"-2" {
		t.Errorf("ids %q and %q", one.ID(), two.ID())
	}
}

func TestAMemberThatRestartsAfterACrashWaitsForItsOldKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(w.config("other", newRecorder(t))) // creates the app
	lease, err := w.etcd.Grant(t.Context(), 1) // nobody renews it
	if err != nil {
		t.Fatal(err)
	}
	old := `{"state":"active","weight":1,"slots":[],"started":"2026-01-01T00:00:00Z","source":false}`
	if _, err := w.etcd.Put(t.Context(), "/drm/app/group/members/a", old, clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	w.start(w.config("a", newRecorder(t)))
}

func TestTheFirstFetchOfAFreshAppDecidesOnStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	src := newSource()
	src.set(nil, errors.New("the source is down"))
	cfg := w.config("a", newRecorder(t))
	cfg.AllocateOnly, cfg.Retriever, cfg.FetchRetryBudget = false, src, 50*time.Millisecond
	told := make(chan error, 1)
	cfg.OnSourceError = func(err error) { told <- err }
	_, err := w.tryStart(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "the source is down") {
		t.Fatalf("Start with a source that is down: %v", err)
	}
	if err := <-told; !strings.Contains(err.Error(), "the source is down") {
		t.Errorf("OnSourceError was told %v", err)
	}
	if setups, _, downs := src.counts(); setups != 1 || downs != 1 {
		t.Errorf("%d Setup, %d TearDown; want one each", setups, downs)
	}
	members, err := w.client().Members(t.Context())
	if err != nil || len(members) != 0 {
		t.Errorf("a member whose start failed is still there: %v, %v", members, err)
	}
}

func TestALaterFailingFetchKeepsTheCatalogue(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource(ids(5)...)
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever = false, src
	cfg.PollInterval, cfg.FetchRetryBudget = 100*time.Millisecond, time.Millisecond
	m := w.start(cfg)
	r.until("five are handled", allHeld(r, 5))
	src.set(nil, errors.New("down for a while"))
	c := w.client()
	r.until("status tells", func() bool {
		s, err := c.Status(t.Context())
		return err == nil && s.Source.Error == "down for a while" && s.Source.Resources == 5 &&
			!s.Source.LastSuccess.IsZero()
	})
	src.set(resources(ids(6)...), nil)
	r.until("six are handled", allHeld(r, 6))
	if r.count("terminate", "") != 0 {
		t.Errorf("something was terminated while the source was down: %v", r.all())
	}
	r.until("status tells that it works again", func() bool {
		s, err := c.Status(t.Context())
		return err == nil && s.Source.Error == "" && s.Source.Resources == 6 && s.Coordinator == m.ID()
	})
}

func TestAnEmptyAnswerTerminatesNothingUntilItIsConfirmed(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource(ids(20)...)
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
	asked := make(chan struct{})
	release := make(chan struct{})
	var empty int
	src.onFetch = func(context.Context) {
		src.mu.Lock()
		isEmpty := len(src.answer) == 0
		src.mu.Unlock()
		if !isEmpty {
			return
		}
		if empty++; empty == 2 { // the member has dealt with the first empty answer
			close(asked)
			<-release
		}
	}
	w.start(cfg)
	r.until("all are handled", allHeld(r, 20))
	src.set(nil, nil)
	<-asked
	if r.count("terminate", "") != 0 {
		t.Error("one empty answer terminated something")
	}
	if s, err := w.client().Status(t.Context()); err != nil || s.Source.Held != 20 || s.Source.Error != "" {
		t.Errorf("status %+v, %v", s, err)
	}
	close(release)
	r.until("the second one is believed", allHeld(r, 0))
}

func TestAMemberWithoutASourceLeavesTheOfficeToOneThatHasOne(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.members(r, nil, "plain")
	c := w.client()
	coordinator := func(id string) func() bool {
		return func() bool {
			s, err := c.Status(t.Context())
			return err == nil && s.Coordinator == id
		}
	}
	r.until("it coordinates while nobody else can", coordinator("plain"))
	w.members(r, newSource("x"), "sourced")
	r.until("the other one does", coordinator("sourced"))
	r.until("the source's resource is handled", allHeld(r, 1))
}

func TestAChangeOfMembersAsksTheSourceAgainUnlessCached(t *testing.T) {
	t.Parallel()
	for _, cached := range []bool{false, true} {
		w, r := newWorld(t), newRecorder(t)
		src := newSource("x")
		cfg := w.config("a", r)
		cfg.AllocateOnly, cfg.Retriever, cfg.CacheResources = false, src, cached
		w.start(cfg)
		_, before, _ := src.counts()
		src.set(resources("x", "y"), nil)
		w.members(r, nil, "b")
		if cached {
			if err := w.client().Allocate(t.Context(), drm.Resource{ID: "z"}); err != nil {
				t.Fatal(err)
			}
			r.until("the members work together", func() bool { return len(r.holders()) == 2 && settled(t, w) })
			src.staysAt(t, before, 10*cfg.SettleDelay)
			continue
		}
		r.until("what is new is handled", allHeld(r, 2))
	}
}

func TestAContextThatEndsDuringStartLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	src := newSource()
	entered := make(chan struct{})
	src.onFetch = func(ctx context.Context) { close(entered); <-ctx.Done() }
	cfg := w.config("a", newRecorder(t))
	cfg.AllocateOnly, cfg.Retriever = false, src
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if _, err := w.tryStart(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("Start: %v", err)
	}
	members, err := w.client().Members(t.Context())
	if err != nil || len(members) != 0 {
		t.Errorf("members left behind: %v, %v", members, err)
	}
}

func TestAnotherNumberOfShardsIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(w.config("a", newRecorder(t)))
	cfg := w.config("b", newRecorder(t))
	cfg.Shards = 128
	_, err := w.tryStart(t.Context(), cfg)
	var input *drm.InputError
	if !errors.As(err, &input) || input.Field != "Shards" || !strings.Contains(err.Error(), "64") {
		t.Errorf("Start with 128 shards where there are 64: %v", err)
	}
	cfg.Shards = 0
	w.start(cfg)
}

func TestASetupThatFailsOrPanicsFailsStart(t *testing.T) {
	t.Parallel()
	for _, setup := range []func() error{
		func() error { return errors.New("no queue") },
		func() error { panic("no queue") },
	} {
		w := newWorld(t)
		cfg := w.config("a", newRecorder(t))
		cfg.AllocateOnly, cfg.Retriever = false, &brokenSetup{setup}
		if _, err := w.tryStart(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "no queue") {
			t.Errorf("Start: %v", err)
		}
	}
}

type brokenSetup struct{ setup func() error }

func (b *brokenSetup) Setup(context.Context, drm.API) error          { return b.setup() }
func (b *brokenSetup) Fetch(context.Context) ([]drm.Resource, error) { return nil, nil }
func (b *brokenSetup) TearDown(context.Context) error                { panic("TearDown without Setup") }

// conditional is a source that says "not modified" to everybody who has its answer.
type conditional struct {
	source
	had     bool
	forgets int
}

func (c *conditional) Fetch(ctx context.Context) ([]drm.Resource, error) {
	c.mu.Lock()
	had := c.had
	c.had = true
	c.mu.Unlock()
	if had {
		return nil, drm.ErrNotModified
	}
	return c.source.Fetch(ctx)
}

func (c *conditional) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.had = false
	c.forgets++
}

func TestNotModifiedIsNotTakenForWhatAnotherCoordinatorGot(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := &conditional{}
	src.set(resources("x"), nil)
	start := func(id string) *drm.Manager {
		cfg := w.config(id, r)
		cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
		return w.start(cfg)
	}
	a := start("a")
	r.until("it is handled", allHeld(r, 1))
	start("b")
	src.set(resources("x", "y"), nil)
	w.stop(a) // b coordinates, and has had no answer of its own
	r.until("the new coordinator has asked for everything", allHeld(r, 2))
	src.mu.Lock()
	defer src.mu.Unlock()
	if src.forgets != 1 {
		t.Errorf("asked for everything %d times", src.forgets)
	}
}

func TestAnEtcdThatGrantsLongerLeasesIsToldInTheLogAndUsed(t *testing.T) {
	t.Parallel()
	// The election timeout of this etcd is 1 s, so that it grants leases of 2 s at least.
	server, err := embedded.Start(t.Context(), embedded.Config{UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	w := worldAt(t, server.Endpoint())
	observed, logs := observer.New(zap.WarnLevel)
	cfg := w.config("a", newRecorder(t))
	cfg.LeaseTTL, cfg.Logger = time.Second, zap.New(observed)
	m := w.start(cfg)
	told := logged(t, logs, "longer lease", 1)
	if len(told) != 1 || told[0].ContextMap()["granted"] != 2*time.Second {
		t.Errorf("logged: %v", logs.All())
	}
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Wait(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
}
