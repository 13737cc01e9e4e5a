package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/examples/internal/lab"
	"github.com/distributed-resource-manager/drm/handler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is an etcd, and a client that looks at the app.
type world struct {
	t      *testing.T
	etcd   drm.EtcdConfig
	client *drm.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	etcd, stop, err := lab.Etcd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	client, err := drm.NewClient(t.Context(), drm.ClientConfig{App: "resource-manager-test", Etcd: etcd})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return &world{t, etcd, client}
}

func (w *world) until(what string, ok func(drm.Status) bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if err := lab.Until(ctx, w.client, what, ok); err != nil {
		w.t.Fatal(err)
	}
}

// sockets is a WebSocket server that counts its connections.
func sockets(t *testing.T) (url string, open *atomic.Int32) {
	open = &atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		open.Add(1)
		defer open.Add(-1)
		_, _, _ = conn.Read(r.Context()) // returns when the connection is closed
	}))
	t.Cleanup(s.Close)
	return "ws" + strings.TrimPrefix(s.URL, "http"), open
}

// resources is a source of resources with ids from 1 to n.
func resources(t *testing.T, n int, url string) string {
	var items []string
	for i := range n {
		items = append(items, fmt.Sprintf(`{"id":"%d","ws":%q}`, i+1, url))
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"data":[%s]}`, strings.Join(items, ",")) // the client may be gone
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestTheReadmesExampleMovedOver(t *testing.T) {
	w := newWorld(t)
	url, open := sockets(t)
	m, err := start(t.Context(), w.etcd.Endpoints, resources(t, 6, url), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	w.until("six are handled", lab.Spread(6, 1))
	if n := open.Load(); n != 6 {
		t.Errorf("%d connections, want 6", n)
	}
	if err := w.client.Allocate(t.Context(), drm.Resource{
		ID: "x", Data: []byte(`{"ws":"ws://127.0.0.1:1"}`),
	}); err != nil {
		t.Fatal(err)
	}
	w.until("the failure of one that cannot be had is told", func(s drm.Status) bool {
		return s.Failed == 1 && s.Active == 6
	})
	if err := lab.Stop(m); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); open.Load() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("stopped, and %d connections are open", open.Load())
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

func TestEveryOptionIsAccepted(t *testing.T) {
	w := newWorld(t)
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("it was asked by %s, with %v", r.Method, r.Header)
		}
		_, _ = fmt.Fprint(w, `{"data":[{"id":1}]}`)
	}))
	t.Cleanup(source.Close)
	cfg, err := everyOption(w.etcd, source.URL, handler.New(handler.Funcs{}), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	m, err := drm.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.until("it is handled", lab.Spread(1, 1))
	if err := operate(t.Context(), m, w.client); err != nil {
		t.Error(err)
	}
	if err := lab.Stop(m); err != nil {
		t.Error(err)
	}
}

func TestAPluginFetchesAndAllocates(t *testing.T) {
	w := newWorld(t)
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1) // each connection has a database of its own
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE resources (id, data); CREATE TABLE inbox (id, data);
		INSERT INTO resources VALUES ('a', '{}'), ('b', '{"n":1}')`); err != nil {
		t.Fatal(err)
	}
	m, err := drm.Start(t.Context(), drm.Config{
		App: "resource-manager-test", ID: "m", Etcd: w.etcd, Handler: handler.New(handler.Funcs{}),
		Retriever: &plugin{db: db, every: 20 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lab.Stop(m); err != nil {
			t.Error(err)
		}
	}()
	w.until("what it fetched is handled", lab.Spread(2, 1))
	if _, err := db.ExecContext(t.Context(), `INSERT INTO inbox VALUES ('c', '{"n":2}')`); err != nil {
		t.Fatal(err)
	}
	w.until("what it allocated is handled", lab.Spread(3, 1))
}
