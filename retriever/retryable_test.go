package retriever_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/retriever"
)

// asker returns the configuration of a member with an HTTP source. Each fetch makes one request, and the member has
// hours to try again.
func asker(t *testing.T, source *unruly) drm.Config {
	t.Helper()
	src, err := retriever.NewHTTP(retriever.HTTPConfig{URL: source.URL, Attempts: 1, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	return drm.Config{
		App:              "app",
		ID:               "m",
		Etcd:             drm.EtcdConfig{Client: embeddedtest.Client(t), CommandTimeout: patience},
		Shards:           8,
		LeaseTTL:         time.Minute,
		Handler:          handler.New(handler.Funcs{}),
		Retriever:        src,
		FetchRetryBudget: time.Hour,
	}
}

// begin starts a member and stops it when the test ends.
func begin(t *testing.T, cfg drm.Config) *drm.Manager {
	t.Helper()
	m, err := drm.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Stop(context.Background()) })
	return m
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestAFirstFetchThatWouldOnlyFailAgainFailsStartAtOnce(t *testing.T) {
	for _, code := range []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusNotImplemented,
	} {
		source := newUnruly(t)
		source.set(status(code))
		cfg := asker(t, source)
		cfg.FetchRetryBudget = drm.Forever
		_, err := drm.Start(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), http.StatusText(code)) || source.asked() != 1 {
			t.Errorf("asked %d times, and then Start says %v", source.asked(), err)
		}
	}
}

func TestWhatWouldOnlyFailAgainIsLeftUntilItIsAskedAnew(t *testing.T) {
	source := newUnruly(t)
	source.set(good("a"))
	cfg := asker(t, source)
	cfg.SourcePolicy = drm.ExitOnSourceError // it exits only after an hour of failures
	told := make(chan error, 10)
	cfg.OnSourceError = func(err error) { told <- err }
	m := begin(t, cfg)
	source.set(status(http.StatusNotFound))
	m.Refetch()
	if err := <-told; !strings.Contains(err.Error(), "404") {
		t.Errorf("told: %v", err)
	}
	again := time.NewTimer(1500 * time.Millisecond) // the next attempt would come after a second
	defer again.Stop()
	<-again.C
	if n := source.asked(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
	m.Refetch()
	if err := <-told; !strings.Contains(err.Error(), "404") {
		t.Errorf("told: %v", err)
	}
	select {
	case <-m.Done():
		t.Errorf("the member has ended: %v", m.Err())
	default:
	}
}

func TestASourceThatWantsToBeLeftAloneIs(t *testing.T) {
	for name, budget := range map[string]time.Duration{"by retries": time.Hour, "by polls": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			source := newUnruly(t)
			source.set(good("a"))
			cfg := asker(t, source)
			cfg.PollInterval, cfg.FetchRetryBudget = 100*time.Millisecond, budget
			m := begin(t, cfg)
			var mu sync.Mutex
			var asked []time.Time
			twice := make(chan struct{})
			source.set(func(w http.ResponseWriter, _ *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if asked = append(asked, time.Now()); len(asked) == 2 {
					close(twice)
				}
				w.Header().Set("Retry-After", "2")
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			poke := time.NewTicker(100 * time.Millisecond)
			defer poke.Stop()
			deadline := time.After(patience)
			for done := false; !done; {
				select {
				case <-twice:
					done = true
				case <-poke.C:
					m.Refetch() // must not hasten it either
				case <-deadline:
					t.Fatal("it is not asked again")
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if pause := asked[1].Sub(asked[0]); pause < 1900*time.Millisecond {
				t.Errorf("asked again after %v", pause)
			}
		})
	}
}
