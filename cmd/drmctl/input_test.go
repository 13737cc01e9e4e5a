package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/retriever"
)

// oddIDs are ids that something on the way may get wrong: etcd's keys, URLs, headers, environment variables, flags.
var oddIDs = []string{
	"a/b", "/", "..", ".", "../../etc/passwd", ".hidden", "ends.", "with space", " around ",
	"😀/日本語", "é", "e\u0301", "100%", "%2F", "%zz", "a=b&c=d", "a,b;c", `"quoted" and 'quoted'`, `back\slash`,
	"$HOME `id` $(id)", "<html>&amp;", "\u2028", "\ufeff", "-dash", "--", "@file", "null",
	strings.Repeat("x", 512), strings.Repeat("😀", 128), strings.Repeat("/", 512),
}

var refusedIDs = []string{
	"", "nul\x00", "line\nbreak", "bell\a", "del\x7f", "c1\u0085", "\xff", "cut\xe2\x82",
	strings.Repeat("x", 513), strings.Repeat("é", 257),
}

// hook is the receiver of a webhook that keeps what it was sent last for each resource.
type hook struct {
	mu   sync.Mutex
	sent map[string]json.RawMessage // for each resource id in a body: the resource's object
	bad  []string                   // requests that broke the protocol
}

func (h *hook) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	var msg struct {
		Action   string
		Token    int64
		Call     int64
		Resource json.RawMessage
	}
	var resource struct{ ID string }
	err := json.NewDecoder(req.Body).Decode(&msg)
	if err == nil {
		err = json.Unmarshal(msg.Resource, &resource)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	id, unescaped := url.PathUnescape(req.Header.Get("DRM-Resource"))
	if err != nil || unescaped != nil || id != resource.ID || req.Header.Get("DRM-Token") != fmt.Sprint(msg.Token) ||
		msg.Call < 1 || req.Header.Get("DRM-Call") != fmt.Sprint(msg.Call) {
		h.bad = append(h.bad, fmt.Sprintf("%q, header %q: %v, %v", resource.ID, req.Header, err, unescaped))
	}
	if msg.Action == "handle" {
		h.sent[resource.ID] = msg.Resource
	}
}

func (h *hook) got(id string) json.RawMessage {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sent[id]
}

// serveHook starts a receiver, and a source of whatever body is set.
func serveHook(t *testing.T) (h *hook, hookURL, sourceURL string, set func(body []byte)) {
	t.Helper()
	h = &hook{sent: map[string]json.RawMessage{}}
	var mu sync.Mutex
	answer := []byte(`{"data":[]}`)
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = w.Write(answer)
	}))
	receiver := httptest.NewServer(h)
	t.Cleanup(source.Close)
	t.Cleanup(receiver.Close)
	t.Cleanup(func() {
		if len(h.bad) > 0 {
			t.Errorf("webhooks that are not as they should be: %s", h.bad)
		}
	})
	return h, receiver.URL, source.URL, func(body []byte) {
		mu.Lock()
		defer mu.Unlock()
		answer = body
	}
}

func bodyOf(t *testing.T, objects ...map[string]string) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"data": objects})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOddIDsGoThroughSourceAllocationsCommandsAndWebhooks(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	hook, hookURL, sourceURL, set := serveHook(t)
	var objects []map[string]string
	for _, id := range oddIDs[:len(oddIDs)/2] {
		objects = append(objects, map[string]string{"id": id})
	}
	set(bodyOf(t, objects...))
	l.agent("m/1 😀", "--source-url", sourceURL, "--poll", "100ms", "--handler-url", hookURL)
	l.members(1)
	for _, id := range oddIDs[len(oddIDs)/2:] {
		a := get[assignmentJSON](l, "allocate", "--id="+id, "--wait")
		if a.Resource != id || a.Member != "m/1 😀" {
			t.Errorf("allocate %q: %+v", id, a)
		}
	}
	eventually(t, func() error {
		if s := get[statusJSON](l, "status"); s.Active != len(oddIDs) {
			return fmt.Errorf("status %+v, want %d active", s, len(oddIDs))
		}
		return nil
	})
	for _, id := range oddIDs {
		if a := get[assignmentJSON](l, "lookup", "--", id); a.State != "active" || a.Resource != id {
			t.Errorf("lookup %q: %+v", id, a)
		}
		if hook.got(id) == nil {
			t.Errorf("%q was not handled", id)
		}
	}
	var listed []string
	for _, r := range get[[]struct{ ID string }](l, "resources") {
		listed = append(listed, r.ID)
	}
	want := slices.Sorted(slices.Values(oddIDs))
	if !slices.Equal(listed, want) {
		t.Errorf("resources: %q, want %q", listed, want)
	}
	if lines := strings.Count(l.ok("assignments"), "\n"); lines != len(oddIDs)+1 {
		t.Errorf("the table has %d lines", lines)
	}
	l.ok("verify")
	for _, id := range oddIDs {
		l.ok("deallocate", "--wait", "--", id)
	}
	for _, id := range refusedIDs {
		l.fails(exitUsage, "allocate", "--id="+id)
		l.fails(exitUsage, "lookup", "--", id)
		l.fails(exitUsage, "deallocate", "--", id)
		// json.Marshal would replace what is not valid UTF-8.
		escaped := strings.NewReplacer("\x00", `\u0000`, "\n", `\n`, "\a", `\u0007`).Replace(id)
		set([]byte(`{"data":[{"id":"` + escaped + `"}]}`))
		src, err := retriever.NewHTTP(retriever.HTTPConfig{URL: sourceURL})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := src.Fetch(t.Context()); err == nil {
			t.Errorf("a source with the id %q: %v", id, got)
		}
	}
}

