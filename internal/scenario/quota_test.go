package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
)

func TestAllocationsOverTheQuotaAreRefused(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	cfg := w.config("a", r)
	cfg.MaxAppResources, cfg.MaxResourceBytes = 5, 100
	m := w.start(cfg)
	c := w.clientOf(drm.ClientConfig{MaxAppResources: 5, MaxResourceBytes: 100})
	t.Cleanup(func() { _ = c.Close() })
	for name, who := range map[string]interface {
		Allocate(ctx context.Context, r drm.Resource) error
		Deallocate(ctx context.Context, id string) error
	}{"a member": m, "a client": c} {
		allocate(t, m, ids(5)...)
		var over *drm.QuotaError
		err := who.Allocate(t.Context(), drm.Resource{ID: "one-more"})
		if !errors.Is(err, drm.ErrQuota) || !errors.As(err, &over) ||
			*over != (drm.QuotaError{Field: "MaxAppResources", Limit: 5, Count: 5}) {
			t.Errorf("%s allocates a sixth: %v", name, err)
		}
		large := drm.Resource{ID: ids(1)[0], Data: []byte(fmt.Sprintf("{\"x\":%q}", strings.Repeat("x", 100)))}
		if err := who.Allocate(t.Context(), large); !errors.As(err, &over) || over.Field != "MaxResourceBytes" {
			t.Errorf("%s allocates a large one: %v", name, err)
		}
		small := drm.Resource{ID: ids(1)[0], Data: []byte(`{"x":"y"}`)}
		if err := who.Allocate(t.Context(), small); err != nil {
			t.Errorf("%s changes the data of one that is there: %v", name, err)
		}
		if err := who.Deallocate(t.Context(), ids(1)[0]); err != nil {
			t.Fatal(err)
		}
		if err := who.Allocate(t.Context(), drm.Resource{ID: ids(1)[0]}); err != nil {
			t.Errorf("%s allocates a fifth again: %v", name, err)
		}
	}
	r.until("they are handled", func() bool { return len(r.holders()) == 5 })
}

func TestAllocationsAtOnceExceedTheQuotaByThoseAtMost(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	cfg := w.config("a", r)
	cfg.MaxAppResources = 10
	m := w.start(cfg)
	const atOnce = 4
	var wg sync.WaitGroup
	for n := range atOnce {
		wg.Go(func() {
			for i := range 10 {
				err := m.Allocate(t.Context(), drm.Resource{ID: fmt.Sprintf("%d-%d", n, i)})
				if err != nil && !errors.Is(err, drm.ErrQuota) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(w.keysWith("/resources/")); n < 10 || n >= 10+atOnce {
		t.Errorf("there are %d resources, want 10, and fewer than %d more", n, atOnce)
	}
}

// answering is a source whose answer a test changes.
type answering struct {
	mu     sync.Mutex
	answer []drm.Resource
}

func (a *answering) Fetch(context.Context) ([]drm.Resource, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.answer, nil
}

func (a *answering) Setup(context.Context, drm.API) error { return nil }

func (a *answering) TearDown(context.Context) error { return nil }

func (a *answering) set(resources ...drm.Resource) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = resources
}

func TestAnAnswerOverTheQuotaChangesNothing(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	source, failed := &answering{}, make(chan error, 100)
	resources := func(n int) (all []drm.Resource) {
		for _, id := range ids(n) {
			all = append(all, drm.Resource{ID: id})
		}
		return all
	}
	source.set(resources(3)...)
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, source, 100*time.Millisecond
	cfg.MaxAppResources, cfg.MaxResourceBytes = 5, 100
	cfg.OnSourceError = func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	w.start(cfg)
	r.until("three are handled", func() bool { return len(r.holders()) == 3 })
	source.set(append(resources(6), drm.Resource{ID: "more"})...)
	if err := <-failed; !errors.Is(err, drm.ErrQuota) || !strings.Contains(err.Error(), "MaxAppResources") {
		t.Errorf("the source is said to have failed with %v", err)
	}
	if n := r.count("terminate", ""); n != 0 || len(r.holders()) != 3 {
		t.Errorf("%d were terminated, %d are handled, of 3", n, len(r.holders()))
	}
	c := w.client()
	t.Cleanup(func() { _ = c.Close() })
	large := []byte(fmt.Sprintf("{\"id\":%q,\"x\":%q}", ids(1)[0], strings.Repeat("x", 100)))
	source.set(append(resources(4)[1:], drm.Resource{ID: ids(1)[0], Data: large})...)
	r.until("the fourth is handled", func() bool { return len(r.holders()) == 4 })
	if n := r.count("terminate", ""); n != 0 {
		t.Errorf("%d were terminated, though the large one is only a bad item", n)
	}
	s, err := c.Status(t.Context())
	if err != nil || s.Source.Bad != 1 {
		t.Errorf("the status shows %d bad items, error %v", s.Source.Bad, err)
	}
}
