package handler_test

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/handler"
)

// mortal is a receiver that can be killed, and started again on its port. It notes what its instances are asked.
type mortal struct {
	tb     testing.TB
	addr   string
	port   net.Listener
	server *http.Server
	ended  chan struct{}

	mu    sync.Mutex
	asked []asked
	// answer, unless it is nil, answers a request; it returns false to leave that to the receiver.
	answer func(w http.ResponseWriter, r *http.Request, q asked) bool
}

// asked is a request.
type asked struct {
	Instance string `json:"-"` // that was asked
	Action   string
	App      string
	Member   string
	Call     int64
	Resource struct{ ID string }
	Remote   string      `json:"-"`
	Header   http.Header `json:"-"`
	Body     string      `json:"-"`
}

// newMortal starts a receiver whose answers have the instance's name; the empty name stands for none.
func newMortal(t *testing.T, instance string) *mortal {
	t.Helper()
	m := &mortal{tb: t, addr: "127.0.0.1:0"}
	m.start(instance)
	t.Cleanup(m.kill)
	return m
}

func (m *mortal) start(instance string) {
	m.tb.Helper()
	var l net.Listener
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(patience); ; <-again.C { // another program may have the port
		var err error
		if l, err = net.Listen("tcp", m.addr); err == nil {
			break
		}
		if time.Now().After(deadline) {
			m.tb.Fatal(err)
		}
	}
	m.addr, m.port, m.ended = l.Addr().String(), l, make(chan struct{})
	m.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.serve(w, r, instance)
	})}
	go func(s *http.Server, ended chan struct{}) {
		defer close(ended)
		_ = s.Serve(l)
	}(m.server, m.ended)
}

// refuses waits until nobody listens any more, also not on a connection that was kept.
func (m *mortal) refuses(w *handler.Webhook, v *witness) {
	m.tb.Helper()
	for deadline := time.Now().Add(patience); ; {
		err := w.Handle(m.tb.Context(), v.claim("x"))
		if err != nil && strings.Contains(err.Error(), "connection refused") {
			return
		}
		if time.Now().After(deadline) {
			m.tb.Fatalf("a dead receiver: %v", err)
		}
	}
}

// kill closes the port and all connections at once.
func (m *mortal) kill() {
	_ = m.server.Close()
	<-m.ended
}

func (m *mortal) restart(instance string) {
	m.tb.Helper()
	m.kill()
	m.start(instance)
}

func (m *mortal) serve(w http.ResponseWriter, r *http.Request, instance string) {
	q := asked{Instance: instance, Remote: r.RemoteAddr, Header: r.Header}
	var body json.RawMessage
	_ = json.NewDecoder(r.Body).Decode(&body)
	_ = json.Unmarshal(body, &q)
	q.Body = string(body)
	m.mu.Lock()
	m.asked = append(m.asked, q)
	answer := m.answer
	m.mu.Unlock()
	if answer != nil && answer(w, r, q) {
		return
	}
	if instance != "" {
		w.Header().Set(handler.InstanceHeader, instance)
	}
	w.WriteHeader(http.StatusNoContent)
}

// answers replaces what answers the requests.
func (m *mortal) answers(answer func(w http.ResponseWriter, r *http.Request, q asked) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer = answer
}

// took returns what was asked since the last call of took.
func (m *mortal) took() []asked {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.asked
	m.asked = nil
	return got
}

// wantTook compares what was asked since the last time: "instance: action id", and "instance: instance" for a question.
func (m *mortal) wantTook(want ...string) {
	m.tb.Helper()
	var got []string
	for _, q := range m.took() {
		got = append(got, strings.TrimSpace(q.Instance+": "+q.Action+" "+q.Resource.ID))
	}
	if !slices.Equal(got, want) {
		m.tb.Errorf("asked %q, want %q", got, want)
	}
}

func (m *mortal) webhook(t *testing.T, cfg handler.WebhookConfig) *handler.Webhook {
	t.Helper()
	cfg.URL = "http://" + m.addr
	w := must[*handler.Webhook](t)(handler.NewWebhook(cfg))
	t.Cleanup(w.Close)
	return w
}

// witness is a drm.Validity that notes which instances have answered.
type witness struct {
	mu    sync.Mutex
	names []string
}

func (*witness) Remaining() time.Duration { return time.Minute }

func (v *witness) ServedBy(instance string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.names = append(v.names, instance)
}

// took returns the instances since the last call of took.
func (v *witness) took() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	got := v.names
	v.names = nil
	return got
}

func (v *witness) claim(id string) drm.Claim {
	return drm.NewClaim("app", "m1", drm.Resource{ID: id}, 7, v)
}

func wantInstance(t *testing.T, w *handler.Webhook, want string) {
	t.Helper()
	if got, err := w.Instance(t.Context()); got != want || err != nil {
		t.Errorf("instance %q, error %v, want %q", got, err, want)
	}
}

func wantNames(t *testing.T, v *witness, want ...string) {
	t.Helper()
	if got := v.took(); !slices.Equal(got, want) {
		t.Errorf("served by %q, want %q", got, want)
	}
}

// fine fails the test if a call has failed.
func fine(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// handled makes a receiver that was restarted handle something.
func handled(t *testing.T, w *handler.Webhook, c drm.Claim) {
	t.Helper()
	finally(t, func() error { return w.Handle(t.Context(), c) })
}

// finally makes a call of a receiver that was restarted. A connection that was kept from before may end the first try.
func finally(t *testing.T, call func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		err := call()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// stale waits until the last answer is no longer recent, so that a terminate asks first.
func stale() { <-time.After(20 * time.Millisecond) }

var errBoom = errors.New("boom")