func TestOddIDsReachAProcessByItsEnvironment(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("--handler-exec is for Unix")
	}
	l, dir := newLab(t), t.TempDir()
	script := filepath.Join(dir, "run.sh")
	// The file is named after the token, since not every id can be a file name.
	text := `
printf %s "$DRM_RESOURCE_ID" > "$1/tmp.$DRM_TOKEN" && mv "$1/tmp.$DRM_TOKEN" "$1/id.$DRM_TOKEN"
exec sleep 1000`
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l.agent("m1", "--allocate-only", "--handler-exec", fmt.Sprintf("sh '%s' '%s'", script, dir))
	l.members(1)
	for _, id := range oddIDs {
		a := get[assignmentJSON](l, "allocate", "--id="+id, "--wait")
		eventually(t, func() error {
			got, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("id.%d", a.Token)))
			if err == nil && string(got) != id {
				t.Fatalf("%q was given as %q", id, got)
			}
			return err
		})
	}
}

func TestAResourceOfAMiBFitsAndOneOverEtcdsLimitIsReported(t *testing.T) {
	t.Parallel()
	l, dir := newLab(t), t.TempDir()
	hook, hookURL, sourceURL, set := serveHook(t)
	object := func(id string, size int) map[string]string {
		return map[string]string{"id": id, "pad": strings.Repeat("x", size-len(id)-len(`{"id":"","pad":""}`))}
	}
	set(bodyOf(t, object("source-mib", 1<<20), object("source-over", 1600<<10), object("source-far-over", 3<<20),
		map[string]string{"id": "small"}))
	file := func(id string, size int) string {
		b, err := json.Marshal(object(id, size))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, id)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return "@" + path
	}
	lines, _ := l.agent("m1", "--source-url", sourceURL, "--poll", "100ms", "--handler-url", hookURL)
	go func() {
		for range lines { // the agent's lines do not matter
		}
	}()
	l.members(1)
	l.ok("allocate", "--data", file("mib", 1<<20), "--wait")
	for id, size := range map[string]int{"over": 1600 << 10, "far-over": 3 << 20} {
		got := drmctl(t.Context(), append(l.args(), "allocate", "--data", file(id, size))...)
		if got.code != exitFailed || len(got.stderr) > 300 {
			t.Errorf("%s: exit code %d", id, got.code)
		}
		checkOneLine(t, got.stderr, id, fmt.Sprint(size), "1.5 MiB")
	}
	for _, id := range []string{"mib", "source-mib", "small"} {
		eventually(t, func() error {
			if hook.got(id) == nil {
				return fmt.Errorf("%s is not handled", id)
			}
			return nil
		})
	}
	for _, id := range []string{"mib", "source-mib"} {
		if got := hook.got(id); len(got) != 1<<20 || !bytes.HasSuffix(got, []byte(`x"}`)) {
			t.Errorf("%s: %d bytes were sent", id, len(got))
		}
	}
	eventually(t, func() error {
		if s := get[statusJSON](l, "status"); s.Resources != 3 || s.Active != 3 || s.Source.Error != "" {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	if out := l.ok("status"); !strings.Contains(out, "source too large") {
		t.Errorf("status does not say what etcd did not take:\n%s", out)
	}
	got := drmctl(t.Context(), append(l.args(), "verify", "-o", "json")...)
	var found []violationJSON
	if err := json.Unmarshal([]byte(got.stdout), &found); err != nil || got.code != exitFailed || len(found) != 2 ||
		found[0].Kind != "too-large" || found[0].Resource != "source-far-over" || found[1].Resource != "source-over" {
		t.Errorf("%+v, %v: %+v", found, err, got)
	}
}

func TestWhatOthersPutDoesNothingToTheOutput(t *testing.T) {
	t.Parallel()
	year := time.Date(0, 1, 1, 0, 0, 0, 0, time.FixedZone("", 24*3600-60))
	if got := utc(year); got != nil {
		t.Errorf("a time that RFC 3339 cannot have is %v", got)
	}
	if got := cell("a\x1b[31m\tb\r\nc"); strings.ContainsAny(got, "\x1b\r\n\t") {
		t.Errorf("a cell is %q", got)
	}
}
