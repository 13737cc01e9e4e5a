package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/retriever"
	"github.com/distributed-resource-manager/drm/shard"
)

// These tests check what the unit tests of the original, a library for Node, checked: what its users rely on. Those had
// a mocked ring, so that a test could decide which member owns what. Here, operators' pins do that.

// pin gives resources to a member, whatever the ring says.
func (w *world) pin(member string, resources ...string) {
	w.tb.Helper()
	layout := keys.New(drm.DefaultPrefix, "app")
	for _, id := range resources {
		if _, err := w.etcd.Put(context.Background(), layout.Pin(shard.Of(id, 64)), member); err != nil {
			w.tb.Fatal(err)
		}
	}
}

// heldBy lists what a member handles according to the recorder.
func heldBy(r *recorder, member string) []string {
	var held []string
	for id, m := range r.holders() {
		if m == member {
			held = append(held, id)
		}
	}
	slices.Sort(held)
	return held
}

func has(r *recorder, member string, want ...string) func() bool {
	return func() bool { return slices.Equal(heldBy(r, member), want) }
}

// two starts members a and b with a source of the ids 1 to 5. a has the given ones, and b has the rest.
func two(t *testing.T, r *recorder, src *source, cached bool, a ...string) (*world, map[string]*drm.Manager) {
	w := newWorld(t)
	all := []string{"1", "2", "3", "4", "5"}
	w.pin("b", all...)
	w.pin("a", a...)
	ms := map[string]*drm.Manager{}
	for _, id := range []string{"a", "b"} {
		cfg := w.config(id, r)
		cfg.AllocateOnly, cfg.Retriever, cfg.CacheResources = false, src, cached
		ms[id] = w.start(cfg)
	}
	r.until("everything is where it belongs", func() bool {
		return has(r, "a", a...)() && len(r.holders()) == len(src.answer)
	})
	return w, ms
}

func TestOriginalEachOwnResourceIsHandled(t *testing.T) {
	t.Parallel()
	r := newRecorder(t)
	_, ms := two(t, r, newSource("1", "2", "3"), true, "1", "3")
	var held []string
	for _, a := range ms["a"].Held() {
		held = append(held, a.Resource)
	}
	if slices.Sort(held); !slices.Equal(held, []string{"1", "3"}) {
		t.Errorf("a holds %v, want 1 and 3", held)
	}
}

func TestOriginalHandleFailedIsCalledAndTheResourceIsNotHeld(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	failure := errors.New("cannot connect")
	r.onHandle = func(context.Context, drm.Claim) error { return failure }
	cfg := w.config("a", r)
	cfg.HandleAttempts = 1
	m := w.start(cfg)
	if err := m.Allocate(t.Context(), drm.Resource{ID: "1"}); err != nil {
		t.Fatal(err)
	}
	r.until("the failure is told", func() bool { return r.count("handle_failed", "1") == 1 })
	if len(m.Held()) != 0 {
		t.Errorf("held: %v", m.Held())
	}
}

func TestOriginalARebalanceHandlesWhatIsNewAndTerminatesWhatIsGone(t *testing.T) {
	t.Parallel()
	r := newRecorder(t)
	w, _ := two(t, r, newSource("1", "2", "3", "4", "5"), true, "1", "3")
	mark := len(r.all())
	w.pin("b", "1")
	w.pin("a", "4", "5")
	r.until("a has 3, 4 and 5", has(r, "a", "3", "4", "5"))
	counts := map[string]int{}
	for _, c := range r.all()[mark:] {
		if c.Member == "a" {
			counts[c.Action+" "+c.Resource]++
		}
	}
	want := map[string]int{"terminate 1": 1, "handle 4": 1, "handle 5": 1}
	if !maps.Equal(counts, want) {
		t.Errorf("calls of a: %v, want %v", counts, want)
	}
}

func TestOriginalATerminateThatFailsIsReportedAndTheResourceIsLetGo(t *testing.T) {
	t.Parallel()
	r := newRecorder(t)
	r.onTerminate = func(_ context.Context, c drm.Claim) error {
		if c.Member == "a" && c.Resource.ID == "1" {
			return errors.New("cannot disconnect")
		}
		return nil
	}
	w, ms := two(t, r, newSource("1", "3", "4"), true, "1", "3")
	w.pin("b", "1")
	w.pin("a", "4")
	r.until("a has 3 and 4", has(r, "a", "3", "4"))
	r.until("b has 1", has(r, "b", "1"))
	if n := r.count("terminate_failed", "1"); n != 1 {
		t.Errorf("the failure was told %d times", n)
	}
	r.until("Held says so", func() bool { return len(ms["a"].Held()) == 2 })
}

