package httpapi_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// raw asks for a path, and returns the body whatever it is.
func (s *stage) raw(path string) (code int, body string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.server.URL+path, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.server.Client().Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		s.t.Errorf("GET %s: %v, headers %v", path, err, resp.Header)
	}
	return resp.StatusCode, string(text)
}

func TestProfiles(t *testing.T) {
	s := newStage(t)
	s.start(`{"id":"a"}`)
	code, text := s.raw("/v1/profiles/goroutine")
	if code != http.StatusOK || !strings.Contains(text, "goroutine 1 [") {
		t.Errorf("goroutines: %d: %.200s", code, text)
	}
	for _, path := range []string{"heap", "allocs", "mutex", "threadcreate", "cpu?seconds=1"} {
		code, text := s.raw("/v1/profiles/" + path)
		if code != http.StatusOK || !strings.HasPrefix(text, "\x1f\x8b") { // gzip, which go tool pprof reads
			t.Errorf("%s: %d: %.100q", path, code, text)
		}
	}
	for path, want := range map[string]int{
		"nothing": http.StatusNotFound, "heap?seconds=1": http.StatusBadRequest, "cpu?x=1": http.StatusBadRequest,
		"cpu?seconds=31": http.StatusBadRequest, "cpu?seconds=x": http.StatusBadRequest,
	} {
		if got := s.get("/v1/profiles/" + path); got.code != want || got.Error == "" {
			t.Errorf("%s: %d: %s", path, got.code, got.text)
		}
	}
}
