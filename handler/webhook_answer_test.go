package handler_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// endless answers with a status and a body that never ends: it repeats the text until the client has gone.
func endless(status int, text string, gone func()) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone()
	}
}

func TestWebhookTakesA2xxForSuccessWhateverItsBodyDoes(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"never ends": endless(http.StatusOK, "working", func() {}),
		"is huge": func(w http.ResponseWriter, _ *http.Request) {
			for part := make([]byte, 1<<20); ; {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		},
		"is cut short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "no more")
		},
		"breaks": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "some")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"follows other answers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</style.css>")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusProcessing)
			w.WriteHeader(http.StatusOK)
		},
	} {
		t.Run(name, func(t *testing.T) {
			// The timeout is an hour, so that a call that waits for the body does not end within the test.
			w := serve(t, handler.WebhookConfig{Timeout: time.Hour}, answer)
			for action, call := range map[string]func(context.Context, drm.Claim) error{
				"handle": w.Handle, "update": w.Update, "terminate": w.Terminate,
			} {
				if err := call(t.Context(), claim("a", 1)); err != nil {
					t.Errorf("%s: %v", action, err)
				}
			}
		})
	}
}

// All bodies without an end are closed after a while.
func TestWebhookLetsGoOfBodiesThatNeverEnd(t *testing.T) {
	const calls = 300
	gone := make(chan struct{}, calls)
	w := serve(t, handler.WebhookConfig{}, endless(http.StatusOK, "working", func() { gone <- struct{}{} }))
	for range calls {
		if err := w.Handle(t.Context(), claim("a", 1)); err != nil {
			t.Fatal(err)
		}
	}
	for range calls {
		await(t, gone, "a body to be let go of")
	}
}

func TestWebhookCloseLetsGoOfBodies(t *testing.T) {
	gone := make(chan struct{}, 1)
	w := serve(t, handler.WebhookConfig{}, endless(http.StatusOK, "working", func() { gone <- struct{}{} }))
	if err := w.Handle(t.Context(), claim("a", 1)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	await(t, gone, "the body to be let go of")
}

func TestWebhookShowsWhatHasComeOfTheBodyOfAFailure(t *testing.T) {
	header := http.Header{"Authorization": {"Bearer s3cret-and-long"}}
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"that never ends": {
			endless(http.StatusConflict, "I am busy", func() {}), `status 409 Conflict: "I am busy"`,
		},
		"that stops within a secret": {
			endless(http.StatusConflict, "I was told s3cret-and-l", func() {}), `status 409 Conflict: "I was told"`,
		},
		"that is cut short": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, "I am busy")
		}, `status 409 Conflict: "I am busy"`},
		"that is huge": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusConflict)
			for part := []byte(strings.Repeat("x", 1000)); ; {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		}, "xxx…"},
		"that ends with what is like a secret": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, "no Bears")
		}, `"no Bears"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := serve(t, handler.WebhookConfig{Timeout: time.Hour, Header: header}, tc.answer)
			err := w.Handle(t.Context(), claim("a", 1))
			if err == nil || errors.Is(err, drm.ErrOutcomeUnknown) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// An answer with status 101 has no body, but a connection that both sides may keep as long as they like.
func TestWebhookTakesAnUpgradeForARefusal(t *testing.T) {
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_, _ = io.Copy(io.Discard, in)
	}()
	cfg := handler.WebhookConfig{URL: "http://" + l.Addr().String(), Timeout: time.Hour}
	w := must[*handler.Webhook](t)(handler.NewWebhook(cfg))
	if err := w.Handle(t.Context(), claim("a", 1)); err == nil || !strings.Contains(err.Error(), "status 101") {
		t.Errorf("got %v", err)
	}
	w.Close()
	await(t, ended, "the connection to be let go of")
	_ = l.Close()
}

// hanging is a body of a caller's own client. Only Close ends its Read.
type hanging struct{ closed chan struct{} }

func (h hanging) Read([]byte) (int, error) { <-h.closed; return 0, io.ErrClosedPipe }
func (h hanging) Close() error             { close(h.closed); return nil }

func TestWebhookIsNotHeldUpByTheBodiesOfACallersClient(t *testing.T) {
	var status atomic.Int32
	client := &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
		answer := httptest.NewRecorder().Result()
		answer.StatusCode, answer.Body = int(status.Load()), hanging{make(chan struct{})}
		return answer, nil
	})}
	cfg := handler.WebhookConfig{URL: "http://receiver", Client: client}
	w := must[*handler.Webhook](t)(handler.NewWebhook(cfg))
	defer w.Close()
	status.Store(204)
	if err := w.Handle(t.Context(), claim("a", 1)); err != nil {
		t.Error(err)
	}
	status.Store(500)
	if err := w.Handle(t.Context(), claim("a", 1)); err == nil || !strings.Contains(err.Error(), "status 500") {
		t.Errorf("got %v", err)
	}
}