func TestOriginalAFailedTerminateIsHeldWherePolicySaysSo(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	failures := 2
	r.onTerminate = func(context.Context, drm.Claim) error {
		if failures--; failures >= 0 {
			return errors.New("cannot disconnect")
		}
		return nil
	}
	cfg := w.config("a", &holding{r})
	cfg.TerminatePolicy = drm.HoldUntilTerminated
	m := w.start(cfg)
	if err := m.Allocate(t.Context(), drm.Resource{ID: "1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Wait(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if err := m.Deallocate(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if err := w.client().WaitGone(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if n := r.count("terminate", "1"); n != 3 {
		t.Errorf("released after %d Terminates, want 3", n)
	}
}

// holding is a recorder for which a member has a resource until a Terminate succeeds.
type holding struct{ *recorder }

func (h *holding) Terminate(ctx context.Context, c drm.Claim) error {
	h.mu.Lock()
	h.holder[c.Resource.ID] = c.Member
	h.mu.Unlock()
	return h.recorder.Terminate(ctx, c)
}

func TestOriginalARebalanceFromTheCacheDoesNotFetch(t *testing.T) {
	t.Parallel()
	r := newRecorder(t)
	src := newSource("1", "3", "4")
	w, _ := two(t, r, src, true, "1")
	_, before, _ := src.counts()
	w.pin("a", "3")
	r.until("a has 1 and 3", has(r, "a", "1", "3"))
	cfg := w.config("c", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.CacheResources = false, src, true
	w.start(cfg)
	w.pin("c", "4")
	r.until("c has 4", has(r, "c", "4"))
	src.staysAt(t, before, 10*cfg.SettleDelay)
}

func TestOriginalHTTP200GivesTheDataAnd400IsAnError(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, `{"data":[{"id":"1"},{"id":"2"}]}`)
	}))
	defer server.Close()
	src, err := retriever.NewHTTP(retriever.HTTPConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	got, err := src.Fetch(t.Context())
	if err != nil || len(got) != 2 || got[0].ID != "1" {
		t.Errorf("%v, %v", got, err)
	}
	status = http.StatusBadRequest
	var bad *retriever.StatusError
	if _, err := src.Fetch(t.Context()); !errors.As(err, &bad) || bad.Code != http.StatusBadRequest {
		t.Errorf("400: %v", err)
	}
}

func TestOriginalAConfiguredMethodPUTIsUsed(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		asked <- req.Method + " " + string(body)
		_, _ = fmt.Fprint(w, `{"data":[{"id":"1"}]}`)
	}))
	defer server.Close()
	src, err := retriever.NewHTTP(retriever.HTTPConfig{
		URL: server.URL, Method: http.MethodPut, Body: []byte("of mine"),
	})
	if err != nil {
		t.Fatal(err)
	}
	w, r := newWorld(t), newRecorder(t)
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever = false, src
	w.start(cfg)
	r.until("what the source answered is handled", allHeld(r, 1))
	if got := <-asked; got != "PUT of mine" {
		t.Errorf("the source was asked with %s", got)
	}
}

func TestOriginalAPluginIsSetUpAndDelegatedTo(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("1")
	m := w.members(r, src, "a")["a"]
	r.until("what it fetched is handled", allHeld(r, 1))
	if err := src.api.Allocate(t.Context(), drm.Resource{ID: "2"}); err != nil { // as the plugin would call it
		t.Fatal(err)
	}
	r.until("what it allocated is handled", allHeld(r, 2))
	if err := src.api.Deallocate(t.Context(), "2"); err != nil {
		t.Fatal(err)
	}
	r.until("what it deallocated is not", allHeld(r, 1))
	w.stop(m)
	if setups, fetches, downs := src.counts(); setups != 1 || fetches == 0 || downs != 1 {
		t.Errorf("Setup %d, Fetch %d, TearDown %d times", setups, fetches, downs)
	}
}

func TestOriginalALoggerGetsTheChildsFields(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	observed, logs := observer.New(zap.InfoLevel)
	cfg := w.config("a", r)
	cfg.Logger, cfg.LoggerFields = zap.New(observed), []zap.Field{zap.String("component", "drm")}
	w.stop(w.start(cfg))
	if logs.Len() == 0 {
		t.Fatal("nothing was logged")
	}
	for _, entry := range logs.All() {
		if entry.ContextMap()["component"] != "drm" {
			t.Errorf("%s: fields %v", entry.Message, entry.ContextMap())
		}
	}
}

func TestOriginalAnExitOnSourceErrorTerminatesAndSaysWhy(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("1", "2")
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
	cfg.SourcePolicy, cfg.FetchRetryBudget = drm.ExitOnSourceError, time.Millisecond
	m := w.start(cfg)
	r.until("both are handled", allHeld(r, 2))
	src.set(nil, errors.New("gone for good"))
	select {
	case <-m.Done():
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if err := m.Err(); !errors.Is(err, drm.ErrSourceFailed) {
		t.Errorf("Err says %v", err)
	}
	if len(r.holders()) != 0 || r.count("terminate", "") != 2 {
		t.Errorf("calls: %v", r.all())
	}
	if _, _, downs := src.counts(); downs != 1 {
		t.Errorf("TearDown was called %d times", downs)
	}
}
