package handler_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// TestWebhookErrorsSayWhatToCheck covers URLs that lead to something other than the receiver.
func TestWebhookErrorsSayWhatToCheck(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/unauthorized", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
	})
	mux.HandleFunc("/closes", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	plain, secure := httptest.NewServer(mux), httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	for name, c := range map[string]struct{ url, want string }{
		"401":                 {plain.URL + "/unauthorized", "check the credentials"},
		"404":                 {plain.URL + "/nothing", "check the path"},
		"a closed connection": {plain.URL + "/closes", "https://?"},
		"TLS to plain HTTP":   {strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS"},
		"another authority":   {secure.URL, "no trusted authority has signed"},
	} {
		w, err := handler.NewWebhook(handler.WebhookConfig{URL: c.url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Close)
		if err := w.Handle(t.Context(), drm.Claim{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := handler.NewWebhook(handler.WebhookConfig{URL: "localhost:9000"}); err == nil ||
		!strings.Contains(err.Error(), "http://localhost:9000") {
		t.Error(err)
	}
}
