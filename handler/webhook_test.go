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
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// serve runs a receiver until the test ends, and returns a Webhook that sends to it.
func serve(t *testing.T, cfg handler.WebhookConfig, answer http.HandlerFunc) *handler.Webhook {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	cfg.URL = strings.Replace(cfg.URL, "http://receiver", server.URL, 1)
	cfg.URL = strings.Replace(cfg.URL, "@receiver", "@"+server.Listener.Addr().String(), 1)
	if cfg.URL == "" {
		cfg.URL = server.URL
	}
	w := must[*handler.Webhook](t)(handler.NewWebhook(cfg))
	t.Cleanup(w.Close)
	return w
}

func TestWebhookSendsTheContract(t *testing.T) {
	type request struct {
		method, contentType, token, call, resource, custom string
		body                                               string
	}
	requests := make(chan request, 1)
	cfg := handler.WebhookConfig{Header: http.Header{"x-custom": {"yes"}}}
	w := serve(t, cfg, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- request{
			method:      r.Method,
			contentType: r.Header.Get("Content-Type"),
			token:       r.Header.Get("DRM-Token"),
			call:        r.Header.Get("DRM-Call"),
			resource:    r.Header.Get("DRM-Resource"),
			custom:      r.Header.Get("X-Custom"),
			body:        string(body),
		}
		w.WriteHeader(http.StatusAccepted)
	})
	ctx, boom := t.Context(), errors.New("boom")
	data := json.RawMessage(`{"id":"a","big":12345678901234567890,"url":"http://x/?a=1&b=<2>","nested":{"z":[1,null]}}`)
	validity := remaining(4321*time.Millisecond + 999*time.Microsecond)
	c := drm.NewClaim("app", "m1", drm.Resource{ID: "a", Data: data}, 42, validity)
	n := 0
	for action, call := range map[string]func() error{
		"handle":           func() error { return w.Handle(ctx, c) },
		"update":           func() error { return w.Update(ctx, c) },
		"terminate":        func() error { return w.Terminate(ctx, c) },
		"handle_failed":    func() error { w.HandleFailed(ctx, c, boom); return nil },
		"terminate_failed": func() error { w.TerminateFailed(ctx, c, boom); return nil },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", action, err)
		}
		told := ""
		if strings.HasSuffix(action, "_failed") {
			told = "boom"
		}
		n++
		body := fmt.Sprintf(`{"action":%q,"app":"app","member":"m1","token":42,"resource":%s,`+
			`"error":%q,"call":%d,"valid_ms":4321}`+"\n", action, data, told, n)
		want := request{"POST", "application/json", "42", fmt.Sprint(n), "a", "yes", body}
		if got := <-requests; got != want {
			t.Errorf("%s\n got %+v\nwant %+v", action, got, want)
		}
	}
	_ = w.Handle(ctx, drm.NewClaim("app", "m1", drm.Resource{ID: `b"`}, 1, remaining(-time.Second)))
	if got := (<-requests).body; !strings.Contains(got, `"resource":{"id":"b\""},"error":"","call":6,"valid_ms":0}`) {
		t.Errorf("without data and validity: %s", got)
	}
	for _, id := range []string{"a/b", "..", " é😀 ", "100%", "a,b;c=\"d\"", "\u2028", strings.Repeat("😀", 128)} {
		if err := w.Handle(ctx, drm.NewClaim("app", "m1", drm.Resource{ID: id}, 1, nil)); err != nil {
			t.Errorf("%q: %v", id, err)
			continue
		}
		got := (<-requests).resource
		if back, err := url.PathUnescape(got); err != nil || back != id ||
			strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
			t.Errorf("%q is sent as %q", id, got)
		}
	}
}

