package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// plugin is a source whose Setup and TearDown can be changed.
type plugin struct {
	*source
	onSetup    func(context.Context, drm.API) error
	onTearDown func(context.Context) error
}

func (p *plugin) Setup(ctx context.Context, api drm.API) error {
	if p.onSetup != nil {
		if err := p.onSetup(ctx, api); err != nil {
			return err
		}
	}
	return p.source.Setup(ctx, api)
}

func (p *plugin) TearDown(ctx context.Context) error {
	if err := p.source.TearDown(ctx); err != nil || p.onTearDown == nil {
		return err
	}
	return p.onTearDown(ctx)
}

// On a slow machine, Setup may take longer than the member's lease lasts.
func TestAMemberWhoseKeyIsGoneBeforeItIsActiveStartsAllTheSame(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := &plugin{source: newSource("x"), onSetup: func(context.Context, drm.API) error {
		w.deleteKeys("/group/members/")
		return nil
	}}
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever = false, src
	m := w.start(cfg)
	r.until("it is handled", allHeld(r, 1))
	members, err := w.client().Members(t.Context())
	if err != nil || len(members) != 1 || members[0].ID != "a" || members[0].State != "active" {
		t.Errorf("members: %+v, %v", members, err)
	}
	w.stop(m)
}

func TestTearDownComesAfterAFetchThatHeedsItsContext(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	var armed, inside atomic.Bool
	entered := make(chan struct{})
	src := &plugin{source: newSource("x")}
	src.onFetch = func(ctx context.Context) {
		if !armed.Load() {
			return
		}
		inside.Store(true)
		defer inside.Store(false)
		close(entered)
		<-ctx.Done()
		closing := time.NewTimer(300 * time.Millisecond) // closing what the plugin has open takes a while
		defer closing.Stop()
		<-closing.C
	}
	src.onTearDown = func(context.Context) error {
		if inside.Load() {
			t.Error("TearDown is called while Fetch runs")
		}
		return nil
	}
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever = false, src
	m := w.start(cfg)
	r.until("it is handled", allHeld(r, 1))
	armed.Store(true)
	m.Refetch()
	<-entered
	w.stop(m)
	if _, _, downs := src.counts(); downs != 1 {
		t.Errorf("TearDown was called %d times", downs)
	}
}

func TestAFetchThatIgnoresItsContextHoldsUpNoStopThatIsInAHurry(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	var armed atomic.Bool
	entered, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	src := newSource("x")
	src.onFetch = func(context.Context) {
		if armed.Load() {
			close(entered)
			<-release
		}
	}
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.FetchTimeout, cfg.StopTimeout = false, src, time.Hour, time.Hour
	m := w.startOnly(cfg)
	r.until("it is handled", allHeld(r, 1))
	armed.Store(true)
	m.Refetch()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- m.Stop(ctx) }()
	r.until("all is terminated", allHeld(r, 0))
	cancel()
	select {
	case err := <-stopped: // the member may also have left claims behind, depending on how far it was
		if !errors.Is(err, drm.ErrLeftBehind) || !strings.Contains(err.Error(), "Fetch") {
			t.Errorf("Stop: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Stop does not return")
	}
	if _, _, downs := src.counts(); downs != 1 {
		t.Errorf("TearDown was called %d times", downs)
	}
}

func TestASetupThatSucceedsTooLateIsTornDown(t *testing.T) {
	t.Parallel()
	for _, late := range []error{nil, errors.New("no queue")} {
		w, r := newWorld(t), newRecorder(t)
		release, returned := make(chan struct{}), make(chan struct{})
		src := &plugin{source: newSource("x")}
		src.onSetup = func(context.Context, drm.API) error {
			defer close(returned)
			<-release // ignores its context
			return late
		}
		cfg := w.config("a", r)
		cfg.AllocateOnly, cfg.Retriever, cfg.FetchTimeout = false, src, 50*time.Millisecond
		if _, err := w.tryStart(t.Context(), cfg); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Start: %v", err)
		}
		if _, _, downs := src.counts(); downs != 0 {
			t.Error("TearDown was called while Setup runs")
		}
		close(release)
		<-returned
		if late == nil {
			r.until("it is torn down", func() bool { _, _, downs := src.counts(); return downs == 1 })
			continue
		}
		src.tornDown(t, 0)
	}
}

// tornDown fails the test if TearDown has not been called want times. It waits long enough for one call too many to
// show.
func (s *source) tornDown(tb testing.TB, want int) {
	tb.Helper()
	await(tb, "it is torn down", func() bool { _, _, downs := s.counts(); return downs >= want })
	timer := time.NewTimer(200 * time.Millisecond)
	defer timer.Stop()
	<-timer.C
	if _, _, downs := s.counts(); downs != want {
		tb.Errorf("TearDown was called %d times, want %d", downs, want)
	}
}

// The API works from the first moment of Setup to the last of TearDown, in any goroutine, and also on a member that
// does not coordinate.
func TestOriginalAPluginMayUseItsAPIAllItsLife(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	first := w.members(r, newSource("1"), "first")["first"] // this member coordinates
	src := &plugin{source: newSource("1")}
	src.onSetup = func(ctx context.Context, api drm.API) error {
		api.Refetch()
		if err := api.Allocate(ctx, drm.Resource{ID: "from setup"}); err != nil {
			return err
		}
		return api.Allocate(ctx, drm.Resource{ID: "until teardown"})
	}
	src.onTearDown = func(ctx context.Context) error {
		src.api.Refetch()
		if err := src.api.Deallocate(ctx, "until teardown"); err != nil {
			return err
		}
		return src.api.Allocate(ctx, drm.Resource{ID: "from teardown"})
	}
	cfg := w.config("second", r)
	cfg.AllocateOnly, cfg.Retriever = false, src
	second := w.start(cfg)
	if s, err := w.client().Status(t.Context()); err != nil || s.Coordinator != first.ID() {
		t.Errorf("the coordinator is %q, %v", s.Coordinator, err)
	}
	r.until("what Setup allocated is handled", allHeld(r, 3))

	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 5 {
				if err := src.api.Allocate(t.Context(), drm.Resource{ID: fmt.Sprintf("g%d-%d", i, n)}); err != nil {
					t.Error(err)
				}
				src.api.Refetch()
			}
			if err := src.api.Deallocate(t.Context(), fmt.Sprintf("g%d-0", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r.until("what eight goroutines allocated is handled, and what they deallocated is not", allHeld(r, 3+8*4))

	w.stop(second)
	r.until("what TearDown allocated is handled", func() bool { return r.holders()["from teardown"] == "first" })
	r.until("what it deallocated is not", func() bool { return r.holders()["until teardown"] == "" })
	if err := src.api.Allocate(t.Context(), drm.Resource{ID: "too late"}); !errors.Is(err, drm.ErrStopped) {
		t.Errorf("Allocate after TearDown: %v", err)
	}
	if err := src.api.Deallocate(t.Context(), "from setup"); !errors.Is(err, drm.ErrStopped) {
		t.Errorf("Deallocate after TearDown: %v", err)
	}
	src.api.Refetch() // does no harm after the end
}
