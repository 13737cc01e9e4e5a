package scenario_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

func TestALargeFirstAnswerIsWrittenBeforeTheCoordinatorClaims(t *testing.T) {
	t.Parallel()
	const n = 12_000
	w, r := newWorld(t), newRecorder(t)
	var first sync.Once
	r.onHandle = func(ctx context.Context, _ drm.Claim) error {
		first.Do(func() {
			resp, err := w.etcd.Get(ctx, "/drm/app/shards/", clientv3.WithPrefix(), clientv3.WithCountOnly())
			if err != nil || resp.Count < n { // claims count too
				t.Errorf("the first resource is handled when there are %d keys of %d, %v", resp.Count, n, err)
			}
		})
		return nil
	}
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever = false, newSource(ids(n)...)
	w.start(cfg)
	r.until("all are handled", allHeld(r, n))
}

// tally is a Handler for many resources. It counts them, and notes the calls for one of them.
type tally struct {
	of    string
	clock *recorder // only its until is used, which also polls when it hears of no calls
	held  atomic.Int64

	mu    sync.Mutex
	calls []string // the calls for the one
}

func newTally(t *testing.T, of string) *tally { return &tally{of: of, clock: newRecorder(t)} }

func (h *tally) handler() drm.Handler {
	note := func(action string, c drm.Claim) error {
		if c.Resource.ID == h.of {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.calls = append(h.calls, action+" "+c.Member)
		}
		return nil
	}
	return handler.New(handler.Funcs{
		Handle:    func(_ context.Context, c drm.Claim) error { h.held.Add(1); return note("handle", c) },
		Terminate: func(_ context.Context, c drm.Claim) error { h.held.Add(-1); return note("terminate", c) },
	})
}

// are waits until the calls for the one resource are these.
func (h *tally) are(calls string) {
	h.clock.tb.Helper()
	h.clock.until(calls, func() bool { return h.all() == calls })
}

func (h *tally) all() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.calls, ", ")
}

// patiently is a config whose stop may take as long as it does on a busy machine.
func (w *world) patiently(id string, h *tally) drm.Config {
	cfg := w.config(id, h.handler())
	cfg.StopTimeout = patience
	return cfg
}

func TestALargeFirstAnswerEndsNothingThatIsHandled(t *testing.T) {
	t.Parallel()
	const n = 10_000
	w, h := newWorld(t), newTally(t, "x")
	b := w.start(w.patiently("b", h))
	w.pin("a", "x")
	if err := b.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	h.are("handle b")
	src, answer := newSource(ids(n)...), make(chan struct{})
	src.onFetch = func(context.Context) { <-answer }
	cfg := w.patiently("a", h)
	cfg.AllocateOnly, cfg.Retriever = false, src
	started := make(chan *drm.Manager, 1)
	go func() { defer close(started); started <- w.startOnly(cfg) }() // returns when the first answer has been written
	const moved = "handle b, terminate b, handle a"
	h.are(moved)
	close(answer)
	a, ok := <-started
	if !ok {
		t.FailNow() // startOnly has said why
	}
	h.clock.until("all are handled", func() bool { return h.held.Load() == n+1 })
	if got := h.all(); got != moved {
		t.Errorf("calls for it: %s", got)
	}
	w.stop(a)
}

// The coordinator does not know what another member has: it owns nothing yet in a shard that was empty.
func TestACoordinatorThatWritesALargeFirstAnswerTakesOverFromOneThatLeaves(t *testing.T) {
	t.Parallel()
	const n = 10_000
	w, h := newWorld(t), newTally(t, "x")
	writing, free := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(free) })
	defer release()
	var once sync.Once
	q := newRequests(w.app)
	q.spoil = func(k kind, _, _ int) fault {
		if k == catalogues {
			once.Do(func() { close(writing) })
			<-free
		}
		return noFault
	}
	b := w.startOnly(w.patiently("b", h))
	cfg := w.patiently("a", h)
	cfg.Etcd = drm.EtcdConfig{Client: q.client(t, w.endpoint), CommandTimeout: time.Minute}
	cfg.AllocateOnly, cfg.Retriever = false, newSource(ids(n)...)
	started := make(chan *drm.Manager, 1)
	go func() { defer close(started); started <- w.startOnly(cfg) }()
	<-writing
	w.pin("b", "x")
	if err := b.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	h.are("handle b")
	w.stop(b)
	h.are("handle b, terminate b, handle a") // this happens while the coordinator still writes
	release()
	a, ok := <-started
	if !ok {
		t.FailNow() // startOnly has said why
	}
	h.clock.until("all are handled", func() bool { return h.held.Load() == n+1 })
	w.stop(a)
}
