package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// checked is a recorder whose resources may become wedged.
type checked struct {
	*recorder
	mu     sync.Mutex
	wedged map[string]func() error // by resource: what a check of it does
	checks map[string]int
}

func newChecked(r *recorder) *checked {
	return &checked{recorder: r, wedged: map[string]func() error{}, checks: map[string]int{}}
}

func (c *checked) wedge(id string, f func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wedged[id] = f
}

func (c *checked) counted(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.checks[id]
}

// Handle makes what was wedged work again.
func (c *checked) Handle(ctx context.Context, cl drm.Claim) error {
	c.wedge(cl.Resource.ID, nil)
	return c.recorder.Handle(ctx, cl)
}

func (c *checked) Check(_ context.Context, cl drm.Claim) error {
	c.mu.Lock()
	c.checks[cl.Resource.ID]++
	f := c.wedged[cl.Resource.ID]
	c.mu.Unlock()
	if !cl.Valid() {
		c.tb.Errorf("%s is checked under a claim that is not valid", cl.Resource.ID)
	}
	if f == nil {
		return nil
	}
	return f()
}

func checkOften(cfg drm.Config) drm.Config {
	cfg.CheckInterval, cfg.CheckTimeout = 100*time.Millisecond, 200*time.Millisecond
	cfg.CheckFailures = 2
	return cfg
}

func TestWhatIsWedgedIsTerminatedAndHandledAgainAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	c := newChecked(r)
	m := w.start(checkOften(w.config("a", c)))
	const n = 10
	for i := range n {
		if err := m.Allocate(t.Context(), drm.Resource{ID: fmt.Sprint("r", i)}); err != nil {
			t.Fatal(err)
		}
	}
	r.until("all are handled, and checked", func() bool {
		for i := range n {
			if c.counted(fmt.Sprint("r", i)) < 2 {
				return false
			}
		}
		return true
	})
	client, let := w.client(), make(chan struct{})
	for id, f := range map[string]func() error{
		"r0": func() error { return errors.New("no heartbeat") },
		"r1": func() error { panic("no heart") },
		"r2": func() error { <-let; return nil },
	} {
		before, err := client.Lookup(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		c.wedge(id, f)
		r.until(id+" is handled again", func() bool { return r.count("handle", id) == 2 })
		after, err := m.Wait(t.Context(), id)
		if err != nil || after.Token != before.Token || after.Member != "a" || r.count("terminate", id) != 1 {
			t.Errorf("%s: %+v, %v; it was %+v", id, after, err, before)
		}
	}
	close(let)
	for i := 3; i < n; i++ {
		if id := fmt.Sprint("r", i); r.count("handle", id) != 1 || r.count("terminate", id) != 0 {
			t.Errorf("%s was disturbed", id)
		}
	}
}

func TestAFailedCheckIsShownUntilTheResourceIsHandledAgain(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	c := newChecked(r)
	let := make(chan struct{})
	r.onTerminate = func(context.Context, drm.Claim) error { <-let; return nil }
	m := w.start(checkOften(w.config("a", c)))
	if err := m.Allocate(t.Context(), drm.Resource{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Wait(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	c.wedge("x", func() error { return errors.New("no heartbeat") })
	client := w.client()
	r.until("the claim says why", func() bool {
		a, err := client.Lookup(t.Context(), "x")
		return err == nil && a.State == drm.StateFailed && a.Error == "check failed 2 times in a row: no heartbeat"
	})
	close(let)
	if _, err := m.Wait(t.Context(), "x"); err != nil {
		t.Error(err)
	}
}

// A check may call back into the manager, and the member may stop meanwhile.
func TestNothingWaitsForACheck(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	c := newChecked(r)
	cfg := checkOften(w.config("a", c))
	cfg.CheckTimeout = time.Hour
	m := w.start(cfg)
	for _, id := range []string{"x", "y"} {
		if err := m.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	r.until("both are handled", func() bool { return len(m.Held()) == 2 })
	hangs, let := make(chan struct{}), make(chan struct{})
	var once sync.Once
	c.wedge("x", func() error {
		once.Do(func() {
			if n := len(m.Held()); n == 0 {
				t.Error("nothing is held")
			}
			close(hangs)
		})
		<-let
		return nil
	})
	<-hangs
	if err := m.Deallocate(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	r.until("it is terminated", func() bool { return r.count("terminate", "x") == 1 })
	if err := m.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	close(let)
}

func TestAHandlerThatCannotCheckIsAskedOnce(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	core, logs := observer.New(zap.InfoLevel)
	cfg := checkOften(w.config("a", handler.New(handler.Funcs{})))
	cfg.Logger = zap.New(core)
	m := w.start(cfg)
	for _, id := range []string{"x", "y"} {
		if err := m.Allocate(t.Context(), drm.Resource{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	const told = "the handler cannot check what it handles, and is not asked again"
	r.until("the log says so", func() bool { return logs.FilterMessage(told).Len() == 1 })
	if err := m.Allocate(t.Context(), drm.Resource{ID: "z"}); err != nil {
		t.Fatal(err)
	}
	r.until("all are handled", func() bool { return len(m.Held()) == 3 })
	w.stop(m)
	if n := logs.FilterMessage(told).Len(); n != 1 {
		t.Errorf("%d lines", n)
	}
}
