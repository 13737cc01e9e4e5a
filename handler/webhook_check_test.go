package handler_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

func TestWebhookChecks(t *testing.T) {
	m, v := newMortal(t, ""), &witness{}
	w := m.webhook(t, handler.WebhookConfig{Checks: true})
	status := 0
	m.answers(func(w http.ResponseWriter, _ *http.Request, _ asked) bool { w.WriteHeader(status); return true })
	for _, status = range []int{200, 204, 302, 400, 405, 410, 500, 502, 503} {
		err := w.Check(t.Context(), v.claim("a"))
		if (err == nil) != (status < 300) || errors.Is(err, errors.ErrUnsupported) ||
			errors.Is(err, drm.ErrOutcomeUnknown) {
			t.Errorf("status %d: %v", status, err)
		}
	}
	const want = `{"action":"check","app":"app","member":"m1","token":7,"resource":{"id":"a"},"error":"","call":1,` +
		`"valid_ms":60000}`
	if q := m.took()[0]; q.Body != want || q.Header.Get("DRM-Token") != "7" || q.Header.Get("DRM-Resource") != "a" {
		t.Errorf("got %s, want %s; header %v", q.Body, want, q.Header)
	}
	m.kill()
	m.refuses(w, v)
	if err := w.Check(t.Context(), v.claim("a")); err == nil || errors.Is(err, errors.ErrUnsupported) ||
		!strings.Contains(err.Error(), "refused") {
		t.Errorf("a dead receiver: %v", err)
	}
}

func TestAReceiverThatDoesNotKnowChecksIsNotAskedAgain(t *testing.T) {
	for _, status := range []int{404, 501} {
		m, v := newMortal(t, ""), &witness{}
		m.answers(func(w http.ResponseWriter, _ *http.Request, _ asked) bool { w.WriteHeader(status); return true })
		w := m.webhook(t, handler.WebhookConfig{Checks: true})
		for range 3 {
			if err := w.Check(t.Context(), v.claim("a")); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("status %d: %v", status, err)
			}
		}
		m.wantTook(": check a")
	}
}

// An update of the receiver may know the action.
func TestAnotherInstanceOfAReceiverIsAskedAgain(t *testing.T) {
	m, v := newMortal(t, "one"), &witness{}
	m.answers(func(w http.ResponseWriter, _ *http.Request, q asked) bool {
		if q.Instance != "one" || q.Action != "check" {
			return false
		}
		w.Header().Set(handler.InstanceHeader, "one")
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	w := m.webhook(t, handler.WebhookConfig{Checks: true})
	fine(t, w.Handle(t.Context(), v.claim("a")))
	for range 3 {
		if err := w.Check(t.Context(), v.claim("a")); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("the first instance: %v", err)
		}
	}
	m.restart("two")
	wantInstance(t, w, "two")
	finally(t, func() error { return w.Check(t.Context(), v.claim("a")) })
	m.wantTook("one: handle a", "one: check a", "two: instance", "two: check a")
}

func TestNothingIsCheckedUnlessThatIsWanted(t *testing.T) {
	m, v := newMortal(t, ""), &witness{}
	w := m.webhook(t, handler.WebhookConfig{})
	if err := w.Check(t.Context(), v.claim("a")); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	m.wantTook()
}
