package scenario_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
)

func TestAHandlerThatFailsHalfTheTimeHandlesAllInTheEnd(t *testing.T) {
	t.Parallel()
	const n = 40
	w, r := newWorld(t), newRecorder(t) // the recorder fails the test if two members handle a resource at once
	var mu sync.Mutex
	tries, failed := map[string]int{}, 0
	r.onHandle = func(_ context.Context, c drm.Claim) error {
		mu.Lock()
		defer mu.Unlock()
		tries[c.Resource.ID]++
		if tries[c.Resource.ID]%2 == 1 {
			failed++
			return errors.New("no luck")
		}
		return nil
	}
	ms := w.members(r, newSource(ids(n)...), "a", "b")
	r.until("all are handled by two", func() bool { return len(r.holders()) == n && settled(t, w) })
	w.stop(ms["a"])
	r.until("all are handled by one", func() bool { return len(r.holders()) == n && settled(t, w) })
	mu.Lock()
	defer mu.Unlock()
	// A resource that is to end meanwhile is terminated: HandleFailed is not called for it.
	if told := r.count("handle_failed", ""); failed < n || told == 0 || told > failed {
		t.Errorf("%d handles failed, and %d failures were told", failed, told)
	}
}

func TestAHandleThatTakesLongerThanALeaseLivesHurtsNothing(t *testing.T) {
	t.Parallel()
	const n, ttl = 20, 3 * time.Second
	w, r := newWorld(t), newRecorder(t)
	var over atomic.Bool // one of the two may stop first, and the other take "slow" over
	defer over.Store(true)
	r.onHandle = func(ctx context.Context, c drm.Claim) error {
		if c.Resource.ID != "slow" {
			return nil
		}
		select {
		case <-time.After(2 * ttl):
		case <-ctx.Done():
			if !over.Load() {
				t.Errorf("the context of what takes long ended: %v", context.Cause(ctx))
			}
		}
		return nil
	}
	src := newSource(ids(n)...)
	for _, id := range []string{"a", "b"} {
		cfg := w.config(id, r)
		cfg.LeaseTTL = ttl
		cfg.AllocateOnly, cfg.Retriever = false, src
		w.start(cfg)
	}
	r.until("all are handled by two", func() bool { return len(r.holders()) == n && settled(t, w) })
	calls := len(r.all())
	c := w.client()
	if err := c.Allocate(t.Context(), drm.Resource{ID: "slow"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.Wait(ctx, "slow"); err != nil {
		t.Fatal(err)
	}
	if news := r.all()[calls:]; len(news) != 1 {
		t.Errorf("calls: %v; want the one Handle that took long", news)
	}
}
