package scenario_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

// busy is an error of a source that wants to be left alone.
type busy struct {
	after time.Duration
	again bool
}

func (b *busy) Error() string                    { return "busy" }
func (b *busy) Retryable() (time.Duration, bool) { return b.after, b.again }

// askedAt notes when a source is asked.
type askedAt struct {
	mu sync.Mutex
	at []time.Time
}

func (a *askedAt) note(context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
}

func (a *askedAt) times() []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]time.Time(nil), a.at...)
}

// A source that fails is not asked without end when there is news without end, whether failed fetches are retried or
// not.
func TestRefetchesWithoutEndDoNotHitASourceThatFails(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]error{"tried again": errors.New("down"), "not tried again": &busy{}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t), newRecorder(t)
			src, asked := newSource("x"), &askedAt{}
			cfg := w.config("a", r)
			cfg.AllocateOnly, cfg.Retriever, cfg.FetchRetryBudget = false, src, drm.Forever
			m := w.start(cfg)
			r.until("it is handled", allHeld(r, 1))
			src.mu.Lock()
			src.err, src.onFetch = failure, asked.note
			src.mu.Unlock()
			r.until("it was asked four times, as news come all the time", func() bool {
				m.Refetch()
				return len(asked.times()) >= 4
			})
			times := asked.times()
			for i, at := range times[1:] {
				if gap := at.Sub(times[i]); gap < 750*time.Millisecond { // no first pause is shorter
					t.Errorf("asked again after %v", gap)
				}
			}
		})
	}
}

// rolling starts members that a test restarts one after the other, all with the same source. start starts one again.
func (w *world) rolling(
	r *recorder, src drm.Retriever, change func(*drm.Config), ids ...string,
) (all map[string]*drm.Manager, start func(id string) *drm.Manager) {
	w.tb.Helper()
	start = func(id string) *drm.Manager {
		cfg := w.config(id, r)
		cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 200*time.Millisecond
		if change != nil {
			change(&cfg)
		}
		return w.startOnly(cfg)
	}
	all = map[string]*drm.Manager{}
	for _, id := range ids {
		all[id] = start(id)
	}
	return all, start
}

func TestARollingRestartAsksASourceThatWantsToBeLeftAloneOnce(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("x", "y")
	ids := []string{"a", "b", "c"}
	members, start := w.rolling(r, src, nil, ids...)
	defer func() {
		for _, m := range members {
			w.stop(m)
		}
	}()
	r.until("both are handled", allHeld(r, 2))
	src.set(nil, &busy{time.Hour, true})
	r.until("status tells", func() bool { return !w.sourceStatus().NotBefore.IsZero() })
	_, asked, _ := src.counts()
	until := w.sourceStatus().NotBefore
	terms := map[string]bool{}
	for _, id := range ids {
		before, err := w.client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		terms[before.Coordinator] = true
		w.stop(members[id])
		members[id] = start(id)
		r.until("another member coordinates, if that one did", func() bool {
			s, err := w.client().Status(t.Context())
			return err == nil && s.Coordinator != "" && (before.Coordinator != id || s.Coordinator != id)
		})
	}
	if len(terms) < 2 {
		t.Errorf("%d members have coordinated", len(terms))
	}
	src.staysAt(t, asked, time.Second) // as long as five polls
	if s := w.sourceStatus(); !s.NotBefore.Equal(until) || s.Error != "busy" {
		t.Errorf("the source's status is %+v, want busy until %v", s, until)
	}
	r.until("both are handled still", allHeld(r, 2))
}

// Without the record, every Start would make the first fetch of a fresh app.
func TestAFreshAppsSourceIsLeftAloneAsItWants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	src := newSource("x")
	src.set(nil, &busy{time.Hour, true})
	cfg := w.config("a", newRecorder(t))
	cfg.AllocateOnly, cfg.Retriever = false, src
	for n := range 3 {
		if m, err := w.tryStart(t.Context(), cfg); err == nil {
			w.stop(m)
			t.Fatal("Start succeeded")
		} else if n > 0 && !(strings.Contains(err.Error(), "left alone for another") &&
			strings.Contains(err.Error(), "busy")) {
			t.Errorf("Start: %v", err)
		}
		src.staysAt(t, 1, 0)
	}
}

