package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/distributed-resource-manager/drm"
)

// rude is an error whose Error method does what such methods should not do.
type rude struct{ do func() }

func (e *rude) Error() string { e.do(); return "rude" } // panics for nil
func (e *rude) Is(error) bool { e.do(); return false }
func (e *rude) As(any) bool   { e.do(); return false }
func (e *rude) Unwrap() error { e.do(); return nil }
func (e *rude) Retryable() (time.Duration, bool) {
	e.do()
	return 0, true
}

func TestWhatTheMethodsOfAnErrorOfFetchDoHurtsNobody(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	for name, c := range map[string]struct {
		err  error
		want string // what the status contains
	}{
		"typed nil": {(*rude)(nil), "Error method panics"},
		"panics":    {&rude{func() { panic("no") }}, "Error method panics"},
		"wrapped":   {fmt.Errorf("wrapped: %w", &rude{func() {}}), "wrapped: rude"},
		"hangs":     {&rude{func() { <-hang }}, "did not answer within"},
		"goexit":    {&rude{runtime.Goexit}, "Goexit"},
	} {
		t.Run(name, func(t *testing.T) {
			w, r := newWorld(t), newRecorder(t)
			src := newSource("x")
			cfg := w.config("a", r)
			cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
			cfg.FetchTimeout, cfg.FetchRetryBudget = time.Second, 50*time.Millisecond
			m := w.startOnly(cfg)
			r.until("it is handled", allHeld(r, 1))
			src.set(nil, c.err)
			r.until("status tells", func() bool {
				s, err := w.client().Status(t.Context())
				return err == nil && strings.Contains(s.Source.Error, c.want)
			})
			if n := r.count("terminate", ""); n != 0 {
				t.Errorf("%d were terminated", n)
			}
			if err := m.Stop(t.Context()); err != nil && (name != "hangs" || !errors.Is(err, drm.ErrLeftBehind)) {
				t.Errorf("Stop: %v", err)
			}
		})
	}
}

func TestTheErrorOfAFirstFetchUnwrapsToTheUsersOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	src := newSource()
	own := errors.New("own")
	src.set(nil, fmt.Errorf("wrapped: %w", own))
	cfg := w.config("a", newRecorder(t))
	cfg.AllocateOnly, cfg.Retriever, cfg.FetchRetryBudget = false, src, 50*time.Millisecond
	if _, err := w.tryStart(t.Context(), cfg); !errors.Is(err, own) || !strings.Contains(err.Error(), "wrapped: own") {
		t.Errorf("Start: %v", err)
	}
}

func TestAPluginThatEndsItsGoroutineHasFailed(t *testing.T) {
	t.Parallel()
	for name, src := range map[string]*plugin{
		"Setup": {
			source: newSource("x"), onSetup: func(context.Context, drm.API) error { runtime.Goexit(); return nil },
		},
		"TearDown": {source: newSource("x"), onTearDown: func(context.Context) error { runtime.Goexit(); return nil }},
		"Fetch":    {source: &source{onFetch: func(context.Context) { runtime.Goexit() }}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cfg := w.config("a", newRecorder(t))
			cfg.AllocateOnly, cfg.Retriever, cfg.FetchRetryBudget = false, src, 50*time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			m, err := w.tryStart(ctx, cfg)
			if err == nil {
				err = m.Stop(ctx)
			}
			if err == nil || !strings.Contains(err.Error(), "Goexit") {
				t.Errorf("%v", err)
			}
		})
	}
}

// failing starts a member whose source fails as soon as its resource is handled. OnSourceError is called then.
func (w *world) failing(r *recorder, change func(*drm.Config)) (*drm.Manager, *source) {
	w.tb.Helper()
	src := newSource("x")
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever = false, src
	cfg.PollInterval, cfg.FetchRetryBudget = 100*time.Millisecond, time.Millisecond
	change(&cfg)
	m := w.startOnly(cfg)
	r.until("it is handled", allHeld(r, 1))
	src.set(nil, errors.New("the source is down"))
	return m, src
}

