package member

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/membership"
)

// That etcd went back in time may turn out at any moment: also before Start has begun anything, and while it does.
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
			m, err := New(t.Context(), Config{
				ID:               name,
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
			}, OptionsFrom(t.Context()))
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
