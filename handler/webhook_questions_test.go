package handler_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// Whoever gives up the question does not answer it for those that wait.
func TestAQuestionThatIsGivenUpIsAskedAgain(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	w := m.webhook(t, handler.WebhookConfig{})
	fine(t, w.Handle(t.Context(), v.claim("a")))
	arrived := make(chan struct{}, 10)
	m.answers(func(_ http.ResponseWriter, r *http.Request, _ asked) bool {
		arrived <- struct{}{}
		<-r.Context().Done()
		return true
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if name, err := w.Instance(ctx); !errors.Is(err, drm.CauseStopped) {
			t.Errorf("instance %q, error %v", name, err)
		}
	})
	<-arrived
	wg.Go(func() { wantInstance(t, w, "one") })
	stale() // so that it waits
	m.answers(nil)
	cancel(drm.CauseStopped)
	wg.Wait()
}

func TestTheQuestionIsAskedInTimeAndHasNoSecrets(t *testing.T) {
	let := make(chan struct{})
	m, v := newMortal(t, "one"), &witness{}
	defer close(let)
	w := must[*handler.Webhook](t)(handler.NewWebhook(handler.WebhookConfig{
		URL: "http://us3r:p4ss@" + m.addr + "/?key=qu3ry", Timeout: 50 * time.Millisecond,
		Header: http.Header{"X-Key": {"s3cret"}},
	}))
	t.Cleanup(w.Close)
	_ = w.Handle(t.Context(), v.claim("a"))
	var errs []error
	ask := func() {
		_, err := w.Instance(t.Context())
		errs = append(errs, err)
	}
	m.answers(func(w http.ResponseWriter, r *http.Request, _ asked) bool {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "s3cret p4ss qu3ry")
		return true
	})
	ask()
	m.answers(func(http.ResponseWriter, *http.Request, asked) bool { <-let; return true })
	ask()
	m.answers(nil)
	for i, want := range []string{"502", "no answer within 50ms"} {
		if errs[i] == nil || !strings.Contains(errs[i].Error(), want) ||
			!strings.Contains(errs[i].Error(), "instance") {
			t.Errorf("got %v, want %q", errs[i], want)
			continue
		}
		for _, secret := range []string{"s3cret", "p4ss", "qu3ry", "us3r"} {
			if strings.Contains(errs[i].Error(), secret) {
				t.Errorf("%q is in %v", secret, errs[i])
			}
		}
	}
}

// The questions of a caller's own client go over connections of their own, as long as it has an http.Transport.
func TestTheQuestionsOfACallersClientTakeNoConnectionOfItsRequests(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	one := &http.Transport{MaxConnsPerHost: 1}
	t.Cleanup(one.CloseIdleConnections)
	let, arrived := make(chan struct{}), make(chan struct{})
	w := m.webhook(t, handler.WebhookConfig{Client: &http.Client{Transport: one}})
	fine(t, w.Handle(t.Context(), v.claim("a")))
	m.answers(func(_ http.ResponseWriter, _ *http.Request, q asked) bool {
		if q.Action == "instance" {
			close(arrived)
			<-let
		}
		return false
	})
	var wg sync.WaitGroup
	wg.Go(func() { wantInstance(t, w, "one") })
	<-arrived
	fine(t, w.Handle(t.Context(), v.claim("b")))
	close(let)
	wg.Wait()

	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	x := m.webhook(t, handler.WebhookConfig{Client: &http.Client{Transport: transport(base.RoundTrip)}})
	m.answers(nil)
	fine(t, x.Handle(t.Context(), v.claim("a")))
	wantInstance(t, x, "one")
}

func TestManyAskAtOnceAndGetOneAnswer(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	w := m.webhook(t, handler.WebhookConfig{})
	fine(t, w.Handle(t.Context(), v.claim("a")))
	m.took()
	let, arrived := make(chan struct{}), make(chan struct{}, 100)
	m.answers(func(_ http.ResponseWriter, _ *http.Request, q asked) bool {
		arrived <- struct{}{}
		<-let
		return false
	})
	var wg sync.WaitGroup
	wg.Go(func() { wantInstance(t, w, "one") })
	<-arrived
	for range 50 {
		wg.Go(func() { wantInstance(t, w, "one") })
	}
	stale() // so that most of them wait
	close(let)
	wg.Wait()
	if n := len(m.took()); n > 10 {
		t.Errorf("%d questions were asked", n)
	}
}

var _ drm.Restartable = (*handler.Webhook)(nil)

func TestInstanceAndCheckPassThroughMiddleware(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	w := m.webhook(t, handler.WebhookConfig{Checks: true})
	retry := must[handler.Middleware](t)(handler.Retry(handler.RetryConfig{}))
	limit := must[handler.Middleware](t)(handler.Timeout(time.Minute, time.Minute))
	h := handler.Chain(w, handler.Log(nil), retry, handler.Recover(nil), limit)
	fine(t, h.Handle(t.Context(), v.claim("a")))
	if name, err := h.(drm.Restartable).Instance(t.Context()); name != "one" || err != nil {
		t.Error(name, err)
	}
	m.took()
	type checker interface {
		Check(ctx context.Context, c drm.Claim) error
	}
	fine(t, h.(checker).Check(t.Context(), v.claim("a")))
	m.wantTook("one: check a")

	var panics handler.Funcs
	panics.Check = func(context.Context, drm.Claim) error { panic("check") }
	panics.Instance = func(context.Context) (string, error) { panic("instance") }
	h = handler.Recover(nil)(handler.New(panics))
	if err := h.(checker).Check(t.Context(), v.claim("a")); !errors.As(err, new(*drm.PanicError)) {
		t.Error(err)
	}
	if _, err := h.(drm.Restartable).Instance(t.Context()); !errors.As(err, new(*drm.PanicError)) {
		t.Error(err)
	}
	h = handler.Recover(nil)(handler.New(handler.Funcs{}))
	if err := h.(checker).Check(t.Context(), v.claim("a")); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

func TestReceiversBehindTLSAreAskedToo(t *testing.T) {
	v, name := &witness{}, "one"
	var mu sync.Mutex
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.ProtoMajor != 2 {
			t.Errorf("protocol %s", r.Proto)
		}
		w.Header().Set(handler.InstanceHeader, name)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	secure := server.Client().Transport.(*http.Transport).TLSClientConfig
	for i, cfg := range []handler.WebhookConfig{
		{URL: server.URL, TLS: secure},
		{URL: server.URL, GetTLS: func() (*tls.Config, error) { return secure, nil }},
	} {
		w := must[*handler.Webhook](t)(handler.NewWebhook(cfg))
		t.Cleanup(w.Close)
		fine(t, w.Handle(t.Context(), v.claim("a")))
		mu.Lock()
		name = fmt.Sprint("life ", i)
		mu.Unlock()
		wantInstance(t, w, name)
	}
}
