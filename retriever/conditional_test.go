package retriever_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/retriever"
)

// TestTwoChangesWithinASecondAreBothSeen has a source whose dates have whole seconds, as http.ServeContent makes them.
// Both changes are in one second.
func TestTwoChangesWithinASecondAreBothSeen(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now, modified, body := start, start, answer("first")
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", now.Format(http.TimeFormat))
		http.ServeContent(w, r, "list.json", modified, strings.NewReader(body))
	})
	h := newHTTP(t, retriever.HTTPConfig{URL: s.URL})
	fetched := func(id string) {
		t.Helper()
		if got, err := h.Fetch(t.Context()); err != nil || len(got) != 1 || got[0].ID != id {
			t.Fatalf("want %s, got %v, %v", id, got, err)
		}
	}
	fetched("first")
	now, body = start.Add(900*time.Millisecond), answer("second") // modified stays in the same second
	fetched("second")
	now = start.Add(time.Second)
	fetched("second")
	now = start.Add(2 * time.Second)
	fetched("second") // as of this answer, a new body must have a later date
	if _, err := h.Fetch(t.Context()); !errors.Is(err, drm.ErrNotModified) {
		t.Errorf("an old date: %v, want %v", err, drm.ErrNotModified)
	}
	now = start.Add(time.Minute)
	modified, body = now, answer("third")
	fetched("third")
	modified, body = start.Add(-time.Hour), answer("put back") // with the older date of that file
	fetched("put back")
	if _, err := h.Fetch(t.Context()); !errors.Is(err, drm.ErrNotModified) {
		t.Errorf("what was put back: %v, want %v", err, drm.ErrNotModified)
	}
	modified, body = start.Add(-2*time.Hour), answer("put back again") // older than the date in If-Modified-Since
	fetched("put back again")
}

func TestOnlyWhatIdentifiesAnAnswerMakesARequestConditional(t *testing.T) {
	const (
		changed = "Fri, 02 Jan 2026 03:04:05 GMT"
		next    = "Fri, 02 Jan 2026 03:04:06 GMT"
		later   = "Fri, 02 Jan 2026 03:04:07 GMT"
	)
	second := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Unix()
	nginx := fmt.Sprintf(`"%x-1f"`, second)
	for name, c := range map[string]struct{ tag, modified, date, wantTag, wantDate string }{
		"an old date":                       {"", changed, later, "", changed},
		"a date of a second ago":            {"", changed, next, "", ""},
		"a date of now":                     {"", changed, changed, "", ""},
		"a date in the future":              {"", later, changed, "", ""},
		"no Date":                           {"", changed, "", "", ""},
		"a Date that is none":               {"", changed, "now", "", ""},
		"a Last-Modified that is none":      {"", "yesterday", later, "", ""},
		"a tag":                             {`"v1"`, "", later, `"v1"`, ""},
		"a weak tag":                        {`W/"v1"`, "", "", `W/"v1"`, ""},
		"a tag and an old date":             {`"v1"`, changed, later, `"v1"`, ""},
		"a tag and a date of now":           {`"v1"`, changed, changed, `"v1"`, ""},
		"an empty tag":                      {`""`, "", later, "", ""},
		"an empty tag and an old date":      {`W/""`, changed, later, "", changed},
		"a tag without quotes":              {`v1`, "", later, "", ""},
		"a tag that means any":              {`*`, "", later, "", ""},
		"a tag of several":                  {`"v1", "v2"`, "", later, "", ""},
		"a tag with a control character":    {"\"v\t1\"", "", later, "", ""},
		"half a tag":                        {`"v1`, changed, later, "", changed},
		"a tag made of an old date":         {nginx, changed, later, nginx, ""},
		"a tag made of a date of now":       {nginx, changed, changed, "", ""},
		"a weak tag made of a date of now":  {"W/" + nginx, changed, next, "", ""},
		"another tag made of a date of now": {fmt.Sprintf(`"wzsdm-%d-31"`, second), changed, changed, "", ""},
	} {
		var asked http.Header
		h := newHTTP(t, retriever.HTTPConfig{URL: "http://source.example", Client: &http.Client{
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				asked = r.Header
				w := httptest.NewRecorder()
				for name, value := range map[string]string{"ETag": c.tag, "Last-Modified": c.modified, "Date": c.date} {
					if value != "" {
						w.Header().Set(name, value)
					}
				}
				write(w, one)
				resp := w.Result()
				resp.Request = r
				return resp, nil
			}),
		}})
		for range 2 {
			if _, err := h.Fetch(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if tag, date := asked.Get("If-None-Match"), asked.Get("If-Modified-Since"); tag != c.wantTag ||
			date != c.wantDate {
			t.Errorf("%s: asked with the tag %q and the date %q, want %q and %q",
				name, tag, date, c.wantTag, c.wantDate)
		}
	}
}

// TestA304OfSomethingElseIsNotBelieved: the source that sends the 304 has another list than the one that was fetched.
func TestA304OfSomethingElseIsNotBelieved(t *testing.T) {
	const (
		older = "Fri, 02 Jan 2026 03:04:05 GMT"
		old   = "Fri, 02 Jan 2026 03:05:05 GMT"
		date  = "Fri, 02 Jan 2026 04:00:00 GMT"
	)
	for name, c := range map[string]struct {
		tag, modified       string // in the first answer
		newTag, newModified string // in the 304
		to                  string // where a redirect leads the second request
		believed            bool
	}{
		"the same tag":              {tag: `"v1"`, newTag: `"v1"`, believed: true},
		"no tag":                    {tag: `"v1"`, believed: true},
		"the same tag, weak":        {tag: `"v1"`, newTag: `W/"v1"`, believed: true},
		"another tag":               {tag: `"v1"`, newTag: `"v2"`},
		"the same date":             {modified: old, newModified: old, believed: true},
		"no date":                   {modified: old, believed: true},
		"an older date":             {modified: old, newModified: older},
		"a redirect elsewhere":      {tag: `"v1"`, newTag: `"v1"`, to: "/b"},
		"a redirect and no new tag": {modified: old, to: "/b?x"},
	} {
		to := "/a"
		var paths []string
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				http.Redirect(w, r, to, http.StatusFound)
				return
			}
			paths = append(paths, r.URL.Path)
			w.Header()["Date"] = []string{date}
			tag, modified, body := c.tag, c.modified, answer("first")
			if len(paths) > 1 {
				tag, modified, body = c.newTag, c.newModified, answer("second")
			}
			for name, value := range map[string]string{"ETag": tag, "Last-Modified": modified} {
				if value != "" {
					w.Header().Set(name, value)
				}
			}
			if r.Header.Get("If-None-Match")+r.Header.Get("If-Modified-Since") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			_, _ = bytes.NewBufferString(body).WriteTo(w) // the client may be gone
		})
		h := newHTTP(t, retriever.HTTPConfig{URL: s.URL})
		if got, err := h.Fetch(t.Context()); err != nil || got[0].ID != "first" {
			t.Fatalf("%s: %v, %v", name, got, err)
		}
		if c.to != "" {
			to = c.to
		}
		got, err := h.Fetch(t.Context())
		if c.believed && !errors.Is(err, drm.ErrNotModified) || !c.believed && (err != nil || got[0].ID != "second") {
			t.Errorf("%s: %v, %v, having asked for %v", name, got, err, paths)
		}
		if c.believed != slices.Equal(paths, []string{"/a", "/a"}) {
			t.Errorf("%s: asked for %v", name, paths)
		}
	}
}
