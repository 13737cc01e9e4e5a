package scenario_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
)

// members starts members of these ids that share a recorder and a source.
func (w *world) members(r drm.Handler, src *source, ids ...string) map[string]*drm.Manager {
	w.tb.Helper()
	all := map[string]*drm.Manager{}
	for _, id := range ids {
		cfg := w.config(id, r)
		if src != nil {
			cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
		}
		all[id] = w.start(cfg)
	}
	return all
}

func allHeld(r *recorder, n int) func() bool {
	return func() bool { return len(r.holders()) == n }
}

func TestMembersShareTheResourcesOfASource(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	w.members(r, newSource(ids(60)...), "a", "b", "c")
	r.until("all 60 are handled, by three members", func() bool {
		holders, by := r.holders(), map[string]int{}
		for _, m := range holders {
			by[m]++
		}
		return len(holders) == 60 && len(by) == 3
	})
}

func TestAJoinMovesOnlyWhatTheJoinerReceives(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource(ids(60)...)
	w.members(r, src, "a", "b")
	r.until("two members share 60", func() bool { return len(r.holders()) == 60 && settled(t, w) })
	before, mark := r.holders(), len(r.all())
	w.members(r, src, "c")
	r.until("three members share 60", func() bool { return len(r.holders()) == 60 && settled(t, w) })
	after := r.holders()
	moved := 0
	for id, m := range after {
		if m != before[id] {
			moved++
			if m != "c" {
				t.Errorf("%s moved from %s to %s, which did not join", id, before[id], m)
			}
		}
	}
	if moved == 0 {
		t.Error("nothing moved to the joiner")
	}
	if calls := len(r.all()) - mark; calls != 2*moved {
		t.Errorf("%d calls for %d moves, want a terminate and a handle each", calls, moved)
	}
}

// settled reports whether everything is active where it belongs.
func settled(t testing.TB, w *world) bool {
	s, err := w.client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Active == s.Resources && s.Misplaced == 0 && s.Resources > 0
}

func TestStopTerminatesEverythingBeforeOthersHandleIt(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t) // the recorder fails the test on any overlap
	src := newSource(ids(40)...)
	ms := w.members(r, src, "a", "b")
	r.until("two members share 40", func() bool { return len(r.holders()) == 40 && settled(t, w) })
	w.stop(ms["a"])
	if held := ms["a"].Held(); len(held) != 0 {
		t.Errorf("a stopped member holds %d", len(held))
	}
	for id, m := range r.holders() {
		if m == "a" {
			t.Errorf("%s is still handled by the member that stopped", id)
		}
	}
	r.until("the other has all", func() bool {
		for _, m := range r.holders() {
			if m != "b" {
				return false
			}
		}
		return len(r.holders()) == 40
	})
	w.stop(ms["a"]) // a second Stop has the same result
	select {
	case <-ms["a"].Done():
	default:
		t.Error("Done is not closed after Stop")
	}
	if err := ms["a"].Err(); err != nil {
		t.Errorf("Err after Stop is %v", err)
	}
	if _, _, downs := src.counts(); downs != 1 {
		t.Errorf("TearDown was called %d times for one stop", downs)
	}
	_, waited := ms["a"].Wait(t.Context(), "r0")
	for _, err := range []error{
		waited, ms["a"].Allocate(t.Context(), drm.Resource{ID: "x"}), ms["a"].Deallocate(t.Context(), "r0"),
	} {
		if !errors.Is(err, drm.ErrStopped) {
			t.Errorf("a call after the stop: %v", err)
		}
	}
	members, err := w.client().Members(t.Context())
	if err != nil || len(members) != 1 || members[0].ID != "b" {
		t.Errorf("members after the stop: %v, %v", members, err)
	}
}

