package retriever_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm/retriever"
)

// TestErrorsSayWhatWasMet checks that errors say what an operator needs to find the cause, and show no secret.
func TestErrorsSayWhatWasMet(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/list", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/login?back=hushquery&of=hushheader", http.StatusFound)
	})
	mux.HandleFunc("/login", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		write(w, "<!doctype html><title>Log in</title>")
	})
	mux.HandleFunc("/unauthorized", status(http.StatusUnauthorized))
	mux.HandleFunc("/forbidden", status(http.StatusForbidden))
	mux.HandleFunc("/broken", status(http.StatusInternalServerError))
	mux.HandleFunc("/down", status(http.StatusBadGateway))
	mux.HandleFunc("/numbers", func(w http.ResponseWriter, _ *http.Request) { write(w, `{"data":[{"id":1}]}`) })
	mux.HandleFunc("/closes", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	plain := serve(t, mux.ServeHTTP)
	secure := httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for name, c := range map[string]struct {
		url  string
		want []string
	}{
		"a login page": {plain.URL + "/list", []string{
			"redirected to " + plain.URL + "/login?…", "Content-Type text/html", "it is HTML, not JSON",
		}},
		"401":                 {plain.URL + "/unauthorized", []string{"401", "check the credentials"}},
		"403":                 {plain.URL + "/forbidden", []string{"403", "allowed"}},
		"404":                 {plain.URL + "/nothing", []string{"404", "check the path"}},
		"500":                 {plain.URL + "/broken", []string{"500", "log of the service"}},
		"502":                 {plain.URL + "/down", []string{"502", "is up"}},
		"a closed connection": {plain.URL + "/closes", []string{"EOF", "https://?"}},
		"TLS to plain HTTP": {strings.Replace(plain.URL, "http:", "https:", 1), []string{
			"does not speak TLS", "http:// instead of https://",
		}},
		"another authority": {secure.URL, []string{"no trusted authority has signed"}},
		"plain HTTP to TLS": {strings.Replace(secure.URL, "https:", "http:", 1), []string{"400", "https://"}},
	} {
		h := newHTTP(t, retriever.HTTPConfig{URL: c.url, Attempts: 1, Header: http.Header{"X-Key": {"hushheader"}}})
		_, err := h.Fetch(t.Context())
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: a secret in %v", name, err)
		}
	}
}

func TestAURLWithoutASchemeIsCompleted(t *testing.T) {
	_, err := retriever.NewHTTP(retriever.HTTPConfig{URL: "localhost:8080/list"})
	if err == nil || !strings.Contains(err.Error(), "http://localhost:8080/list") {
		t.Error(err)
	}
}
