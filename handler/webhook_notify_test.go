package handler_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// silence is a receiver that never answers.
type silence struct{}

func (silence) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// A receiver that hangs makes the resource wait in each call. The notification of the failure, which hangs too, must
// not take as long again.
func TestWebhookNotificationsWaitForFiveSecondsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		w, err := handler.NewWebhook(handler.WebhookConfig{
			URL:           "http://receiver.example/",
			Client:        &http.Client{Transport: silence{}},
			OnNotifyError: func(error) { told++ },
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := w.Handle(t.Context(), claim("a", 1)); err == nil ||
			time.Since(began) != handler.DefaultWebhookTimeout {
			t.Errorf("Handle took %v: %v", time.Since(began), err)
		}
		for _, notify := range []func(context.Context, drm.Claim, error){w.HandleFailed, w.TerminateFailed} {
			began = time.Now()
			notify(t.Context(), claim("a", 1), errors.New("boom"))
			if took := time.Since(began); took != 5*time.Second {
				t.Errorf("a notification took %v", took)
			}
		}
		if told != 2 {
			t.Errorf("%d failures were told, want 2", told)
		}
	})
}

// If no connection could be made, no notification is sent: it would fail as the request before did.
func TestWebhookTellsNoFailureToAReceiverThatIsNotThere(t *testing.T) {
	service := httptest.NewServer(http.NotFoundHandler())
	var told []error
	note := func(err error) { told = append(told, err) }
	w, err := handler.NewWebhook(handler.WebhookConfig{URL: service.URL, OnNotifyError: note})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	refused := w.Handle(t.Context(), claim("a", 1))
	w.HandleFailed(t.Context(), claim("a", 1), refused)
	if len(told) != 1 || !strings.Contains(told[0].Error(), "404") {
		t.Fatalf("a receiver that refuses is told: %v", told)
	}
	service.Close()
	w.Close() // closes the kept connection
	gone := w.Handle(t.Context(), claim("a", 1))
	if gone == nil || errors.Is(gone, drm.ErrOutcomeUnknown) {
		t.Fatalf("Handle: %v", gone)
	}
	w.HandleFailed(t.Context(), claim("a", 1), gone)
	failed := errors.Join(w.Terminate(t.Context(), claim("a", 1)), errors.New("and more"))
	w.TerminateFailed(t.Context(), claim("a", 1), failed)
	if len(told) != 1 {
		t.Errorf("notifications were tried: %v", told[1:])
	}
}