// A stop that cuts a Handle short ends its context but not the claim, so that Terminate can end what Handle began.
func TestTheClaimOutlivesAHandleThatIsCutShort(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	began := make(chan struct{})
	var handled drm.Claim
	r.onHandle = func(ctx context.Context, c drm.Claim) error {
		handled = c
		close(began)
		<-ctx.Done()
		if !c.Valid() {
			t.Errorf("the claim is not valid in a Handle cut short: %v", context.Cause(ctx))
		}
		return context.Cause(ctx)
	}
	r.onTerminate = func(_ context.Context, c drm.Claim) error {
		if !c.Valid() || !handled.Valid() {
			t.Error("the claim is not valid in the Terminate that follows")
		}
		return nil
	}
	m := w.start(w.config("m", r))
	if err := m.Allocate(t.Context(), drm.Resource{ID: "r"}); err != nil {
		t.Fatal(err)
	}
	<-began
	w.stop(m)
	if handled.Valid() {
		t.Error("the claim is valid after the stop")
	}
	if n := r.count("terminate", "r"); n != 1 {
		t.Errorf("Terminate was called %d times", n)
	}
}

// An idle member stops without a warning, whatever is on its way: a stop does not wait for requests that nothing needs
// any more.
func TestAnIdleMemberStopsWithoutAWarning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	observed, logs := observer.New(zap.WarnLevel)
	for _, pause := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 50 * time.Millisecond} {
		cfg := w.config("a", newRecorder(t))
		cfg.Logger = zap.New(observed)
		m := w.start(cfg)
		select {
		case <-m.Done():
			t.Fatalf("the member ended by itself: %v", m.Err())
		case <-time.After(pause):
		}
		w.stop(m)
	}
	for _, line := range logs.All() {
		t.Errorf("%s: %v", line.Message, line.ContextMap())
	}
	if members, err := w.client().Members(t.Context()); err != nil || len(members) != 0 {
		t.Errorf("members after the stops: %v, %v", members, err)
	}
}

func TestSourceChangesReachTheHandler(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("keep", "drop", "change")
	w.members(r, src, "a")
	r.until("three are handled", allHeld(r, 3))
	next := resources("keep", "change", "new")
	next[1].Data = json.RawMessage(`{"id":"change","v":2}`)
	src.set(next, nil)
	r.until("the change has arrived", func() bool {
		h := r.holders()
		return len(h) == 3 && h["drop"] == "" && h["new"] == "a" && r.count("handle", "change") == 2
	})
	if n := r.count("handle", "keep"); n != 1 {
		t.Errorf("what did not change was handled %d times", n)
	}
	calls := r.all()
	for i, c := range calls {
		if c.Resource == "change" && c.Action == "terminate" && calls[i].Data != `{"id":"change"}` {
			t.Errorf("terminate was given the data %s, want those that were handled", c.Data)
		}
	}
}

// updatingRecorder is a recorder that has Update, and so takes changed data without a Terminate.
type updatingRecorder struct{ *recorder }

func (u updatingRecorder) Update(_ context.Context, c drm.Claim) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.note("update", c)
	return nil
}

func TestChangedDataGoToUpdateWhereThereIsOne(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("x")
	w.members(updatingRecorder{r}, src, "a")
	r.until("it is handled", allHeld(r, 1))
	next := resources("x")
	next[0].Data = json.RawMessage(`{"v":2,"id":"x"}`)
	src.set(next, nil)
	r.until("it is updated", func() bool { return r.count("update", "x") == 1 })
	if r.count("terminate", "") != 0 || r.count("handle", "") != 1 {
		t.Errorf("calls: %v", r.all())
	}
	last := r.all()[len(r.all())-1]
	if last.Data != `{"v":2,"id":"x"}` {
		t.Errorf("update was given %s", last.Data)
	}
}

