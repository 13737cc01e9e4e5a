package scenario_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/retriever"
	"github.com/distributed-resource-manager/drm/shard"
)

// The first secret is in every value of every resource of these tests, and in no id and no name of a field. The second
// is in the request to the source: it is blotted out wherever it appears, which must not hide the first.
const (
	secret      = "hunter2"
	credentials = "swordfish"
)

// written keeps what has been logged, as zap's encoder writes it.
type written struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.Write(p)
}

func (w *written) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

// logger logs everything to w.
func (w *written) logger() *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(w),
		zap.DebugLevel))
}

// clumsy is a handler that fails in every way that may give away a resource's data.
type clumsy struct{ drm.Handler }

func (clumsy) fail(c drm.Claim, when string) error {
	var object map[string]any
	if err := json.Unmarshal(c.Resource.Data, &object); err != nil {
		return err
	}
	if at, _ := object["at"].(string); at != when {
		return nil
	}
	switch object["how"] {
	case "panic with the claim":
		panic(c)
	case "panic with a pointer to it":
		panic(&c)
	case "panic with the resource":
		panic(c.Resource)
	case "panic with the data":
		panic(c.Resource.Data)
	case "panic with the object":
		panic(object)
	case "panic with an error":
		panic(fmt.Errorf("cannot do %v and %+v and %#v and %s and %x", c, c, c, c.Resource, c.Resource))
	case "a nil map":
		addTo(nil, fmt.Sprint(object["password"]))
	case "a wrong type":
		_ = object["password"].(int)
	}
	return fmt.Errorf("cannot do %v, %+v, %#v", c, c.Resource, []drm.Resource{c.Resource})
}

func addTo(m map[string]bool, key string) { m[key] = true }

func (h clumsy) Handle(_ context.Context, c drm.Claim) error    { return h.fail(c, "handle") }
func (h clumsy) Update(_ context.Context, c drm.Claim) error    { return h.fail(c, "update") }
func (h clumsy) Terminate(_ context.Context, c drm.Claim) error { return h.fail(c, "terminate") }
func (h clumsy) HandleFailed(_ context.Context, c drm.Claim, _ error) {
	panic(c)
}
func (h clumsy) TerminateFailed(_ context.Context, c drm.Claim, _ error) { panic(c.Resource) }

// secretBad are bad items, of each kind.
var secretBad = []string{
	`{"password":"hunter2"}`, `{"id":"","password":"hunter2"}`, `{"id":null,"password":"hunter2"}`,
	`{"id":7,"password":"hunter2"}`,
	`{"id":["hunter2"]}`, `{"id":{"password":"hunter2"}}`, `{"id":true,"password":"hunter2"}`,
	`{"id":"bad\u0000","password":"hunter2"}`,
	"{\"id\":\"bad-utf8\",\"password\":\"hunter2\xff\"}", `"hunter2"`, `["hunter2"]`,
	`[{"id":"x","password":"hunter2"}]`, `null`, `false`,
	`{"id":"twice","password":"hunter2"}`, `{"id":"twice","password":"hunter2 too"}`,
	`{"id":"` + strings.Repeat("x", 600) + `","password":"hunter2"}`,
}

// secretBodies are answers that are bad as a whole.
var secretBodies = []string{
	`"hunter2"`, `["hunter2"]`, `{"data":"hunter2"}`, `{"data":{"password":"hunter2"}}`, `hunter2`,
	`{"data":[{"password":"hunter2"`,
	`{"data":[{"password":"hunter2",}]}`, `{"data":[{"password":"hunter2"}] "hunter2"}`,
	`{"data":[{"password":"\hunter2"}]}`,
	`{"data":[],"next":["hunter2"]}`, `{"data":[],"next":{"token":"hunter2"}}`,
	`{"data":[],"next":"http://u:hunter2@127.0.0.1:1/?token=hunter2"}`,
	`{"data":[],"next":"hunter2:hunter2"}`,
}

