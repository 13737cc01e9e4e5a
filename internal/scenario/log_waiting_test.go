package scenario_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// informed makes a logger that keeps its lines at info and above.
func informed() (*zap.Logger, *observer.ObservedLogs) {
	core, lines := observer.New(zap.InfoLevel)
	return zap.New(core), lines
}

// line waits for a line that begins with message.
func line(tb testing.TB, logs *observer.ObservedLogs, message string) observer.LoggedEntry {
	tb.Helper()
	var found observer.LoggedEntry
	await(tb, "a line: "+message, func() bool {
		for _, e := range logs.All() {
			if strings.HasPrefix(e.Message, message) {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// names fails the test unless an error contains all parts.
func names(tb testing.TB, err error, parts ...string) {
	tb.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			tb.Errorf("error %v, want one with %q", err, part)
		}
	}
}

func TestStartSaysThatEtcdDoesNotAnswer(t *testing.T) {
	t.Parallel()
	log, logs := informed()
	endpoint := silentReceiver(t)
	cfg := drm.Config{
		App: "app", AllocateOnly: true, Handler: handler.New(handler.Funcs{}), Logger: log,
		Etcd: drm.EtcdConfig{
			Endpoints: []string{strings.TrimSuffix(endpoint, "/")}, DialTimeout: 1500 * time.Millisecond,
		},
	}
	_, err := drm.Start(t.Context(), cfg)
	names(t, err, "no answer within 1.5s: "+strings.TrimPrefix(cfg.Etcd.Endpoints[0], "http://"))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errNo)
	_, err = drm.Start(ctx, cfg)
	names(t, err, "of waiting for etcd to answer")
	if !errors.Is(err, errNo) {
		t.Errorf("error %v", err)
	}
	if e := line(t, logs, "waiting for etcd to answer").ContextMap(); e["app"] != "app" ||
		e["at_most"] != 1500*time.Millisecond {
		t.Errorf("fields %v", e)
	}
}

func TestStartSaysWhoHasItsID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	holder := w.config("x", newRecorder(t))
	holder.Address = "host-7"
	w.start(holder)
	log, logs := informed()
	cfg := w.config("x", newRecorder(t))
	cfg.LeaseTTL, cfg.Logger = 30*time.Second, log
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	failed := make(chan error, 1)
	go func() {
		_, err := w.tryStart(ctx, cfg)
		failed <- err
	}()
	if e := line(t, logs, "the member id is in use; waiting").ContextMap(); e["address"] != "host-7" ||
		e["id"] != "x" || e["at_most"] != 31*time.Second {
		t.Errorf("fields %v", e)
	}
	cancel(errNo)
	err := <-failed
	names(t, err, "waiting for the member id to be free", "host-7")
	if !errors.Is(err, errNo) || errors.Is(err, drm.ErrIDInUse) {
		t.Errorf("error %v", err)
	}
	cfg.LeaseTTL = time.Second
	_, err = w.tryStart(t.Context(), cfg)
	names(t, err, "host-7", "of waiting for it to be free")
	if !errors.Is(err, drm.ErrIDInUse) {
		t.Errorf("error %v", err)
	}
}

// While Start waits for a source that is down, each failure makes a line that says when the next attempt is.
func TestStartSaysThatItWaitsForTheSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	log, logs := informed()
	src := newSource()
	src.set(nil, errors.New("the database is down"))
	cfg := w.config("a", newRecorder(t))
	cfg.AllocateOnly, cfg.Retriever, cfg.FetchRetryBudget, cfg.Logger = false, src, drm.Forever, log
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	failed := make(chan error, 1)
	go func() {
		_, err := w.tryStart(ctx, cfg)
		failed <- err
	}()
	if e := line(t, logs, "waiting for the first fetch of the app's source").ContextMap(); e["coordinator"] != "a" ||
		e["member"] != "a" {
		t.Errorf("fields %v", e)
	}
	await(t, "each failure is told", func() bool {
		return logs.FilterMessage("cannot fetch from the source").Len() >= 2
	})
	for _, e := range logs.FilterMessage("cannot fetch from the source").All() {
		if e.ContextMap()["error"] != "the database is down" || e.ContextMap()["retry_in"] == nil {
			t.Errorf("line %v", e.ContextMap())
		}
	}
	cancel(errNo)
	err := <-failed
	names(t, err, "wait for the first fetch", "of waiting for the first fetch of the app's source")
	if !errors.Is(err, errNo) {
		t.Errorf("error %v", err)
	}
}

func TestStopSaysWhichCallsItWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	log, logs := informed()
	blocked := make(chan struct{})
	release := sync.OnceFunc(func() { close(blocked) })
	t.Cleanup(release)
	cfg := w.config("a", handler.New(handler.Funcs{
		Terminate: func(context.Context, drm.Claim) error { <-blocked; return nil },
	}))
	cfg.Logger = log
	m := w.startOnly(cfg)
	w.allocate("r")
	await(t, "r is handled", func() bool { return len(m.Held()) == 1 })
	stopped := make(chan error, 1)
	go func() { stopped <- m.Stop(context.Background()) }()
	e := line(t, logs, "waiting for what is left before the member can stop").ContextMap()
	release()
	if calls, _ := e["longest_calls"].([]any); len(calls) != 1 ||
		!strings.HasPrefix(calls[0].(string), `terminate of "r" for `) || e["claims"] != int64(1) {
		t.Errorf("fields %v", e)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A service that is gone makes many resources fail again and again. At first that makes one line.
func TestManyFailuresOfAKindMakeOneLine(t *testing.T) {
	t.Parallel()
	const n = 29
	w := newWorld(t)
	log, logs := informed()
	var mu sync.Mutex
	failures := map[string]int{} // for each resource: how often it failed
	cfg := w.config("a", handler.New(handler.Funcs{
		Handle: func(_ context.Context, c drm.Claim) error {
			return errors.New("cannot reach " + c.Resource.ID + ": refused")
		},
		HandleFailed: func(_ context.Context, c drm.Claim, _ error) {
			mu.Lock()
			defer mu.Unlock()
			failures[c.Resource.ID]++
		},
	}))
	cfg.Logger, cfg.HandleBackoff, cfg.HandleBackoffMax = log, time.Millisecond, 10*time.Millisecond
	m := w.startOnly(cfg)
	w.allocate(ids(n)...)
	await(t, "they fail again and again", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, id := range ids(n) {
			if failures[id] < 3 {
				return false
			}
		}
		return true
	})
	line(t, logs, "call failed")
	if lines := logs.FilterMessage("call failed"); lines.Len() != 1 || lines.All()[0].ContextMap()["call"] != "handle" {
		t.Errorf("lines %v", lines.All())
	}
	w.stop(m)
	e := line(t, logs, "call failed; more of the same").ContextMap() // the failures that are left are logged at the end
	if e["resources"] != int64(n) || e["more"].(int64) < 3*n-1 {
		t.Errorf("fields %v", e)
	}
	if last := logs.All()[logs.Len()-1]; last.Message != "stopped" {
		t.Errorf("the last line is %v", last)
	}
}
