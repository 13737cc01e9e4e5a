package handler_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/distributed-resource-manager/drm/handler"
)

func TestWebhookSaysWhichInstanceHasAnswered(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	w := m.webhook(t, handler.WebhookConfig{Checks: true})
	c, ctx := v.claim("a"), t.Context()
	wantInstance(t, w, "") // nothing is known, and nothing is asked
	m.wantTook()
	for _, status := range []int{204, 302, 409, 500, 503} {
		m.answers(func(w http.ResponseWriter, _ *http.Request, _ asked) bool {
			w.Header().Set("drm-instance", "one")
			w.WriteHeader(status)
			return true
		})
		_ = w.Handle(ctx, c)
		_ = w.Update(ctx, c)
		_ = w.Terminate(ctx, c)
		w.HandleFailed(ctx, c, errBoom)
		w.TerminateFailed(ctx, c, errBoom)
		wantNames(t, v, "one", "one", "one", "one", "one")
		_ = w.Check(ctx, c)
		wantNames(t, v) // it is given nothing by a check
	}
}

func TestNamesOfInstancesAreShortAndPrintable(t *testing.T) {
	m, v := newMortal(t, ""), &witness{}
	w := m.webhook(t, handler.WebhookConfig{})
	long := strings.Repeat("x", 256)
	seen := map[string]string{}
	for name, kept := range map[string]bool{
		"a": true, "with blanks ~": true, long: true,
		long + "x": false, long + "y": false, strings.Repeat("x", 100_000): false,
		"é": false, "\xff": false, "a\tb": false,
	} {
		m.answers(func(w http.ResponseWriter, _ *http.Request, _ asked) bool {
			w.Header().Set(handler.InstanceHeader, name)
			return false
		})
		for range 2 {
			fine(t, w.Handle(t.Context(), v.claim("a")))
		}
		got := v.took()
		if len(got) != 2 || got[0] != got[1] || len(got[0]) > 256 || (got[0] == name) != kept {
			t.Errorf("%.20q is %q", name, got)
			continue
		}
		if other, is := seen[got[0]]; is {
			t.Errorf("%.20q and %.20q are the same", name, other)
		}
		seen[got[0]] = name
	}
}

func TestAReceiverThatSendsNoNameIsNeverAsked(t *testing.T) {
	m, v := newMortal(t, ""), &witness{}
	w := m.webhook(t, handler.WebhookConfig{})
	ctx := t.Context()
	fine(t, w.Handle(ctx, v.claim("a")))
	wantInstance(t, w, "")
	stale()
	fine(t, w.Terminate(ctx, v.claim("a")))
	m.kill()
	if w.Handle(ctx, v.claim("a")) == nil {
		t.Error("a dead receiver has answered")
	}
	m.start("")
	wantInstance(t, w, "")
	fine(t, w.Terminate(ctx, v.claim("a")))
	fine(t, w.Handle(ctx, v.claim("a")))
	m.wantTook(": handle a", ": terminate a", ": terminate a", ": handle a")
	wantNames(t, v)
}

func TestTheQuestionIsNoRequestAboutAResource(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	w := m.webhook(t, handler.WebhookConfig{Header: http.Header{"X-Key": {"k"}, "Authorization": {"Bearer b"}}})
	fine(t, w.Handle(t.Context(), v.claim("a")))
	for n := range 3 {
		wantInstance(t, w, "one")
		fine(t, w.Handle(t.Context(), v.claim("a")))
		got := m.took()
		question, request := got[len(got)-2], got[len(got)-1]
		want := fmt.Sprintf(`{"action":"instance","app":"app","member":"m1","call":%d}`, n+1)
		if question.Body != want {
			t.Errorf("got %s, want %s", question.Body, want)
		}
		if question.Remote == request.Remote {
			t.Error("the question used a connection of the requests")
		}
		for _, name := range []string{"Drm-Token", "Drm-Call", "Drm-Resource", "Idempotency-Key"} {
			if question.Header[name] != nil {
				t.Errorf("the question has %s: %q", name, question.Header[name])
			}
		}
		if question.Header.Get("X-Key") != "k" || question.Header.Get("Authorization") != "Bearer b" ||
			question.Header.Get("Content-Type") != "application/json" {
			t.Errorf("the question has the headers %v", question.Header)
		}
		if request.Call != int64(n+2) {
			t.Errorf("the request has the number %d, want %d: questions do not count", request.Call, n+2)
		}
	}
}

