package member

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/membership"
)

// leastConfig is the least that a member needs.
func leastConfig(t *testing.T, server *embedded.Server, id string) Config {
	return Config{
		ID:               id,
		Record:           membership.Record{Weight: 1},
		Client:           embeddedtest.Client(t, server.Endpoint()),
		Layout:           keys.New("/drm", "app"),
		Default:          4,
		Request:          10 * time.Second,
		LeaseTTL:         10 * time.Second,
		JoinDelay:        time.Second,
		Resync:           time.Minute,
		InFlight:         1,
		Handler:          func(string) calls.Handler { return nil },
		TerminateTimeout: time.Second,
		StopTimeout:      time.Minute,
		Handles:          1,
		Terminates:       1,
		Source:           source.Options{Gone: source.Forever},
		Log:              zap.NewNop(),
		Close:            func() {},
		InUse:            func(e *membership.TakenError) error { return e },
	}
}

// A member may find at any moment that etcd went back in time: also before Start has begun anything, and while it does.
func TestAMemberThatFailsWhileItStartsEndsInOrder(t *testing.T) {
	server := embeddedtest.Server(t)
	errRewound := errors.New("etcd went back")
	for name, fail := range map[string]func(m *Member){
		"before": func(m *Member) { m.fail(errRewound) },
		"as it begins": func(m *Member) {
			go func() {
				for begun := false; !begun; runtime.Gosched() {
					m.mu.Lock()
					begun = m.ran
					m.mu.Unlock()
				}
				m.fail(errRewound)
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := New(t.Context(), leastConfig(t, server, name), OptionsFrom(t.Context()))
			if err != nil {
				t.Fatal(err)
			}
			fail(m)
			if err := m.Start(t.Context()); err != nil && !errors.Is(err, errRewound) {
				t.Errorf("start: %v", err)
			}
			if err := m.Stop(context.Background()); err != nil {
				t.Errorf("stop: %v", err)
			}
			if !errors.Is(m.Err(), errRewound) {
				t.Errorf("it ended because of %v", m.Err())
			}
		})
	}
}

// lateSource is a source whose Setup takes until told.
type lateSource struct {
	source.Retriever
	setup func()
	downs chan struct{}
}

func (s lateSource) Setup(context.Context) error    { s.setup(); return nil }
func (s lateSource) TearDown(context.Context) error { s.downs <- struct{}{}; return nil }

// A member that ends while it is being started waits for the source's Setup no longer than for anything else. What that
// has made is torn down all the same.
func TestASourceThatIsSetUpAfterTheMemberHasEndedIsTornDown(t *testing.T) {
	var m *Member
	errRewound := errors.New("etcd went back")
	s := lateSource{downs: make(chan struct{}, 2), setup: func() { m.fail(errRewound); <-m.Done() }}
	cfg := leastConfig(t, embeddedtest.Server(t), "a")
	cfg.Source.Retriever, cfg.Source.FetchTimeout = s, time.Minute
	cfg.StopTimeout, cfg.JoinDelay = 100*time.Millisecond, 10*time.Millisecond
	m, err := New(t.Context(), cfg, OptionsFrom(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); !errors.Is(err, errRewound) {
		t.Errorf("start: %v, want %v", err, errRewound)
	}
	if n := len(s.downs); n != 1 {
		t.Errorf("TearDown was called %d times, want once", n)
	}
}
