package retriever

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"
)

func FuzzRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Fri, 31 Dec 2027 23:59:59 GMT")
	f.Fuzz(func(t *testing.T, value string) {
		wait, ok := retryAfter(&http.Response{Header: http.Header{"Retry-After": {value}}})
		if wait < 0 || !ok && wait != 0 {
			t.Fatalf("%q: %v, %v", value, wait, ok)
		}
		// The wait is the one in the header, whatever is decided about it.
		a := newAttempts(&HTTPConfig{RetryWait: time.Second, RetryWaitMax: time.Minute})
		answer := &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {value}}}
		if again, err := a.again(t.Context(), answer, nil); err != nil ||
			again && (a.wait < 0 || a.wait > time.Minute) {
			t.Fatalf("%q: a pause of %v, %v", value, a.wait, err)
		}
	})
}

func FuzzNextPage(f *testing.F) {
	f.Add(`</feeds?page=2>; rel="next"`, []byte(`"/feeds?page=3"`), false)
	f.Add(`<http://elsewhere/>; rel=next`, []byte(`null`), true)
	f.Fuzz(func(t *testing.T, link string, inBody []byte, elsewhere bool) {
		if !json.Valid(inBody) { // Decode refuses such a body before
			inBody = nil
		}
		base := &url.URL{Scheme: "https", Host: "example.org", Path: "/feeds"}
		h := &HTTP{url: base, cfg: HTTPConfig{NextInBody: true, NextInLink: true, NextElsewhere: elsewhere}}
		answer := &http.Response{Header: http.Header{"Link": {link}}, Request: &http.Request{URL: base}}
		next, err := h.nextPage(answer, inBody)
		if err != nil && next != nil {
			t.Fatalf("%v besides %v", next, err)
		}
		if next == nil {
			return
		}
		if next.Scheme != "http" && next.Scheme != "https" || next.Hostname() == "" || next.User != nil ||
			!elsewhere && !sameHost(base, next) {
			t.Fatalf("%q, %q: %v", link, inBody, next)
		}
		if _, err := http.NewRequestWithContext(t.Context(), http.MethodGet, next.String(), nil); err != nil {
			t.Fatalf("%q, %q: %v", link, inBody, err)
		}
	})
}

func FuzzRow(f *testing.F) {
	f.Add("id", "url", "a", []byte("x"), int64(1), 1.5, uint8(0), false)
	f.Add("id", "data", "1", []byte(`{"id":1,"x":[]}`), int64(1), 0.0, uint8(1), true)
	f.Fuzz(func(t *testing.T,
		first, second, text string, raw []byte, number int64, ratio float64, kind uint8, numberIDs bool,
	) {
		r, err := newRowReader([]string{first, second}, numberIDs)
		if err != nil {
			return
		}
		values := []any{nil, text, raw, number, ratio, true, time.Unix(number%1e9, 0), []int{1}}
		r.values[0], r.values[1] = values[int(kind)%len(values)], values[int(kind>>4)%len(values)]
		resource, column, err := r.resource()
		if err != nil {
			if column != first && column != second {
				t.Fatalf("column %q: %v", column, err)
			}
			return
		}
		if err := resource.Validate(); err != nil || !json.Valid(resource.Data) {
			t.Fatalf("%v: %q, %v", r.values, resource.Data, err)
		}
		var object struct{ ID string }
		if err := json.Unmarshal(resource.Data, &object); err != nil && r.data < 0 {
			t.Fatalf("%v: %q, %v", r.values, resource.Data, err)
		}
	})
}