func TestAnotherNameIsAnotherInstance(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	w := m.webhook(t, handler.WebhookConfig{})
	fine(t, w.Handle(t.Context(), v.claim("a")))
	wantInstance(t, w, "one")
	m.restart("two")
	wantInstance(t, w, "two") // though the connection for questions was closed
	handled(t, w, v.claim("a"))
	wantNames(t, v, "one", "two")
	m.wantTook("one: handle a", "one: instance", "two: instance", "two: handle a")
}

// Several Webhooks of a process know nothing of each other.
func TestEachWebhookAsksItsOwnReceiver(t *testing.T) {
	m, n, v := newMortal(t, "one"), newMortal(t, "uno"), &witness{}
	var cfg handler.WebhookConfig
	w, x, y := m.webhook(t, cfg), n.webhook(t, cfg), m.webhook(t, cfg)
	fine(t, w.Handle(t.Context(), v.claim("a")))
	fine(t, x.Handle(t.Context(), v.claim("a")))
	m.restart("two")
	wantInstance(t, w, "two")
	wantInstance(t, x, "uno")
	wantInstance(t, y, "")
}

// What does not know the question, or has no name for its answer, is the instance that it was.
func TestAnAnswerWithoutANameChangesNothing(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"404": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"204": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"405 without end": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusMethodNotAllowed)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, v := newMortal(t, "one"), &witness{}
			w := m.webhook(t, handler.WebhookConfig{})
			m.answers(func(w http.ResponseWriter, r *http.Request, q asked) bool {
				if q.Action != "instance" {
					return false
				}
				answer(w, r)
				return true
			})
			for range 2 {
				fine(t, w.Handle(t.Context(), v.claim("a")))
				wantInstance(t, w, "one")
				wantInstance(t, w, "one")
			}
			wantNames(t, v, "one", "one")
			m.took()
			stale()
			fine(t, w.Terminate(t.Context(), v.claim("a")))
			m.wantTook("one: terminate a") // to ask first would tell nothing
		})
	}
}

