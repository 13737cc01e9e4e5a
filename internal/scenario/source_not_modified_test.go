package scenario_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// tagged is a source that says "not modified" to everybody who has had its answer, whatever became of that answer.
type tagged struct {
	*source
	version atomic.Int64 // the version of the present answer
	had     atomic.Int64 // the version that was returned last; 0: none was
}

func newTagged(ids ...string) *tagged {
	s := &tagged{source: newSource(ids...)}
	s.version.Store(1)
	return s
}

// change gives the source another answer.
func (s *tagged) change(answer []drm.Resource) {
	s.set(answer, nil)
	s.version.Add(1)
}

func (s *tagged) Fetch(ctx context.Context) ([]drm.Resource, error) {
	version := s.version.Load()
	if s.had.Load() == version {
		return nil, drm.ErrNotModified
	}
	answer, err := s.source.Fetch(ctx)
	if err == nil {
		s.had.Store(version)
	}
	return answer, err
}

func (s *tagged) Forget() { s.had.Store(0) }

// asked returns how often the source has given its whole answer.
func (s *tagged) asked() int {
	_, fetches, _ := s.counts()
	return fetches
}

// polled starts a member that polls a source often.
func (w *world) polled(r *recorder, src drm.Retriever, change func(*drm.Config)) *drm.Manager {
	w.tb.Helper()
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
	if change != nil {
		change(&cfg)
	}
	return w.start(cfg)
}

func (w *world) sourceStatus() drm.SourceStatus {
	w.tb.Helper()
	s, err := w.client().Status(context.Background())
	if err != nil {
		w.tb.Fatal(err)
	}
	return s.Source
}

func TestAnAnswerThatWasRefusedIsNotConfirmedByNotModified(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newTagged("x")
	w.polled(r, src, func(cfg *drm.Config) { cfg.FetchRetryBudget = time.Millisecond })
	r.until("it is handled", allHeld(r, 1))
	src.change(resources("", "", "")) // nothing of this answer can be used
	before := src.asked()
	r.until("it was asked for everything again and again", func() bool { return src.asked() >= before+3 })
	if s := w.sourceStatus(); !strings.Contains(s.Error, "id") {
		t.Errorf("the source's error is %q, want that of the refused answer", s.Error)
	}
	src.set(resources("x", "y"), nil) // the version stays the same
	r.until("both are handled", allHeld(r, 2))
	r.until("the source works", func() bool { return w.sourceStatus().Error == "" })
	now := src.asked()
	success := w.sourceStatus().LastSuccess
	r.until("not modified is a success again", func() bool { return w.sourceStatus().LastSuccess.After(success) })
	if got := src.asked(); got != now {
		t.Errorf("it was asked for everything %d times more", got-now)
	}
}

func TestAnAnswerThatCameTooLateIsNotConfirmedByNotModified(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newTagged("x")
	var late atomic.Bool
	returned := make(chan struct{})
	src.onFetch = func(ctx context.Context) {
		if late.CompareAndSwap(true, false) {
			<-ctx.Done()
			<-returned
		}
	}
	w.polled(r, src, func(cfg *drm.Config) { cfg.FetchTimeout = 2 * time.Second })
	r.until("it is handled", allHeld(r, 1))
	late.Store(true)
	src.change(resources("x", "y"))
	r.until("the fetch is given up", func() bool { return w.sourceStatus().Error != "" })
	close(returned) // the Fetch returns an answer that nobody waits for any more
	r.until("both are handled", allHeld(r, 2))
}

// The data that an allocation left must not stay because the source says that nothing has changed.
func TestAResourceThatIsWokenGetsTheDataOfASourceThatSaysNotModified(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newTagged("x", "y")
	m := w.polled(r, src, nil)
	r.until("both are handled", allHeld(r, 2))
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x", Data: []byte(`{"id":"x","by":"hand"}`)}); err != nil {
		t.Fatal(err)
	}
	r.until("it is handled with the data of the allocation", func() bool {
		return r.data("x") == `{"id":"x","by":"hand"}`
	})
	if err := m.Deallocate(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	r.until("it is terminated", allHeld(r, 1))
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	r.until("it has the source's data", func() bool { return r.data("x") == string(resources("x")[0].Object()) })
}

// An id that is allocated during a fetch has the source's data after the next one.
func TestAnIDThatIsAllocatedDuringAFetchGetsTheSourcesData(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newTagged("x")
	var slow atomic.Bool
	entered, release := make(chan struct{}), make(chan struct{})
	src.onFetch = func(context.Context) {
		if slow.CompareAndSwap(true, false) {
			close(entered)
			<-release
		}
	}
	m := w.polled(r, src, nil)
	r.until("it is handled", allHeld(r, 1))
	slow.Store(true)
	src.change([]drm.Resource{resources("x")[0], {ID: "y", Data: []byte(`{"id":"y","by":"source"}`)}})
	<-entered
	if err := m.Allocate(t.Context(), drm.Resource{ID: "y"}); err != nil {
		t.Fatal(err)
	}
	close(release)
	r.until("it has the source's data", func() bool { return r.data("y") == `{"id":"y","by":"source"}` })
}

// data returns the data that a resource was last handled with.
func (r *recorder) data(id string) (data string) {
	for _, c := range r.all() {
		if c.Action == "handle" && c.Resource == id {
			data = c.Data
		}
	}
	return data
}
