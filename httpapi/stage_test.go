package httpapi_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/httpapi"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// stage is a member, and a server that answers for it.
type stage struct {
	t      *testing.T
	health *drm.Health
	server *httptest.Server
	cfg    drm.Config
	calls  chan string // what the handler was told
}

// newStage makes a member that start starts.
func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, health: new(drm.Health), calls: make(chan string, 1000)}
	told := func(what string) func(context.Context, drm.Claim) error {
		return func(_ context.Context, c drm.Claim) error {
			s.calls <- what + " " + c.Resource.ID
			return nil
		}
	}
	s.cfg = drm.Config{
		App: "app", ID: "m", AllocateOnly: true, Health: s.health, Shards: 16, LeaseTTL: 10 * time.Second,
		Etcd:          drm.EtcdConfig{Endpoints: []string{embeddedtest.Server(t).Endpoint()}, CommandTimeout: patience},
		Handler:       handler.New(handler.Funcs{Handle: told("handle"), Terminate: told("terminate")}),
		HandleBackoff: 10 * time.Millisecond, JoinDelay: 10 * time.Millisecond,
	}
	s.serve(httpapi.Config{Health: s.health}, patience)
	return s
}

// serve begins to answer for the member, whose loop has a time to answer.
func (s *stage) serve(cfg httpapi.Config, loop time.Duration) {
	s.t.Helper()
	h, err := httpapi.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	h.GiveLoop(loop)
	s.server = httptest.NewServer(h)
	s.t.Cleanup(s.server.Close)
}

// start starts the member with these resources, and waits until they are handled.
func (s *stage) start(resources ...string) *drm.Manager {
	s.t.Helper()
	m, err := drm.Start(s.t.Context(), s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = m.Stop(context.Background()) })
	for _, text := range resources {
		r, err := drm.ParseResource([]byte(text))
		if err != nil {
			s.t.Fatal(err)
		}
		if err := m.Allocate(s.t.Context(), r); err != nil {
			s.t.Fatal(err)
		}
	}
	s.await("all is handled", func() bool { return len(m.Held()) == len(resources) })
	for range resources {
		s.told("handle")
	}
	return m
}

func (s *stage) await(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.After(patience); !ok(); {
		select {
		case <-deadline:
			s.t.Fatalf("not in time: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// told waits for a call of the handler.
func (s *stage) told(what string) {
	s.t.Helper()
	select {
	case got := <-s.calls:
		if !strings.HasPrefix(got, what) {
			s.t.Fatalf("the handler was told: %s, want %s", got, what)
		}
	case <-time.After(patience):
		s.t.Fatalf("the handler was not told to %s", what)
	}
}

// reply is an answer.
type reply struct {
	code   int
	header http.Header
	text   string
	// of JSON
	Error     string          `json:"error"`
	Field     string          `json:"field"`
	Value     string          `json:"value"`
	Want      string          `json:"want"`
	Status    string          `json:"status"`
	Reason    string          `json:"reason"`
	Since     *time.Time      `json:"since"`
	Until     *time.Time      `json:"until"`
	Member    string          `json:"member"`
	App       string          `json:"app"`
	Resources int             `json:"resources"`
	ID        string          `json:"id"`
	Token     int64           `json:"token"`
	Held      json.RawMessage `json:"held"`
}

// resource is one of GET /v1/held.
type resource struct {
	ID      string          `json:"id"`
	Shard   int             `json:"shard"`
	Token   int64           `json:"token"`
	State   string          `json:"state"`
	Since   time.Time       `json:"since"`
	ValidMS int64           `json:"valid_ms"`
	Error   string          `json:"error"`
	Data    json.RawMessage `json:"data"`
}

func (r reply) list(t *testing.T) []resource {
	t.Helper()
	var list []resource
	if err := json.Unmarshal(r.Held, &list); err != nil {
		t.Fatalf("%v: %s", err, r.text)
	}
	return list
}

// ask sends a request, which change may change before.
func (s *stage) ask(method, path, body string, change func(*http.Request)) reply {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	got, err := s.server.Client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	all := reply{code: got.StatusCode, header: got.Header, text: string(text)}
	if method != http.MethodHead {
		if err := json.Unmarshal(text, &all); err != nil {
			s.t.Errorf("%s %s: %v: %s", method, path, err, text)
		}
	}
	if got.Header.Get("Content-Type") != "application/json" {
		s.t.Errorf("%s %s: headers %v", method, path, got.Header)
	}
	return all
}

func (s *stage) get(path string) reply { s.t.Helper(); return s.ask(http.MethodGet, path, "", nil) }

func (s *stage) post(path, body string) reply {
	s.t.Helper()
	return s.ask(http.MethodPost, path, body, nil)
}

// fails fails the test unless a reply is an error with a code, whose text has these parts.
func (s *stage) fails(got reply, code int, parts ...string) {
	s.t.Helper()
	if got.code != code {
		s.t.Errorf("code %d, want %d: %s", got.code, code, got.text)
	}
	for _, part := range parts {
		if !strings.Contains(got.Error, part) {
			s.t.Errorf("the error is without %q: %s", part, got.text)
		}
	}
	if got.Error == "" {
		s.t.Errorf("no error: %s", got.text)
	}
}
