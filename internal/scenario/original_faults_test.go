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

// These tests are about the original's faults, which must not come back: each fails on what the original did.

func TestFaultMembershipChangesDuringStartAreNotLost(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t) // the recorder also fails the test if two members handle a resource at once
	src := newSource(ids(60)...)
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			cfg := w.config(fmt.Sprintf("m%d", i), r)
			cfg.AllocateOnly, cfg.Retriever = false, src
			w.start(cfg)
		})
	}
	wg.Wait()
	r.until("five members that started at once share all", func() bool {
		by := map[string]bool{}
		for _, m := range r.holders() {
			by[m] = true
		}
		return len(r.holders()) == 60 && len(by) == 5 && settled(t, w)
	})
}

func TestFaultAnAllocationIsNeverLost(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	first := w.members(r, nil, "a")["a"]
	allocated := make(chan struct{})
	go func() { // this goes on while members come and go
		defer close(allocated)
		for _, id := range ids(100) {
			if err := first.Allocate(context.Background(), drm.Resource{ID: id}); err != nil {
				t.Error(err)
			}
		}
	}()
	b := w.members(r, nil, "b")["b"]
	w.members(r, nil, "c")
	w.stop(b)
	<-allocated
	r.until("all are handled", func() bool { return len(r.holders()) == 100 && settled(t, w) })
}

func TestFaultOverlappingPollsGiveOneHandle(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("x")
	var inside, most atomic.Int32
	src.onFetch = func(ctx context.Context) { // a fetch takes longer than the poll interval
		most.Store(max(most.Load(), inside.Add(1)))
		defer inside.Add(-1)
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
	w.start(cfg)
	r.until("it was fetched four times", func() bool { _, n, _ := src.counts(); return n >= 4 })
	if n := r.count("handle", "x"); n != 1 {
		t.Errorf("handled %d times", n)
	}
	if most.Load() != 1 {
		t.Errorf("%d fetches at once", most.Load())
	}
}

func TestFaultNoPollingAndNoHandlingAfterStop(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("x")
	fetching := make(chan struct{})
	var armed atomic.Bool
	src.onFetch = func(ctx context.Context) {
		if armed.CompareAndSwap(true, false) {
			close(fetching)
			<-ctx.Done() // the stop comes during a fetch, which then returns its answer all the same
		}
	}
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
	m := w.start(cfg)
	r.until("it is handled", allHeld(r, 1))
	armed.Store(true)
	<-fetching
	src.set(resources("x", "y"), nil)
	w.stop(m)
	_, before, _ := src.counts()
	calls := len(r.all())
	timer := time.NewTimer(5 * cfg.PollInterval)
	defer timer.Stop()
	<-timer.C
	if _, after, _ := src.counts(); after != before {
		t.Errorf("the source was asked %d times after Stop", after-before)
	}
	if len(r.all()) != calls || len(r.holders()) != 0 {
		t.Errorf("calls after Stop: %v", r.all()[calls:])
	}
}

func TestFaultAnAllocatedResourceSurvivesRebalances(t *testing.T) {
	t.Parallel()
	for _, cached := range []bool{false, true} {
		t.Run(fmt.Sprintf("cached %v", cached), func(t *testing.T) {
			w, r := newWorld(t), newRecorder(t)
			src := newSource("1", "2")
			start := func(id string) *drm.Manager {
				cfg := w.config(id, r)
				cfg.AllocateOnly, cfg.Retriever, cfg.CacheResources = false, src, cached
				return w.start(cfg)
			}
			a := start("a")
			if err := a.Allocate(t.Context(), drm.Resource{ID: "extra"}); err != nil {
				t.Fatal(err)
			}
			r.until("three are handled", func() bool { return len(r.holders()) == 3 && settled(t, w) })
			_, before, _ := src.counts()
			b := start("b")
			if !cached {
				r.until("the source was asked again", func() bool { _, n, _ := src.counts(); return n > before })
			}
			r.until("two members share three", func() bool { return len(r.holders()) == 3 && settled(t, w) })
			w.stop(b)
			r.until("one has all three", func() bool { return len(r.holders()) == 3 && settled(t, w) })
		})
	}
}

func TestFaultASourceThatNeverAnswersIsTimedOut(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("x")
	var hang atomic.Bool
	release := make(chan struct{})
	src.onFetch = func(context.Context) {
		if hang.Load() {
			<-release // ignores its context
		}
	}
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
	cfg.FetchTimeout, cfg.FetchRetryBudget = time.Second, time.Millisecond
	m := w.startOnly(cfg)
	r.until("it is handled", allHeld(r, 1))
	hang.Store(true)
	c := w.client()
	r.until("status tells", func() bool {
		s, err := c.Status(t.Context())
		return err == nil && strings.Contains(s.Source.Error, "1s")
	})
	if len(r.holders()) != 1 {
		t.Error("what was handled is not any more")
	}
	// Stop leaves behind the Fetch that has not returned.
	if err := m.Stop(t.Context()); !errors.Is(err, drm.ErrLeftBehind) || !strings.Contains(err.Error(), "Fetch") {
		t.Errorf("Stop: %v", err)
	}
	close(release)
}
