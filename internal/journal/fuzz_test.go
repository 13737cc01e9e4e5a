package journal

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func FuzzReceiver(f *testing.F) {
	f.Add(`{"action":"handle","app":"shop","member":"m1","token":7311,` +
		`"resource":{"id":"feed-1","kind":"rss"},"error":"","valid_ms":4321}`)
	f.Fuzz(func(t *testing.T, body string) {
		j := &Journal{}
		answer := httptest.NewRecorder()
		Receiver{Journal: j}.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		events := j.Events()
		switch {
		case answer.Code == http.StatusBadRequest && len(events) > 0:
			t.Fatalf("%q: refused, and recorded: %+v", body, events)
		case answer.Code != http.StatusBadRequest && answer.Code != http.StatusNoContent || len(events) > 1:
			t.Fatalf("%q: status %d, %+v", body, answer.Code, events)
		}
	})
}
