package httpapi_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/httpapi"
)

// serveAt serves a member that is not started, with the server of the package.
func serveAt(t *testing.T, network, address string) net.Listener {
	t.Helper()
	h, err := httpapi.New(httpapi.Config{Health: new(drm.Health)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	server := httpapi.NewServer(h)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l
}

// conn is a connection of a client.
type conn struct {
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, l net.Listener) *conn {
	t.Helper()
	c, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &conn{c, bufio.NewReader(c)}
}

// asks sends a request, and returns the code of the answer.
func (c *conn) asks(path, host string, headers ...string) (int, error) {
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", path, host, strings.Join(headers, ""))
	if err != nil {
		return 0, err
	}
	got, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, got.Body)
	return got.StatusCode, err
}

// Others may keep as many connections as they like: a probe gets through.
func TestAnIdleConnectionGivesWayToANewOne(t *testing.T) {
	t.Parallel()
	l := serveAt(t, "tcp", "127.0.0.1:0")
	var idle []*conn
	for range 64 {
		c := dial(t, l)
		if code, err := c.asks("/healthz", "localhost"); err != nil || code != http.StatusOK {
			t.Fatal(code, err)
		}
		idle = append(idle, c)
	}
	// The server may note a moment after its answer that a connection is idle; until then it closes new ones.
	deadline := time.Now().Add(patience)
	for {
		code, err := dial(t, l).asks("/healthz", "localhost")
		if err == nil && code == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(code, err)
		}
	}
	var closed []int
	for i, c := range idle {
		if _, err := c.asks("/healthz", "localhost"); err != nil {
			closed = append(closed, i)
		}
	}
	// That of the first one, unless the server was slow to note that it is idle.
	if len(closed) != 1 || closed[0] > 31 {
		t.Errorf("the connections %v were closed, want one that was idle for long", closed)
	}
}

func TestAConnectionTooManyIsClosed(t *testing.T) {
	t.Parallel()
	l := serveAt(t, "tcp", "127.0.0.1:0")
	began := time.Now()
	var busy []*conn
	for range 64 { // each has begun a request
		c := dial(t, l)
		if _, err := c.Write([]byte("GET /healthz HTTP/1.1\r\n")); err != nil {
			t.Fatal(err)
		}
		busy = append(busy, c)
	}
	code, err := dial(t, l).asks("/healthz", "localhost")
	if err == nil && time.Since(began) < 4*time.Second { // after 5 s the first one makes room
		t.Errorf("one more: %d", code)
	}
	// A client that does not go on is cut off, and makes room.
	if _, err := busy[0].in.ReadByte(); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the first one: %v", err)
	}
	deadline := time.Now().Add(patience)
	for {
		code, err := dial(t, l).asks("/healthz", "localhost")
		if err == nil && code == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(code, err)
		}
	}
}

func TestLongHeadersAreRefused(t *testing.T) {
	t.Parallel()
	l := serveAt(t, "tcp", "127.0.0.1:0")
	code, err := dial(t, l).asks("/healthz", "localhost", "X: "+strings.Repeat("x", 30_000)+"\r\n")
	if err != nil || code != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(code, err)
	}
}

// No web page can reach a unix socket, and clients name whatever host they like.
func TestAUnixSocketTakesAnyHost(t *testing.T) {
	t.Parallel()
	l := serveAt(t, "unix", filepath.Join(t.TempDir(), "s"))
	if code, err := dial(t, l).asks("/v1/held", "agent"); err != nil || code != http.StatusServiceUnavailable {
		t.Error(code, err)
	}
	if code, err := dial(
		t,
		l,
	).asks("/v1/held", "agent", "Origin: null\r\n"); err != nil ||
		code != http.StatusForbidden {
		t.Error(code, err)
	}
}
