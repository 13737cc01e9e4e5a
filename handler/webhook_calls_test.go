package handler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// numbers is a receiver that notes the numbers of its requests, and checks that header and body have the same number.
type numbers struct {
	mu   sync.Mutex
	seen map[string][]int64 // action → numbers
	bad  []string
}

func newNumbers() *numbers { return &numbers{seen: map[string][]int64{}} }

func (n *numbers) note(r *http.Request) (action string) {
	var msg struct {
		Action string
		Call   int64
	}
	_ = json.NewDecoder(r.Body).Decode(&msg)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen[msg.Action] = append(n.seen[msg.Action], msg.Call)
	if header := r.Header.Get("DRM-Call"); header != fmt.Sprint(msg.Call) || msg.Call < 1 {
		n.bad = append(n.bad, fmt.Sprintf("%s: header %q, body %d", msg.Action, header, msg.Call))
	}
	return msg.Action
}

// of returns the numbers of an action since the last forget.
func (n *numbers) of(action string) []int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen[action]
}

func (n *numbers) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = map[string][]int64{}
}

func TestWebhookNumbersEachRequest(t *testing.T) {
	n := newNumbers()
	w := serve(t, handler.WebhookConfig{}, func(_ http.ResponseWriter, r *http.Request) { n.note(r) })
	ctx, c := t.Context(), claim("a", 7)
	var last int64
	for _, call := range []struct {
		does func()
		want string
	}{
		{func() { _ = w.Handle(ctx, c) }, "handle"},
		{func() { w.HandleFailed(ctx, c, errors.New("no")) }, "handle_failed"},
		{func() { _ = w.Handle(ctx, c) }, "handle"},
		{func() { _ = w.Update(ctx, c) }, "update"},
		{func() { _ = w.Terminate(ctx, c) }, "terminate"},
		{func() { _ = w.Terminate(ctx, c) }, "terminate"},
		{func() { w.TerminateFailed(ctx, c, errors.New("no")) }, "terminate_failed"},
	} {
		n.forget()
		call.does()
		got := n.of(call.want)
		if len(got) != 1 || got[0] <= last {
			t.Fatalf("%s has the numbers %v, after %d", call.want, got, last)
		}
		last = got[0]
	}
	if len(n.bad) > 0 {
		t.Error(n.bad)
	}
}

// A caller's own Idempotency-Key must not make the client repeat a request with its old number.
func TestWebhookLetsNobodyRepeatARequestUnderItsNumber(t *testing.T) {
	for _, key := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		n := newNumbers()
		var closing atomic.Bool
		cfg := handler.WebhookConfig{Header: http.Header{key: {"one"}}}
		w := serve(t, cfg, func(_ http.ResponseWriter, r *http.Request) {
			n.note(r)
			if closing.Swap(false) {
				panic(http.ErrAbortHandler)
			}
		})
		for action, call := range map[string]func(context.Context, drm.Claim) error{
			"handle": w.Handle, "update": w.Update, "terminate": w.Terminate,
		} {
			if err := w.Terminate(t.Context(), claim("other", 1)); err != nil { // makes the connection
				t.Fatal(err)
			}
			n.forget()
			closing.Store(true)
			_ = call(t.Context(), claim("a", 1))
			seen := map[int64]bool{}
			for _, number := range n.of(action) {
				if seen[number] {
					t.Errorf("%s: %s has the numbers %v", key, action, n.of(action))
				}
				seen[number] = true
			}
		}
	}
}

// transport is a http.RoundTripper other than http.Transport: it reports nothing about its connections.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	return f(r.WithContext(context.WithoutCancel(r.Context())))
}

func TestWebhookNamesAnUnknownOutcome(t *testing.T) {
	answers := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	hangs := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body) // the server notices a closed connection only after that
		<-r.Context().Done()
	}
	breaks := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for name, tc := range map[string]struct {
		answer  http.HandlerFunc
		cfg     handler.WebhookConfig
		cut     error // ends the context once the request has come
		unknown bool
	}{
		"no answer in time": {
			answer: hangs, cfg: handler.WebhookConfig{Timeout: 20 * time.Millisecond}, unknown: true,
		},
		"the claim ended":      {answer: hangs, cut: drm.CauseFenced, unknown: true},
		"the connection broke": {answer: breaks, unknown: true},
		"502":                  {answer: answers(http.StatusBadGateway), unknown: true},
		"504":                  {answer: answers(http.StatusGatewayTimeout), unknown: true},
		"refused":              {answer: answers(http.StatusConflict)},
		"failed":               {answer: answers(http.StatusServiceUnavailable)},
		"a client that tells nothing": {cfg: handler.WebhookConfig{Client: &http.Client{
			Transport: transport(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }),
		}}, unknown: true},
		"a client that cannot connect": {cfg: handler.WebhookConfig{Client: &http.Client{
			Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) {
				return nil, errors.New("no way")
			}},
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan struct{}, 10)
			w := serve(t, tc.cfg, func(w http.ResponseWriter, r *http.Request) {
				arrived <- struct{}{}
				tc.answer(w, r)
			})
			for action, call := range map[string]func(context.Context, drm.Claim) error{
				"handle": w.Handle, "update": w.Update, "terminate": w.Terminate,
			} {
				ctx, cancel := context.WithCancelCause(t.Context())
				if tc.cut != nil {
					go func() {
						select {
						case <-arrived:
							cancel(tc.cut)
						case <-ctx.Done():
						}
					}()
				}
				err := call(ctx, claim("res-7", 42))
				cancel(nil)
				if err == nil || errors.Is(err, drm.ErrOutcomeUnknown) != tc.unknown {
					t.Errorf("%s: %v", action, err)
					continue
				}
				for _, want := range []string{action, `"res-7"`, "42"} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %q is not in %v", action, want, err)
					}
				}
				if tc.unknown != strings.Contains(err.Error(), "outcome unknown") {
					t.Errorf("%s: %v", action, err)
				}
				if tc.cut != nil && !errors.Is(err, tc.cut) {
					t.Errorf("%s: %v, want %v", action, err, tc.cut)
				}
			}
		})
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	w := must[*handler.Webhook](t)(handler.NewWebhook(handler.WebhookConfig{URL: closed.URL}))
	if err := w.Handle(t.Context(), claim("a", 1)); err == nil || errors.Is(err, drm.ErrOutcomeUnknown) {
		t.Errorf("nobody listens: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(drm.CauseFenced)
	if err := w.Handle(ctx, claim("a", 1)); !errors.Is(err, drm.CauseFenced) || errors.Is(err, drm.ErrOutcomeUnknown) {
		t.Errorf("over before it began: %v", err)
	}
}

// If the first try of a terminate broke, and the second one found nobody, then the outcome is unknown.
func TestWebhookKnowsNoOutcomeOfATerminateThatBrokeAndFoundNobody(t *testing.T) {
	var server *httptest.Server
	var closing atomic.Bool
	server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if closing.Load() {
			_ = server.Listener.Close()
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	w := must[*handler.Webhook](t)(handler.NewWebhook(handler.WebhookConfig{URL: server.URL}))
	defer w.Close()
	if err := w.Handle(t.Context(), claim("a", 1)); err != nil {
		t.Fatal(err)
	}
	closing.Store(true)
	if err := w.Terminate(t.Context(), claim("a", 1)); !errors.Is(err, drm.ErrOutcomeUnknown) {
		t.Errorf("got %v", err)
	}
}