// The source is asked when its time is up, and not before.
func TestANewCoordinatorWaitsAndThenAsks(t *testing.T) {
	t.Parallel()
	for _, fresh := range []bool{true, false} {
		w, r := newWorld(t), newRecorder(t)
		src, asked := newSource("x"), &askedAt{}
		src.onFetch = asked.note
		const pause = 4 * time.Second
		if !fresh {
			members, _ := w.rolling(r, src, nil, "a")
			r.until("it is handled", allHeld(r, 1))
			src.set(nil, &busy{pause, true})
			r.until("status tells", func() bool { return !w.sourceStatus().NotBefore.IsZero() })
			w.stop(members["a"])
		} else {
			src.set(nil, &busy{pause, true})
			cfg := w.config("a", r)
			cfg.AllocateOnly, cfg.Retriever, cfg.FetchRetryBudget = false, src, time.Second
			if _, err := w.tryStart(t.Context(), cfg); err == nil {
				t.Fatal("Start succeeded")
			}
		}
		failed := asked.times()
		last := failed[len(failed)-1]
		src.set(resources("x", "y"), nil)
		members, _ := w.rolling(r, src, nil, "b") // in a fresh app, Start waits for the first fetch
		r.until("both are handled", allHeld(r, 2))
		// The record's time is no more exact than the clock, and the source's time began before its answer was
		// recorded.
		if again := asked.times()[len(failed)].Sub(last); again < pause-100*time.Millisecond {
			t.Errorf("fresh %v: asked again after %v, want %v", fresh, again, pause)
		}
		if s := w.sourceStatus(); !s.NotBefore.IsZero() {
			t.Errorf("fresh %v: not before %v, though it has answered", fresh, s.NotBefore)
		}
		w.stop(members["b"])
	}
}

func TestExitOnSourceErrorLeavesASourceAloneAsItWants(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("x")
	exit := func(cfg *drm.Config) {
		cfg.SourcePolicy, cfg.FetchRetryBudget = drm.ExitOnSourceError, time.Millisecond
	}
	members, _ := w.rolling(r, src, exit, "a")
	r.until("it is handled", allHeld(r, 1))
	src.set(nil, &busy{time.Hour, true})
	<-members["a"].Done()
	if err := members["a"].Err(); !errors.Is(err, drm.ErrSourceFailed) {
		t.Errorf("it ended with %v", err)
	}
	_, asked, _ := src.counts()
	members, _ = w.rolling(r, src, exit, "b", "c")
	r.until("it is handled again", allHeld(r, 1))
	src.staysAt(t, asked, time.Second)
	for id, m := range members {
		if err := m.Err(); err != nil {
			t.Errorf("%s ended too: %v", id, err)
		}
		w.stop(m)
	}
}

// The clock of the member that wrote the record was wrong by a year. Even so, each restart shortens the time that is
// left.
func TestATimeThatIsFarAheadIsCountedDownByWhoReadsIt(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	src := newSource("x")
	members, start := w.rolling(r, src, nil, "a")
	r.until("it is handled", allHeld(r, 1))
	w.stop(members["a"])
	key := keys.New("/drm", w.app).Source()
	resp, err := w.etcd.Get(t.Context(), key)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("the record: %v, %v", resp, err)
	}
	var record map[string]any
	if err := json.Unmarshal(resp.Kvs[0].Value, &record); err != nil {
		t.Fatal(err)
	}
	ahead := time.Now().AddDate(1, 0, 0).UTC()
	record["last_attempt"], record["not_before"], record["error"] = ahead, ahead.Add(time.Hour), "busy"
	b, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.etcd.Put(t.Context(), key, string(b)); err != nil {
		t.Fatal(err)
	}
	_, asked, _ := src.counts()
	m := start("b")
	r.until("the time is within the hour", func() bool {
		left := time.Until(w.sourceStatus().NotBefore)
		return left > 0 && left <= time.Hour
	})
	until := w.sourceStatus().NotBefore
	w.stop(m)
	m = start("c")
	r.until("it is handled", allHeld(r, 1))
	src.staysAt(t, asked, 500*time.Millisecond)
	if s := w.sourceStatus(); !s.NotBefore.Equal(until) {
		t.Errorf("the next member leaves it alone until %v, want %v", s.NotBefore, until)
	}
	w.stop(m)
}
