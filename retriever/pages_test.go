package retriever_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/retriever"
)

// book serves pages, by their paths. In a page, PAGE stands for the server's own URL. A page that begins with < has a
// Link header, a space, and then the body.
func book(t *testing.T, pages map[string]string) string {
	var url string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Key") != "secret" {
			t.Errorf("%s came without its header", r.URL)
		}
		body, ok := pages[r.URL.RequestURI()]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		body = strings.ReplaceAll(body, "PAGE", url)
		if link, rest, ok := strings.Cut(body, " {"); ok && body[0] == '<' {
			w.Header().Set("Link", link)
			body = "{" + rest
		}
		write(w, body)
	})
	url = s.URL
	return url
}

func TestHTTPFollowsPages(t *testing.T) {
	for _, c := range []struct {
		name  string
		pages map[string]string
		cfg   retriever.HTTPConfig
		ids   string // those of all resources; "" if an error is wanted
		field string // the field of the *drm.InputError
		says  string
	}{
		{
			name: "in the body",
			pages: map[string]string{
				"/":     `{"data":[{"id":"a"}],"next":"/?p=2"}`,
				"/?p=2": `{"next":"PAGE/3","data":[{"id":"b"}]}`,
				"/3":    `{"data":[{"id":"c"}],"next":null}`,
			},
			cfg: retriever.HTTPConfig{NextInBody: true}, ids: "a b c",
		},
		{
			name: "in links",
			pages: map[string]string{
				"/":     `<?p=2>; rel="next" {"data":[{"id":"a"}]}`,
				"/?p=2": `<PAGE/>; rel="prev first", <PAGE/3>; rel=next {"data":[{"id":"b"}]}`,
				"/3":    `{"data":[]}`,
			},
			cfg: retriever.HTTPConfig{NextInLink: true}, ids: "a b",
		},
		{
			name:  "not asked for",
			pages: map[string]string{"/": `<PAGE/2>; rel="next" {"data":[{"id":"a"}],"next":"/2"}`},
			ids:   "a",
		},
		{
			name:  "an empty next is the end",
			pages: map[string]string{"/": `{"data":[{"id":"a"}],"next":""}`},
			cfg:   retriever.HTTPConfig{NextInBody: true}, ids: "a",
		},
		{
			name:  "as many as allowed",
			pages: map[string]string{"/": `{"data":[{"id":"a"}],"next":"/2"}`, "/2": `{"data":[{"id":"b"}]}`},
			cfg:   retriever.HTTPConfig{NextInBody: true, MaxPages: 2}, ids: "a b",
		},
		{
			name: "more than allowed",
			pages: map[string]string{
				"/":  `{"data":[{"id":"a"}],"next":"/2"}`,
				"/2": `{"data":[{"id":"b"}],"next":"/3"}`,
			},
			cfg: retriever.HTTPConfig{NextInBody: true, MaxPages: 2}, field: "next", says: "at most 2 pages",
		},
		{
			name: "a loop",
			pages: map[string]string{
				"/":  `{"data":[{"id":"a"}],"next":"/2"}`,
				"/2": `{"data":[{"id":"b"}],"next":"/"}`,
			},
			cfg: retriever.HTTPConfig{NextInBody: true}, field: "next", says: "not read before",
		},
		{
			name:  "next is a number",
			pages: map[string]string{"/": `{"data":[{"id":"a"}],"next":2}`},
			cfg:   retriever.HTTPConfig{NextInBody: true}, field: "next", says: "a string",
		},
		{
			name:  "next is no URL",
			pages: map[string]string{"/": `{"data":[{"id":"a"}],"next":"/%zz"}`},
			cfg:   retriever.HTTPConfig{NextInBody: true}, field: "next", says: "a URL",
		},
		{
			name:  "next is a file",
			pages: map[string]string{"/": `{"data":[{"id":"a"}],"next":"file:///etc/passwd"}`},
			cfg:   retriever.HTTPConfig{NextInBody: true, NextElsewhere: true},
			field: "next", says: "an http or https URL",
		},
		{
			name:  "next is elsewhere",
			pages: map[string]string{"/": `{"data":[{"id":"a"}],"next":"http://example.org/?token=hush"}`},
			cfg:   retriever.HTTPConfig{NextInBody: true}, field: "next", says: "example.org/?…",
		},
		{
			name:  "a page is missing",
			pages: map[string]string{"/": `{"data":[{"id":"a"}],"next":"/2"}`},
			cfg:   retriever.HTTPConfig{NextInBody: true}, says: "/2: status 404",
		},
		{
			name: "an id on two pages",
			pages: map[string]string{
				"/":  `{"data":[{"id":"a"},{"id":"b"}],"next":"/2"}`,
				"/2": `{"data":[{"id":"c"},{"id":"b"}]}`,
			},
			cfg: retriever.HTTPConfig{NextInBody: true}, ids: "a b c",
			says: `/: item 3 (id "b"): id "b" is also that of item 1`,
		},
		{
			name:  "together too large",
			pages: map[string]string{"/": `{"data":[{"id":"a"}],"next":"/2"}`, "/2": `{"data":[{"id":"b"}]}`},
			cfg:   retriever.HTTPConfig{NextInBody: true, MaxBytes: 50}, says: "larger than 50 bytes",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.URL = book(t, c.pages) + "/"
			c.cfg.Header = http.Header{"X-Key": {"secret"}}
			got, err := newHTTP(t, c.cfg).Fetch(t.Context())
			var all []string
			for _, r := range got {
				all = append(all, r.ID)
			}
			if s := strings.Join(all, " "); s != c.ids || (err == nil) != (c.says == "") {
				t.Fatalf("got %q, %v; want %q", s, err, c.ids)
			}
			if err == nil {
				return
			}
			var input *drm.InputError
			if errors.As(err, &input) != (c.field != "") || input != nil && input.Field != c.field {
				t.Errorf("want field %q in %v", c.field, err)
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hush") {
				t.Errorf("want %q and no secret in %v", c.says, err)
			}
		})
	}
}

func TestAPageElsewhereGetsNoSecrets(t *testing.T) {
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.ContentLength > 0 || r.Header.Get("Authorization") != "" ||
			r.Header.Get("X-Key") != "" ||
			r.Header.Get("Referer") != "" {
			t.Errorf("another host was sent %s, %d bytes, %v", r.Method, r.ContentLength, r.Header)
		}
		write(w, `{"data":[{"id":"b"}]}`)
	})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		write(w, fmt.Sprintf(`{"data":[{"id":"a"}],"next":%q}`, other.URL))
	})
	got, err := newHTTP(t, retriever.HTTPConfig{
		URL:           strings.Replace(s.URL, "//", "//me:word@", 1) + "?token=hush",
		Method:        "POST",
		Body:          []byte("hush"),
		Header:        http.Header{"X-Key": {"secret"}},
		NextInBody:    true,
		NextElsewhere: true,
	}).Fetch(t.Context())
	if err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
}
