package scenario_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
	"github.com/distributed-resource-manager/drm/shard"
)

// slowService is a handler like a webhook: its calls are requests that last until they are answered, and a request that
// is cut off may be carried out all the same.
type slowService struct {
	finishes bool
	slow     string // the call that takes until it is answered

	answer  chan struct{}
	began   chan given // receives what the call that takes long was given
	mu      sync.Mutex
	history []string
}

func newSlowService(finishes bool, slow string) *slowService {
	return &slowService{finishes: finishes, slow: slow, answer: make(chan struct{}), began: make(chan given, 1)}
}

func (s *slowService) FinishesCalls() bool { return s.finishes }

func (s *slowService) request(ctx context.Context, call string, c drm.Claim) error {
	if c.Resource.ID != "r" {
		return nil
	}
	if call != s.slow {
		s.note(call)
		return nil
	}
	select {
	case s.began <- given{ctx, c}:
	default: // a later call is answered at once
	}
	select {
	case <-s.answer:
		s.note(call)
		return nil
	case <-ctx.Done():
		s.note(call + " cut off")
		return context.Cause(ctx)
	}
}

func (s *slowService) note(call string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = append(s.history, call)
}

func (s *slowService) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.history, ", ")
}

func (s *slowService) Handle(ctx context.Context, c drm.Claim) error {
	return s.request(ctx, "handle", c)
}

func (s *slowService) Update(ctx context.Context, c drm.Claim) error {
	return s.request(ctx, "update", c)
}

func (s *slowService) Terminate(ctx context.Context, c drm.Claim) error {
	return s.request(ctx, "terminate", c)
}
func (s *slowService) HandleFailed(context.Context, drm.Claim, error)    { s.note("handle_failed") }
func (s *slowService) TerminateFailed(context.Context, drm.Claim, error) { s.note("terminate_failed") }

// handles lets a member begin with r, and change its data where Update is the call that takes long.
func (s *slowService) handles(w *world, cfg drm.Config) (*drm.Manager, given) {
	w.tb.Helper()
	m, err := w.tryStart(w.tb.Context(), cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	w.pin(m.ID(), "r")
	w.allocate("r")
	if s.slow == "update" {
		await(w.tb, "r is handled", func() bool { return len(m.Held()) == 1 })
		if err := m.Allocate(w.tb.Context(), drm.Resource{
			ID: "r", Data: json.RawMessage(`{"id":"r","v":2}`),
		}); err != nil {
			w.tb.Fatal(err)
		}
	}
	return m, <-s.began
}

// Whatever makes a resource leave its member in order, the member waits for the answer of a Handle or Update in
// progress where the handler wants that, and cancels the call otherwise. Terminate follows either way.
func TestACallThatIsToBeFinishedIsNotCutOff(t *testing.T) {
	t.Parallel()
	ends := map[string]func(*world, *drm.Manager){
		"moved":       func(w *world, _ *drm.Manager) { w.pin("b", "r") },
		"deallocated": func(w *world, m *drm.Manager) { _ = m.Deallocate(w.tb.Context(), "r") },
		"stopped":     func(w *world, m *drm.Manager) { go func() { _ = m.Stop(context.Background()) }() },
	}
	for name, end := range ends {
		for _, slow := range []string{"handle", "update"} {
			for _, finishes := range []bool{true, false} {
				how := map[bool]string{true: "finished", false: "cancelled"}[finishes]
				t.Run(name+" during "+slow+", "+how, func(t *testing.T) {
					t.Parallel()
					w, s := newWorld(t), newSlowService(finishes, slow)
					w.start(w.config("b", newRecorder(t)))
					a, call := s.handles(w, w.config("a", s))
					end(w, a)
					if finishes {
						// The member has been told when the first view or news after the end shows it. The context
						// has not ended then.
						await(t, "the member knows", func() bool { return w.isEnding(a, name) })
						if call.ctx.Err() != nil || !call.claim.Valid() {
							t.Errorf("the call was cut off: %v", call)
						}
						close(s.answer)
					}
					await(t, "r is not a's any more", func() bool { return strings.HasSuffix(s.said(), "terminate") })
					want := slow + ", terminate"
					if !finishes {
						want = slow + " cut off, terminate"
					}
					if got := s.said(); !strings.HasSuffix(got, want) {
						t.Errorf("the service saw: %s; want: %s", got, want)
					}
					w.stop(a)
				})
			}
		}
	}
}

// isEnding reports whether a's call would have been cancelled by now. It looks at something else that the same news
// makes a do.
func (w *world) isEnding(a *drm.Manager, how string) bool {
	w.tb.Helper()
	switch how {
	case "moved": // a has the view that pins r elsewhere
		held, err := w.client().Lookup(w.tb.Context(), "r")
		return err == nil && held.Expected == "b" && w.probe(a).Sees("r") == "b"
	case "stopped":
		ms, err := w.client().Members(w.tb.Context())
		if err != nil {
			w.tb.Fatal(err)
		}
		for _, m := range ms {
			if m.ID == a.ID() && m.State == "leaving" {
				return true
			}
		}
		return false
	default: // the news of a shard come in order
		w.allocate(w.neighbour("r"))
		await(w.tb, "what was allocated after it is handled", func() bool {
			return slices.ContainsFunc(a.Held(), func(held drm.Assignment) bool { return held.Resource != "r" })
		})
		return true
	}
}

// neighbour returns the id of another resource of the same shard.
func (w *world) neighbour(id string) string {
	for n := 0; ; n++ {
		if other := fmt.Sprint("n", n); shard.Of(other, 64) == shard.Of(id, 64) {
			return other
		}
	}
}

// The end of the claim cuts off even such a call, since somebody else may handle the resource. What the service made of
// the call is not known, so Terminate follows.
func TestTheEndOfTheClaimCutsOffEvenACallThatIsToBeFinished(t *testing.T) {
	t.Parallel()
	t.Run("the claim is deleted", func(t *testing.T) {
		t.Parallel()
		w, s := newWorld(t), newSlowService(true, "handle")
		a, call := s.handles(w, w.config("a", s))
		defer w.stop(a)
		if _, err := w.etcd.Delete(t.Context(), claimOf("r")); err != nil {
			t.Fatal(err)
		}
		await(t, "terminate follows", func() bool { return strings.Contains(s.said(), "handle cut off, terminate") })
		if !errors.Is(context.Cause(call.ctx), drm.CauseClaimLost) {
			t.Errorf("the context ended because of %v", context.Cause(call.ctx))
		}
		close(s.answer)
	})
	t.Run("the lease ends", func(t *testing.T) {
		t.Parallel()
		w, s := newWorld(t), newSlowService(true, "handle")
		proxy, err := faultproxy.New(strings.TrimPrefix(w.endpoint, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer proxy.Close()
		cfg := w.config("a", s)
		cfg.Etcd = drm.EtcdConfig{Endpoints: []string{proxy.Endpoint()}, CommandTimeout: time.Second}
		cfg.LeaseTTL, cfg.StopTimeout = 2*time.Second, time.Second
		a, call := s.handles(w, cfg)
		defer a.Stop(context.Background()) //nolint:errcheck // it may leave something behind without etcd
		proxy.BlackHole()
		<-call.ctx.Done()
		if call.claim.Valid() || !errors.Is(context.Cause(call.ctx), drm.CauseFenced) {
			t.Errorf("after the deadline: %v", call)
		}
		await(t, "the failure is told, and terminate follows", func() bool {
			return strings.Contains(s.said(), "handle cut off, handle_failed, terminate")
		})
		close(s.answer)
	})
}