func TestWebhookTakesOnly2xxForSuccess(t *testing.T) {
	var status atomic.Int32
	var asked atomic.Int32
	w := serve(t, handler.WebhookConfig{}, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Location", "/elsewhere?token=t0psecret")
		w.WriteHeader(int(status.Load()))
	})
	for _, s := range []int32{200, 201, 204, 299, 300, 301, 302, 304, 307, 308, 400, 404, 409, 500, 503} {
		status.Store(s)
		asked.Store(0)
		err := w.Handle(t.Context(), claim("a", 1))
		if (err == nil) != (s < 300) {
			t.Errorf("status %d: %v", s, err)
		}
		if err != nil && (!strings.Contains(err.Error(), fmt.Sprint(s)) || strings.Contains(err.Error(), "t0psecret")) {
			t.Errorf("status %d: %v", s, err)
		}
		if asked.Load() != 1 {
			t.Errorf("status %d: asked %d times", s, asked.Load())
		}
	}
}

func TestWebhookGivesUpOnAReceiverThatHangs(t *testing.T) {
	release := make(chan struct{})
	w := serve(t, handler.WebhookConfig{Timeout: 20 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) {
		<-release
	})
	defer close(release)
	err := w.Handle(t.Context(), claim("a", 1))
	if err == nil || !strings.Contains(err.Error(), "no answer within 20ms") {
		t.Errorf("got %v", err)
	}
}

func TestWebhookRequestEndsWithItsContext(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan struct{})
	w := serve(t, handler.WebhookConfig{}, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body) // the server notices a closed connection only after that
		close(arrived)
		<-r.Context().Done()
		close(gone)
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-arrived; cancel(drm.CauseMoved) }()
	if err := w.Handle(ctx, claim("a", 1)); !errors.Is(err, drm.CauseMoved) {
		t.Errorf("got %v", err)
	}
	<-gone
}

func TestWebhookErrorsHaveNoSecrets(t *testing.T) {
	secrets := []string{"us3r-name", "p4ssword", "qu3ry-value", "qu3ry%2Dvalue", "b34rer", "s3cret-data", "x-key-v4lue"}
	header := http.Header{"Authorization": {"Bearer b34rer"}, "X-Api-Key": {"x-key-v4lue"}}
	url := "http://us3r-name:p4ssword@receiver/hook/path?key=qu3ry-value"
	check := func(err error, wants ...string) {
		t.Helper()
		if err == nil {
			t.Fatal("no error")
		}
		for _, secret := range secrets {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q is in the error: %v", secret, err)
			}
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in the error: %v", want, err)
			}
		}
	}
	w := serve(t, handler.WebhookConfig{URL: url, Header: header}, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = fmt.Fprintf(w, "no\n\x1b[31m way: %s %v %s ", r.URL, r.Header, strings.Repeat("x", 1<<20))
	})
	err := w.Handle(t.Context(), claim("a", 7))
	check(err, "status 418", "no ", `resource "a"`, "token 7", "/hook/path?key=REDACTED", "…")
	if len(err.Error()) > 600 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}

	listener := httptest.NewServer(nil)
	listener.Close() // from now on nobody listens on this port
	w = must[*handler.Webhook](t)(handler.NewWebhook(handler.WebhookConfig{
		URL: strings.Replace(url, "receiver", listener.Listener.Addr().String(), 1), Header: header,
	}))
	check(w.Handle(t.Context(), claim("a", 7)), "/hook/path?key=REDACTED", "refused")

	for _, bad := range []string{
		"http://us3r-name:p4ssword@host:notaport/?key=qu3ry-value", "ftp://us3r-name:p4ssword@host/?key=qu3ry-value",
		"us3r-name:p4ssword@host", "://us3r-name:p4ssword@host", "",
	} {
		_, err = handler.NewWebhook(handler.WebhookConfig{URL: bad})
		wantInputError(t, err, "URL")
		for _, secret := range []string{"p4ssword", "qu3ry-value"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q is in the error: %v", secret, err)
			}
		}
	}
}

func TestWebhookTellsOfFailedNotificationsOnce(t *testing.T) {
	var asked atomic.Int32
	var told []error
	w := serve(t, handler.WebhookConfig{OnNotifyError: func(err error) { told = append(told, err) }},
		func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			w.WriteHeader(http.StatusInternalServerError)
		})
	w.HandleFailed(t.Context(), claim("a", 1), errors.New("boom"))
	w.TerminateFailed(t.Context(), claim("a", 1), nil)
	if len(told) != 2 || asked.Load() != 2 || !strings.Contains(told[0].Error(), "handle_failed") {
		t.Errorf("asked %d times, told %v", asked.Load(), told)
	}
}

