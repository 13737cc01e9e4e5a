package scenario_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// A receiver that may have begun, although it has not answered, is told to terminate. A receiver that refused is not.
func TestAHandleOfUnknownOutcomeIsTerminated(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter, over <-chan struct{})
		want   string
	}{
		"refused": {
			func(w http.ResponseWriter, _ <-chan struct{}) { w.WriteHeader(http.StatusInternalServerError) },
			"handle, handle_failed",
		},
		"proxy timeout": {
			func(w http.ResponseWriter, _ <-chan struct{}) { w.WriteHeader(http.StatusGatewayTimeout) },
			"handle, handle_failed, terminate",
		},
		"broken": {
			func(http.ResponseWriter, <-chan struct{}) { panic(http.ErrAbortHandler) },
			"handle, handle_failed, terminate",
		},
		"no answer": {
			func(_ http.ResponseWriter, over <-chan struct{}) { <-over }, "handle, handle_failed, terminate",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var requests []string
			over := make(chan struct{})
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var msg struct{ Action string }
				_ = json.NewDecoder(r.Body).Decode(&msg)
				mu.Lock()
				requests = append(requests, msg.Action)
				mu.Unlock()
				if msg.Action == "handle" {
					tc.answer(w, over)
				}
			}))
			defer service.Close()
			defer close(over)
			hook, err := handler.NewWebhook(handler.WebhookConfig{URL: service.URL, Timeout: 100 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer hook.Close()
			w := newWorld(t)
			cfg := w.config("a", hook)
			cfg.HandleBackoff, cfg.HandleBackoffMax = time.Hour, time.Hour
			m := w.start(cfg)
			w.allocate("r")
			said := func() string {
				mu.Lock()
				defer mu.Unlock()
				return strings.Join(requests, ", ")
			}
			await(t, "the requests are "+tc.want, func() bool { return said() == tc.want })
			if err := m.Deallocate(t.Context(), "r"); err != nil {
				t.Fatal(err)
			}
			await(t, "the claim is released", func() bool { return len(w.keysWith("/claims/")) == 0 })
			if got := said(); got != tc.want {
				t.Errorf("the requests were %s, want %s", got, tc.want)
			}
		})
	}
}

// Where that Terminate fails too, the handler may still have the resource, so it is not given away.
func TestAnUnknownOutcomeThatCannotBeEndedIsHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var terminates atomic.Int32
	var settled atomic.Bool
	cfg := w.config("a", handler.New(handler.Funcs{
		Handle: func(_ context.Context, c drm.Claim) error { return fmt.Errorf("ask: %w", drm.ErrOutcomeUnknown) },
		Terminate: func(context.Context, drm.Claim) error {
			terminates.Add(1)
			if !settled.Load() {
				return errors.New("no answer")
			}
			return nil
		},
	}))
	cfg.TerminatePolicy = drm.HoldUntilTerminated
	w.start(cfg)
	handled := make(chan struct{})
	w.start(w.config("b", handler.New(handler.Funcs{Handle: func(context.Context, drm.Claim) error {
		if !settled.Load() {
			t.Error("another one begins though what the first one began may go on")
		}
		close(handled)
		return nil
	}})))
	w.pin("a", "r")
	w.allocate("r")
	await(t, "Terminate was tried", func() bool { return terminates.Load() > 0 })
	w.pin("b", "r")
	await(t, "Terminate is tried again", func() bool { return terminates.Load() > 3 })
	settled.Store(true)
	<-handled
}