// A receiver that breaks on the question is alive all the same.
func TestAReceiverThatBreaksOnTheQuestionIsTheSame(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	w := m.webhook(t, handler.WebhookConfig{})
	m.answers(func(_ http.ResponseWriter, _ *http.Request, q asked) bool {
		if q.Action == "instance" {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	for range 5 {
		fine(t, w.Handle(t.Context(), v.claim("a")))
		if name, err := w.Instance(t.Context()); err == nil {
			t.Errorf("instance %q", name)
		}
		fine(t, w.Terminate(t.Context(), v.claim("a")))
	}
	for _, name := range v.took() {
		if name != "one" {
			t.Errorf("served by %q", name)
		}
	}
}

// A receiver that nobody could reach, and that is there again, has been restarted, also if it does not say so.
func TestAReceiverThatComesBackWithoutANameIsAnotherInstance(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	w, ctx := m.webhook(t, handler.WebhookConfig{}), t.Context()
	named := func(name string, actions ...string) {
		m.answers(func(w http.ResponseWriter, _ *http.Request, q asked) bool {
			if slices.Contains(actions, q.Action) {
				w.Header().Set(handler.InstanceHeader, name)
			}
			return false
		})
	}
	named("one", "handle")
	m.restart("")
	handled(t, w, v.claim("a"))
	fine(t, w.Handle(ctx, v.claim("b")))
	wantInstance(t, w, "one")
	m.kill()
	if name, err := w.Instance(ctx); err == nil {
		t.Errorf("a dead receiver is %q", name)
	}
	named("two", "handle")
	m.start("")
	wantInstance(t, w, "one returned 1")
	wantInstance(t, w, "one returned 1")
	handled(t, w, v.claim("a")) // it says its name now, and is still the instance that returned
	wantInstance(t, w, "one returned 1")
	wantNames(t, v, "one", "one", "one returned 1")
	m.kill()
	m.refuses(w, v)
	m.start("")
	m.took()
	fine(t, w.Terminate(ctx, v.claim("a")))
	m.wantTook(": instance") // it has nothing
	wantNames(t, v, "two returned 2")
	handled(t, w, v.claim("a"))
	wantNames(t, v, "two returned 2") // it always says the same name
	named("three", "handle")
	fine(t, w.Handle(ctx, v.claim("a")))
	wantNames(t, v, "three")
}

// A proxy that answers in the place of a dead receiver says nothing about the receiver.
func TestAProxyIsNotTheReceiver(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	w, ctx := m.webhook(t, handler.WebhookConfig{}), t.Context()
	fine(t, w.Handle(ctx, v.claim("a")))
	m.kill()
	if _, err := w.Instance(ctx); err == nil {
		t.Error("a dead receiver has answered")
	}
	for _, status := range []int{502, 503, 504} {
		m.answers(func(w http.ResponseWriter, _ *http.Request, _ asked) bool { w.WriteHeader(status); return true })
		m.start("")
		if name, err := w.Instance(ctx); err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) {
			t.Errorf("status %d: instance %q, error %v", status, name, err)
		}
		if w.Handle(ctx, v.claim("b")) == nil {
			t.Errorf("status %d is a success", status)
		}
		m.kill()
	}
	m.answers(nil)
	m.start("one") // the receiver was there all the time
	wantInstance(t, w, "one")
	wantNames(t, v, "one")
}

// Somebody accepts connections in the place of a dead receiver, and closes them.
func TestConnectionsThatAreLostTwiceHaveNobodyBehindThem(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	w, ctx := m.webhook(t, handler.WebhookConfig{}), t.Context()
	fine(t, w.Handle(ctx, v.claim("a")))
	m.restart("")
	m.answers(func(http.ResponseWriter, *http.Request, asked) bool { panic(http.ErrAbortHandler) })
	ask := func() {
		t.Helper()
		if _, err := w.Instance(ctx); err == nil {
			t.Error("nobody has answered")
		}
	}
	ask()
	m.answers(nil)
	wantInstance(t, w, "one") // once may be an accident
	m.answers(func(http.ResponseWriter, *http.Request, asked) bool { panic(http.ErrAbortHandler) })
	ask()
	ask()
	m.answers(nil)
	wantInstance(t, w, "one returned 1")
}

// The answer to a request from before the restart comes after the first answer of the new instance.
func TestALateAnswerIsOfAnEarlierInstance(t *testing.T) {
	arrived, let := make(chan struct{}), make(chan struct{})
	m, v := newMortal(t, "one"), &witness{}
	w, ctx := m.webhook(t, handler.WebhookConfig{}), t.Context()
	fine(t, w.Handle(ctx, v.claim("a")))
	m.answers(func(w http.ResponseWriter, _ *http.Request, q asked) bool {
		if q.Resource.ID == "late" {
			close(arrived)
			<-let
			w.Header().Set(handler.InstanceHeader, "one")
			w.WriteHeader(http.StatusNoContent)
			return true
		}
		w.Header().Set(handler.InstanceHeader, "two")
		w.WriteHeader(http.StatusNoContent)
		return true
	})
	late := &witness{}
	var wg sync.WaitGroup
	wg.Go(func() { fine(t, w.Handle(ctx, late.claim("late"))) })
	<-arrived
	wantInstance(t, w, "two")
	close(let)
	wg.Wait()
	wantNames(t, late, "one") // this one handles it
	wantInstance(t, w, "two")
	fine(t, w.Handle(ctx, v.claim("b")))
	wantNames(t, v, "one", "two")
	m.answers(nil)
	m.restart("three")
	stale()
	m.took()
	fine(t, w.Terminate(ctx, v.claim("b")))
	m.wantTook("three: instance") // the late answer does not count as instances that take turns
}

// The old process closes its port, answers what it was asked before, and has no name for that.
func TestALateAnswerWithoutANameIsNoReturn(t *testing.T) {
	arrived, let := make(chan struct{}), make(chan struct{})
	m, v := newMortal(t, "one"), &witness{}
	w, ctx := m.webhook(t, handler.WebhookConfig{}), t.Context()
	fine(t, w.Handle(ctx, v.claim("a")))
	m.answers(func(w http.ResponseWriter, _ *http.Request, q asked) bool {
		if q.Resource.ID == "late" {
			close(arrived)
			<-let
		}
		w.WriteHeader(http.StatusNoContent)
		return true
	})
	late := &witness{}
	var wg sync.WaitGroup
	wg.Go(func() { fine(t, w.Handle(ctx, late.claim("late"))) })
	<-arrived
	_ = m.port.Close()
	if name, err := w.Instance(ctx); err == nil { // it has no connection for that yet
		t.Errorf("instance %q", name)
	}
	close(let)
	wg.Wait()
	wantNames(t, late)
	m.restart("")
	wantInstance(t, w, "one returned 1")
}
