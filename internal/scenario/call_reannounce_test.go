package scenario_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// slow is a Loop whose functions end only when the test lets them.
type slow struct {
	tb  testing.TB
	let chan struct{} // closed when functions may end

	mu     sync.Mutex
	runs   map[string]int // how often the function was begun
	now    map[string]int // how many functions run
	ending map[string]bool
	called map[string]int // Terminates
	failed []error        // Handles
}

func newSlow(tb testing.TB) (*slow, drm.Handler) {
	s := &slow{
		tb: tb, let: make(chan struct{}), runs: map[string]int{}, now: map[string]int{}, ending: map[string]bool{},
		called: map[string]int{},
	}
	loop, err := handler.NewLoop(s.run, handler.LoopConfig{})
	if err != nil {
		tb.Fatal(err)
	}
	return s, handler.New(handler.Funcs{
		Handle: loop.Handle,
		HandleFailed: func(_ context.Context, _ drm.Claim, err error) {
			s.locked(func() { s.failed = append(s.failed, err) })
		},
		Terminate: func(ctx context.Context, c drm.Claim) error {
			s.locked(func() { s.called[c.Resource.ID]++ })
			return loop.Terminate(ctx, c)
		},
	})
}

func (s *slow) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *slow) run(ctx context.Context, c drm.Claim) error {
	id := c.Resource.ID
	s.locked(func() {
		s.runs[id]++
		if s.now[id]++; s.now[id] > 1 {
			s.tb.Errorf("%s runs twice at once", id)
		}
	})
	<-ctx.Done()
	s.locked(func() { s.ending[id] = true })
	<-s.let
	if !c.Valid() {
		s.tb.Errorf("the claim of %s was not valid while its function was ending", id)
	}
	s.locked(func() { s.now[id]--; s.ending[id] = false })
	return nil
}

// all says whether something holds for each of these resources.
func (s *slow) all(ids []string, holds func(id string) bool) (yes bool) {
	s.locked(func() { yes = !slices.ContainsFunc(ids, func(id string) bool { return !holds(id) }) })
	return yes
}

// slowMember starts a member that handles n resources with a slow, so many of them begun at a time.
func (w *world) slowMember(n, atOnce int) (s *slow, m *drm.Manager, ids []string) {
	w.tb.Helper()
	s, h := newSlow(w.tb)
	cfg := w.config("a", h)
	cfg.HandleConcurrency = atOnce
	m = w.start(cfg)
	for i := range n {
		ids = append(ids, fmt.Sprint("r", i))
	}
	w.allocate(ids...)
	await(w.tb, "all run", func() bool { return s.all(ids, func(id string) bool { return s.now[id] == 1 }) })
	await(w.tb, "all are handled", func() bool { return len(m.Held()) == len(ids) })
	return s, m, ids
}

// What a Loop runs ends in order before it begins again, and nothing fails by that.
func TestReannounceBeginsTheFunctionsOfALoopAgainOnceTheyHaveEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, m, ids := w.slowMember(6, 2)
	before := tokensOf(m)
	if n, err := m.Reannounce(); n != len(ids) || err != nil {
		t.Errorf("reannounced %d, %v", n, err)
	}
	await(t, "all are ending", func() bool { return s.all(ids, func(id string) bool { return s.ending[id] }) })
	if n := len(m.Held()); n != 0 {
		t.Errorf("it says that it handles %d", n)
	}
	close(s.let)
	await(t, "all run again", func() bool { return s.all(ids, func(id string) bool { return s.runs[id] == 2 }) })
	await(t, "all are handled again", func() bool { return maps.Equal(tokensOf(m), before) })
	s.locked(func() {
		if len(s.failed)+len(s.called) > 0 {
			t.Errorf("failures %v, terminates %v", s.failed, s.called)
		}
	})
}

// A resource that goes away while its function is ending keeps its claim until the function has returned, whether its
// Handle waits for the function (r0), or waits for its turn (r1).
func TestWhatGoesAwayAfterAReannounceIsTerminatedFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, m, ids := w.slowMember(2, 1)
	if _, err := m.Reannounce(); err != nil {
		t.Fatal(err)
	}
	await(t, "all are ending", func() bool { return s.all(ids, func(id string) bool { return s.ending[id] }) })
	for _, id := range ids {
		if err := m.Deallocate(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "all are terminated", func() bool { return s.all(ids, func(id string) bool { return s.called[id] == 1 }) })
	<-time.After(100 * time.Millisecond)
	if n := len(w.keysWith("/claims/")); n != len(ids) {
		t.Errorf("%d claims while their functions are ending, want %d", n, len(ids))
	}
	close(s.let)
	await(t, "nothing is claimed", func() bool { return len(w.keysWith("/claims/")) == 0 })
	if !s.all(ids, func(id string) bool { return s.runs[id] == 1 && s.now[id] == 0 }) {
		t.Errorf("runs %v, of which these go on: %v", s.runs, s.now)
	}
}