func TestAllocationsReachTheirOwnerFromAnywhere(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	ms := w.members(r, nil, "a", "b", "c")
	c := w.client()
	for i, id := range ids(30) {
		res := drm.Resource{ID: id}
		var err error
		switch i % 3 {
		case 0:
			err = ms["a"].Allocate(t.Context(), res)
		case 1:
			err = ms["b"].Allocate(t.Context(), res)
		default:
			err = c.Allocate(t.Context(), res)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids(30) {
		a, err := ms["c"].Wait(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if a.State != drm.StateActive || a.Member == "" || a.Token == 0 || a.Since.IsZero() {
			t.Errorf("assignment after Wait: %+v", a)
		}
	}
	if got := len(ms["a"].Held()) + len(ms["b"].Held()) + len(ms["c"].Held()); got != 30 {
		t.Errorf("the members hold %d, want 30", got)
	}
	for _, id := range ids(30) {
		if err := ms["b"].Deallocate(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitGone(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if held := r.holders(); len(held) != 0 {
		t.Errorf("handled after all were deallocated: %v", held)
	}
	if err := c.Deallocate(t.Context(), "r0"); !errors.Is(err, drm.ErrNotFound) {
		t.Errorf("deallocating twice: %v", err)
	}
	if _, err := c.Wait(t.Context(), "r0"); !errors.Is(err, drm.ErrNotFound) {
		t.Errorf("waiting for what is not there: %v", err)
	}
}

func TestADeallocationDuringASlowHandleEndsNotHeld(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	entered := make(chan struct{})
	var cause atomic.Value
	r.onHandle = func(ctx context.Context, _ drm.Claim) error {
		close(entered)
		<-ctx.Done()
		cause.Store(context.Cause(ctx))
		return nil // Handle did what it could
	}
	ms := w.members(r, nil, "a")
	if err := ms["a"].Allocate(t.Context(), drm.Resource{ID: "slow"}); err != nil {
		t.Fatal(err)
	}
	<-entered
	if err := ms["a"].Deallocate(t.Context(), "slow"); err != nil {
		t.Fatal(err)
	}
	if err := w.client().WaitGone(t.Context(), "slow"); err != nil {
		t.Fatal(err)
	}
	if got, _ := cause.Load().(error); !errors.Is(got, drm.CauseRemoved) {
		t.Errorf("the context's cause is %v, want CauseRemoved", got)
	}
	if r.count("terminate", "slow") != 1 || len(ms["a"].Held()) != 0 {
		t.Errorf("calls %v, held %v", r.all(), ms["a"].Held())
	}
}

func TestHandlesContextOutlivesItAndEndsAfterTerminate(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	contexts := make(chan context.Context, 1)
	r.onHandle = func(ctx context.Context, _ drm.Claim) error { contexts <- ctx; return nil }
	r.onTerminate = func(context.Context, drm.Claim) error {
		ctx := <-contexts
		if ctx.Err() != nil {
			t.Error("Handle's context ended before Terminate returned")
		}
		contexts <- ctx
		return nil
	}
	ms := w.members(r, nil, "a")
	if err := ms["a"].Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := ms["a"].Wait(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	w.stop(ms["a"])
	ctx := <-contexts
	if !errors.Is(context.Cause(ctx), drm.CauseTerminated) {
		t.Errorf("cause %v, want CauseTerminated", context.Cause(ctx))
	}
}

func TestTwoAppsLiveInOneProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r1, r2 := newRecorder(t), newRecorder(t)
	one, two := w.config("a", r1), w.config("a", r2)
	two.App = "other"
	m1, m2 := w.start(one), w.start(two)
	if err := m1.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m1.Wait(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := m2.Wait(t.Context(), "x"); !errors.Is(err, drm.ErrNotFound) {
		t.Errorf("the other app knows the resource: %v", err)
	}
	if len(r2.all()) != 0 {
		t.Errorf("the other app's handler was called: %v", r2.all())
	}
}

func TestATerminateIsLoggedWithItsCause(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	observed, logs := observer.New(zap.DebugLevel)
	cfg := w.config("a", r)
	cfg.Logger = zap.New(observed)
	m := w.start(cfg)
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	r.until("it is handled", allHeld(r, 1))
	if err := m.Deallocate(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	r.until("it is terminated", allHeld(r, 0))
	w.stop(m) // all lines of the log are written when Stop returns
	told := logs.FilterMessage("terminate").All()
	if len(told) != 1 {
		t.Fatalf("logged: %v", told)
	}
	fields := told[0].ContextMap()
	if _, failed := fields["error"]; fields["cause"] != drm.CauseRemoved.Error() || failed { // nothing went wrong
		t.Errorf("logged with %v", fields)
	}
}
