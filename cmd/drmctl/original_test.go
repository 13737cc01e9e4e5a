package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// TestOriginalTheDefaultSourceIsHTTP is the last of the original's unit tests; internal/scenario has the others. Given
// nothing but a URL, the original's node asked it over HTTP. An agent does the same.
func TestOriginalTheDefaultSourceIsHTTP(t *testing.T) {
	var asked atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked.Store(req.Method)
		_, _ = fmt.Fprint(w, `{"data":[{"id":"1"}]}`)
	}))
	defer server.Close()
	l := newLab(t)
	_, stop := l.agent("a", "--source-url", server.URL, "--handler-log")
	l.members(1)
	eventually(t, func() error {
		if got := get[statusJSON](l, "status"); got.Active != 1 || got.Source.Resources != 1 {
			return fmt.Errorf("status %+v", got)
		}
		return nil
	})
	if asked.Load() != http.MethodGet {
		t.Errorf("the source was asked with %v", asked.Load())
	}
	if code := stop(); code != exitFine {
		t.Errorf("exit code %d", code)
	}
}
