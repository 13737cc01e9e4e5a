package scenario_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// codeError is an error type like many others: the Error method of a nil pointer panics.
type codeError struct{ code int }

func (e *codeError) Error() string { return string(rune(e.code)) }

// hookError is an error whose methods do what they are told.
type hookError struct {
	text   func() string
	unwrap func() error
}

func (e *hookError) Error() string { return e.text() }

func (e *hookError) Unwrap() error {
	if e.unwrap == nil {
		return nil
	}
	return e.unwrap()
}

// stringer is a value that a panic may have.
type stringer func() string

func (s stringer) String() string { return s() }

// The methods of an error and of a panic's value are user code: they may panic, block, end their goroutine or call the
// manager. Only their own resource may suffer from that: no other resource, nor the member, nor Stop.
func TestErrorsOfTheHandlerHurtOnlyTheirOwnResource(t *testing.T) {
	t.Parallel()
	blocked := make(chan struct{})
	t.Cleanup(func() { close(blocked) })
	block := func() string { <-blocked; return "at last" }
	var m atomic.Pointer[drm.Manager]
	askManager := func() string { m.Load().Held(); return "asked" }
	for name, test := range map[string]struct {
		handle func(drm.Claim) error
		hangs  bool   // whether Handle of the bad resource does not return
		says   string // what the failure's text contains
	}{
		"a nil pointer": {
			handle: func(drm.Claim) error { var e *codeError; return e }, says: "*scenario_test.codeError",
		},
		"Error calls the manager": {
			handle: func(drm.Claim) error { return &hookError{text: askManager} }, says: "asked",
		},
		"Error blocks": {handle: func(drm.Claim) error { return &hookError{text: block} }, hangs: true},
		"Error ends its goroutine": {
			handle: func(drm.Claim) error { return &hookError{text: func() string { runtime.Goexit(); return "" }} },
			says:   "Goexit",
		},
		"Unwrap panics": {handle: func(drm.Claim) error {
			return &hookError{text: func() string { return "why" }, unwrap: func() error { panic("unwrap") }}
		}, says: "why"},
		"the handler ends its goroutine": {
			handle: func(drm.Claim) error { runtime.Goexit(); return nil }, says: "Goexit",
		},
		"a panic whose String panics": {
			handle: func(drm.Claim) error { panic(stringer(func() string { panic("twice") })) }, says: "panic",
		},
		"a panic whose String blocks": {handle: func(drm.Claim) error { panic(stringer(block)) }, hangs: true},
		"a report of a nil pointer": {
			handle: func(c drm.Claim) error { var e *codeError; c.Report(e); return errors.New("reported") },
			says:   "reported",
		},
		"a report that calls the manager": {
			handle: func(c drm.Claim) error { c.Report(&hookError{text: askManager}); return errors.New("reported") },
			says:   "reported",
		},
		"a report that blocks": {
			handle: func(c drm.Claim) error { c.Report(&hookError{text: block}); return nil }, hangs: true,
		},
		"a report that ends its goroutine": {handle: func(c drm.Claim) error {
			c.Report(&hookError{text: func() string { runtime.Goexit(); return "" }})
			return nil
		}, says: "Goexit"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var terminated atomic.Int32
			cfg := w.config("a", handler.New(handler.Funcs{
				Handle: func(_ context.Context, c drm.Claim) error {
					if c.Resource.ID == "bad" {
						return test.handle(c)
					}
					return nil
				},
				Terminate: func(_ context.Context, c drm.Claim) error {
					if c.Resource.ID != "bad" {
						terminated.Add(1)
					}
					return nil
				},
			}))
			cfg.HandleTimeout, cfg.TerminateTimeout = 100*time.Millisecond, 100*time.Millisecond
			cfg.StopTimeout = 2 * time.Second
			if !test.hangs {
				cfg.HandleTimeout = time.Minute
			}
			cfg.HandleAttempts = 2
			member, err := w.tryStart(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			m.Store(member)
			w.allocate("bad")
			c := w.client()
			if test.hangs {
				await(t, "the call is given up", func() bool {
					s, err := c.Status(t.Context())
					return err == nil && s.Resources == 1 && w.probe(member).Stuck() == 1
				})
			} else {
				await(t, "the failure is shown", func() bool {
					a, err := c.Lookup(t.Context(), "bad")
					return err == nil && a.State == drm.StateFailed && strings.Contains(a.Error, test.says)
				})
			}
			w.allocate("good") // shows that the member goes on
			await(t, "another one is handled", func() bool {
				a, err := c.Lookup(t.Context(), "good")
				return err == nil && a.State == drm.StateActive
			})
			stopped := make(chan error, 1)
			go func() { stopped <- member.Stop(context.Background()) }()
			select {
			case err := <-stopped:
				if (err != nil) != test.hangs || err != nil && !errors.Is(err, drm.ErrLeftBehind) {
					t.Errorf("Stop: %v", err)
				}
			case <-time.After(patience):
				t.Fatal("Stop does not return")
			}
			if terminated.Load() != 1 {
				t.Errorf("the good one was terminated %d times", terminated.Load())
			}
		})
	}
}

// A call that ends its goroutine, whichever call it is, makes its place free for another one.
func TestACallThatEndsItsGoroutineIsOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var handles, updates, terminates, told atomic.Int32
	once := func(n *atomic.Int32) {
		if n.Add(1) == 1 {
			runtime.Goexit()
		}
	}
	cfg := w.config("a", handler.New(handler.Funcs{
		Handle:          func(context.Context, drm.Claim) error { once(&handles); return nil },
		Update:          func(context.Context, drm.Claim) error { once(&updates); return nil },
		Terminate:       func(context.Context, drm.Claim) error { once(&terminates); return nil },
		HandleFailed:    func(context.Context, drm.Claim, error) { once(&told) },
		TerminateFailed: func(context.Context, drm.Claim, error) { runtime.Goexit() },
	}))
	cfg.HandleConcurrency, cfg.TerminateConcurrency = 1, 1
	m := w.start(cfg)
	w.allocate("r")
	await(t, "r is handled", func() bool { return len(m.Held()) == 1 })
	if err := m.Allocate(t.Context(), drm.Resource{ID: "r", Data: []byte(`{"id":"r","v":2}`)}); err != nil {
		t.Fatal(err)
	}
	await(t, "r is handled with its new data", func() bool { return updates.Load() > 0 && len(m.Held()) == 1 })
	if err := m.Deallocate(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	w.allocate("s")
	await(t, "another one is handled", func() bool {
		held := m.Held()
		return len(held) == 1 && held[0].Resource == "s"
	})
	if told.Load() < 2 || terminates.Load() < 2 {
		t.Errorf("%d failures were told, %d Terminates called", told.Load(), terminates.Load())
	}
}