func TestStopDoesNotWaitForAnOnSourceErrorThatHangs(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	called, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	m, _ := w.failing(r, func(cfg *drm.Config) {
		cfg.StopTimeout, cfg.FetchTimeout = time.Hour, time.Hour
		cfg.OnSourceError = func(error) { close(called); <-release }
	})
	<-called
	stopped := make(chan error, 1)
	go func() { stopped <- m.Stop(context.Background()) }()
	select {
	case err := <-stopped:
		if !errors.Is(err, drm.ErrLeftBehind) || !strings.Contains(err.Error(), "OnSourceError") {
			t.Errorf("Stop: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Stop does not return")
	}
	if len(r.holders()) != 0 {
		t.Errorf("held still: %v", r.holders())
	}
}

func TestStopMayBeCalledInOnSourceError(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	member, answer := make(chan *drm.Manager, 1), make(chan error, 1)
	m, _ := w.failing(r, func(cfg *drm.Config) {
		cfg.StopTimeout, cfg.FetchTimeout = time.Hour, time.Hour
		cfg.OnSourceError = func(error) { answer <- (<-member).Stop(context.Background()) }
	})
	member <- m
	select {
	case <-m.Done():
	case <-time.After(patience):
		t.Fatal("the member does not end")
	}
	if err := <-answer; !errors.Is(err, drm.ErrLeftBehind) { // the call of OnSourceError is what is left behind
		t.Errorf("Stop: %v", err)
	}
	if r.count("terminate", "x") != 1 || len(r.holders()) != 0 {
		t.Errorf("calls %v", r.all())
	}
}

func TestAnOnSourceErrorThatIsSlowHoldsUpNoPollAndIsToldTheLatest(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	var mu sync.Mutex
	var told []string
	called, release := make(chan struct{}), make(chan struct{})
	m, src := w.failing(r, func(cfg *drm.Config) {
		cfg.OnSourceError = func(err error) {
			mu.Lock()
			told = append(told, err.Error())
			first := len(told) == 1
			mu.Unlock()
			if first {
				close(called)
				<-release
			}
		}
	})
	<-called
	for _, text := range []string{"second", "third"} {
		src.set(nil, errors.New(text))
		r.until("status tells "+text, func() bool {
			s, err := w.client().Status(t.Context())
			return err == nil && s.Source.Error == text
		})
	}
	src.set(resources("x", "y"), nil)
	r.until("what the source has then is handled", allHeld(r, 2))
	close(release)
	list := func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(told, ", ")
	}
	r.until("it is told the latest", func() bool { return strings.HasSuffix(list(), "third") })
	if got := list(); got != "the source is down, third" {
		t.Errorf("told: %s", got)
	}
	w.stop(m)
}

// forgetful is a source that says that nothing changed, until it is told to forget.
type forgetful struct {
	*source
	onForget func()
}

func (f *forgetful) Forget() {
	f.set(resources("x"), nil)
	f.onForget()
}

func TestAForgetThatDoesNotReturnIsTimedOut(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	defer close(hang)
	for name, onForget := range map[string]func(){
		"hangs": func() { <-hang }, "panics": func() { panic("no") }, "goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			w, r := newWorld(t), newRecorder(t)
			src := &forgetful{newSource(), onForget}
			src.set(nil, drm.ErrNotModified)
			cfg := w.config("a", r)
			cfg.AllocateOnly, cfg.Retriever = false, src
			cfg.FetchTimeout, cfg.FetchRetryBudget = time.Second, 50*time.Millisecond
			m, err := w.tryStart(t.Context(), cfg)
			if name == "panics" { // the Fetch that follows has the whole answer
				if err != nil {
					t.Fatal(err)
				}
				r.until("it is handled", allHeld(r, 1))
				w.stop(m)
			} else if err == nil {
				t.Error("Start succeeded")
			}
		})
	}
}

func TestACoordinatorWhoseFetchDoesNotReturnResigns(t *testing.T) {
	t.Parallel()
	for _, budget := range []time.Duration{50 * time.Millisecond, drm.Forever} {
		t.Run(budget.String(), func(t *testing.T) {
			w, r := newWorld(t), newRecorder(t)
			var hang atomic.Bool
			entered, release := make(chan struct{}, 1), make(chan struct{})
			src := newSource("x")
			src.onFetch = func(context.Context) {
				if hang.Load() {
					entered <- struct{}{}
					<-release // ignores its context
				}
			}
			observed, logs := observer.New(zap.ErrorLevel)
			config := func(id string, src drm.Retriever) drm.Config {
				cfg := w.config(id, r)
				cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
				cfg.FetchTimeout, cfg.FetchRetryBudget, cfg.Logger = time.Second, budget, zap.New(observed)
				return cfg
			}
			a := w.startOnly(config("a", src))
			r.until("it is handled", allHeld(r, 1))
			hang.Store(true)
			<-entered
			_, before, _ := src.counts() // counts the fetches that have returned
			w.start(config("b", newSource("x", "y", "z")))
			r.until("what the other's source has is handled", allHeld(r, 3))
			r.until("the record says so", func() bool { // the record is written after the changes that it tells of
				s, err := w.client().Status(t.Context())
				return err == nil && s.Coordinator == "b" && s.Source.Error == ""
			})
			if lines := logged(t, logs, "does not return", 1); len(lines) != 1 {
				t.Errorf("log: %v", lines)
			}
			src.set(nil, nil) // the result of a Fetch of another term is thrown away
			hang.Store(false)
			close(release)
			src.staysAt(t, before+1, 300*time.Millisecond)
			if n := len(r.holders()); n != 3 {
				t.Errorf("%d are handled", n)
			}
			w.stop(a)
		})
	}
}

func TestTheOnlyMemberWithASourceStandsAgainOnceItsFetchHasReturned(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newRecorder(t)
	var hang atomic.Bool
	release := make(chan struct{})
	src := newSource("x")
	src.onFetch = func(context.Context) {
		if hang.Load() {
			<-release
		}
	}
	cfg := w.config("a", r)
	cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval = false, src, 100*time.Millisecond
	cfg.FetchTimeout, cfg.FetchRetryBudget = time.Second, 50*time.Millisecond
	w.start(cfg)
	r.until("it is handled", allHeld(r, 1))
	hang.Store(true)
	coordinator := func() string {
		s, err := w.client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Coordinator
	}
	r.until("it has resigned", func() bool { return coordinator() == "" })
	src.set(resources("x", "y"), nil)
	hang.Store(false)
	close(release)
	r.until("what its source has then is handled", allHeld(r, 2))
	if c := coordinator(); c != "a" {
		t.Errorf("the coordinator is %q", c)
	}
}