func TestWebhookKeepsItsConnections(t *testing.T) {
	remotes := make(chan string, 10)
	w := serve(t, handler.WebhookConfig{}, func(w http.ResponseWriter, r *http.Request) {
		remotes <- r.RemoteAddr
		w.WriteHeader(http.StatusServiceUnavailable) // a failure must keep the connection too
		_, _ = io.WriteString(w, strings.Repeat("x", 50_000))
	})
	for range 10 {
		_ = w.Handle(t.Context(), claim("a", 1))
	}
	first := <-remotes
	for range 9 {
		if remote := <-remotes; remote != first {
			t.Errorf("requests came from %s and %s", first, remote)
		}
	}
}

// A receiver may close a kept connection just when a request is on its way. A terminate is then sent again over another
// connection, because nothing else would end the handling. A handle is not: DRM tries it again.
func TestWebhookSendsATerminateAgainThatMetTheEndOfAConnection(t *testing.T) {
	for action, want := range map[string]int{"terminate": 2, "handle": 1, "update": 1, "terminate_failed": 1} {
		var asked atomic.Int32
		var highest atomic.Int64
		var closing atomic.Bool
		w := serve(t, handler.WebhookConfig{}, func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if !strings.Contains(string(body), fmt.Sprintf(`"action":%q`, action)) {
				return
			}
			number, _ := strconv.ParseInt(r.Header.Get(handler.CallHeader), 10, 64)
			if before := highest.Swap(number); number <= before {
				t.Errorf("%s: number %d follows %d", action, number, before)
			}
			asked.Add(1)
			if closing.Swap(false) {
				panic(http.ErrAbortHandler)
			}
		})
		if err := w.Handle(t.Context(), claim("other", 1)); err != nil { // makes the connection
			t.Fatal(err)
		}
		asked.Store(0)
		closing.Store(true)
		c, err := claim("a", 1), error(nil)
		switch action {
		case "terminate":
			err = w.Terminate(t.Context(), c)
		case "handle":
			err = w.Handle(t.Context(), c)
		case "update":
			err = w.Update(t.Context(), c)
		default:
			w.TerminateFailed(t.Context(), c, errors.New("boom"))
		}
		if n := int(asked.Load()); n != want || (err == nil) != (want > 1 || action == "terminate_failed") {
			t.Errorf("%s: sent %d times, want %d; error %v", action, n, want, err)
		}
	}
}

func TestWebhookUsesACopyOfTheCallersClient(t *testing.T) {
	client := &http.Client{}
	defer client.CloseIdleConnections()
	w := serve(t, handler.WebhookConfig{Client: client}, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/", http.StatusFound)
	})
	if err := w.Handle(t.Context(), claim("a", 1)); err == nil || !strings.Contains(err.Error(), "302") {
		t.Errorf("got %v", err)
	}
	if client.CheckRedirect != nil {
		t.Error("the caller's client was changed")
	}
}

func TestWebhookRefusesBadConfig(t *testing.T) {
	const url = "http://localhost/"
	for _, tc := range []struct {
		field string
		cfg   handler.WebhookConfig
	}{
		{"Timeout", handler.WebhookConfig{URL: url, Timeout: -1}},
		{"Timeout", handler.WebhookConfig{URL: url, Timeout: 25 * time.Hour}},
		{"Header", handler.WebhookConfig{URL: url, Header: http.Header{"bad name": {"x"}}}},
		{"Header", handler.WebhookConfig{URL: url, Header: http.Header{"X-A": {"s3cret\n"}}}},
		{"Header", handler.WebhookConfig{URL: url, Header: http.Header{"drm-token": {"1"}}}},
		{"Header", handler.WebhookConfig{URL: url, Header: http.Header{"drm-call": {"1"}}}},
		{"Header", handler.WebhookConfig{URL: url, Header: http.Header{"drm-resource": {"a"}}}},
		{"Header", handler.WebhookConfig{URL: url, Header: http.Header{"content-type": {"text/plain"}}}},
	} {
		_, err := handler.NewWebhook(tc.cfg)
		wantInputError(t, err, tc.field)
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("a header's value is in the error: %v", err)
		}
	}
}