func TestNoDataAndNoSecretPassFromWhereTheyAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	body := ""
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprint(rw, body)
	}))
	t.Cleanup(server.Close)
	answer := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		body = text
	}
	var good []string
	for _, at := range []string{"handle", "update", "terminate"} {
		for i, how := range []string{
			"an error", "panic with the claim", "panic with a pointer to it", "panic with the resource",
			"panic with the data",
			"panic with the object", "panic with an error", "a nil map", "a wrong type",
		} {
			good = append(good, fmt.Sprintf(`{"id":"%s-%d","at":%q,"how":%q,"password":"hunter2 VERSION"}`, at, i, at,
				how))
		}
	}
	list := func(version string, items ...string) string {
		return strings.ReplaceAll(`{"data":[`+strings.Join(items, ",")+`]}`, "VERSION", version)
	}
	src, err := retriever.NewHTTP(retriever.HTTPConfig{
		URL: strings.Replace(server.URL, "//", "//user:swordfish@", 1) + "/?token=swordfish", NextInBody: true,
		Attempts: 1,
		Header:   http.Header{"X-Key": {"swordfish"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	log := &written{}
	cfg := w.config("m", clumsy{})
	cfg.AllocateOnly, cfg.Retriever, cfg.PollInterval, cfg.Logger = false, src, 100*time.Millisecond, log.logger()
	cfg.FetchRetryBudget = time.Millisecond
	var told written
	cfg.OnSourceError = func(err error) {
		for _, text := range textsOf(err) {
			_, _ = told.Write([]byte(text + "\n"))
		}
	}
	answer(list("1", good...))
	m := w.start(cfg)
	seen := func() string {
		t.Helper()
		c := w.client()
		status, err1 := c.Status(t.Context())
		assignments, err2 := c.Assignments(t.Context(), drm.AssignmentFilter{})
		violations, err3 := c.Verify(t.Context())
		members, err4 := c.Members(t.Context())
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		resp, err := w.etcd.Get(t.Context(), "/drm/app/", clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		_, _ = fmt.Fprintf(&all, "%+v\n%+v\n%+v\n%+v\n", status, assignments, violations, members)
		for _, kv := range resp.Kvs {
			if !strings.Contains(string(kv.Key), "/resources/") {
				_, _ = fmt.Fprintf(&all, "%s: %s\n", kv.Key, kv.Value)
			}
		}
		return all.String() + log.text() + told.text()
	}
	look := func(when string, has ...string) string {
		t.Helper()
		all := waitUntil(t, when, seen, has...)
		for line := range strings.Lines(all) {
			if strings.Contains(line, secret) || strings.Contains(line, credentials) {
				t.Errorf("%s: %s", when, line)
			}
		}
		return all
	}
	var all strings.Builder
	all.WriteString(look("handled", `cannot do claim of resource`, `handle-1`))
	answer(list("2", append(good, secretBad...)...))
	all.WriteString(look("with bad items and changes", fmt.Sprintf("Bad:%d", len(secretBad)-1), "update-4",
		`an object of password`))
	answer(list("2", append(good[:1], secretBad...)...))
	all.WriteString(look("mostly bad", fmt.Sprintf("%d of its %d items are bad", len(secretBad)-1, len(secretBad)+1)))
	for i, text := range secretBodies {
		answer(text)
		before := strings.Count(told.text(), "\n")
		waitUntil(t, text, func() string { return fmt.Sprint(strings.Count(told.text(), "\n") > before+2) }, "true")
		all.WriteString(look(fmt.Sprint("body ", i)))
	}

	// Corrupt entries in the catalogue, and bad allocations.
	for i, value := range []string{
		`hunter2`, `"hunter2"`, `{"from_source":"hunter2"}`, `{"from_source":77042,"data":{}}`,
		`{"from_source":true,"data":"hunter2"}`,
		`{"from_source":true,"data":{"id":"other","password":"hunter2"}}`,
		`{"from_source":true,"data":{"id":["hunter2"]}}`, `{"from_source":true,"data":{"password":"hunter2",`,
	} {
		id := fmt.Sprint("corrupt-", i)
		if _, err := w.etcd.Put(t.Context(), keys.New(drm.DefaultPrefix, w.app).Resource(shard.Of(id, cfg.Shards), id),
			value); err != nil {
			t.Fatal(err)
		}
	}
	all.WriteString(look("corrupt entries", "a corrupt catalogue entry is ignored", "corrupt-7"))
	if strings.Contains(all.String(), "77042") {
		t.Error("a number of a corrupt entry is told")
	}
	for _, r := range []drm.Resource{
		{ID: "x", Data: json.RawMessage(`"hunter2"`)},
		{ID: "x", Data: json.RawMessage(`{"id":["hunter2"]}`)},
		{ID: "x", Data: json.RawMessage(`{"p":"hunter2"`)},
	} {
		err := m.Allocate(t.Context(), r)
		_, parsed := drm.ParseResource(r.Data)
		for _, text := range append(textsOf(err), textsOf(parsed)...) {
			if strings.Contains(text, secret) {
				t.Error(text)
			}
		}
	}
	answer(list("2"))
	all.WriteString(look("terminated", `"call":"terminate"`, "terminate-1"))
	for _, want := range []string{
		"a value of type map[string]interface {}", "a value of type json.RawMessage", "claim of resource",
	} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("nothing says %q", want)
		}
	}
}

// waitUntil calls look until its result has all the texts, and returns that result.
func waitUntil(t *testing.T, what string, look func() string, has ...string) string {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		all := look()
		missing := ""
		for _, text := range has {
			if !strings.Contains(all, text) {
				missing = text
			}
		}
		if missing == "" {
			return all
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: no %q in\n%s", what, missing, all)
		}
	}
}

// textsOf returns the texts of an error and of all errors inside it.
func textsOf(err error) []string {
	if err == nil {
		return nil
	}
	all := []string{fmt.Sprintf("%v %+v %#v", err, err, err)}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		all = append(all, textsOf(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, textsOf(inner)...)
		}
	}
	return all
}
