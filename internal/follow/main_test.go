package follow_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
	"github.com/distributed-resource-manager/drm/internal/follow"
)

// Most tests share one etcd; each has a prefix of its own.
var (
	server   *embedded.Server
	client   *clientv3.Client
	prefixes atomic.Int64
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if server, err = embedded.Start(ctx, embeddedtest.Config()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if client, err = connect(server.Endpoint()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	_ = client.Close()
	if err := server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Connections between the members of a closed cluster end by their timeouts; see embeddedtest.VerifyTestMain.
	for deadline := time.Now().Add(10 * time.Second); code == 0; {
		if err = goleak.Find(); err == nil {
			break
		} else if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// connect makes a client that reconnects quickly.
func connect(endpoint string, opts ...grpc.DialOption) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, Logger: zap.NewNop(),
		DialOptions: append(opts, grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay:  10 * time.Millisecond,
				Multiplier: 1.5,
				MaxDelay:   100 * time.Millisecond,
			},
		})),
	})
}

func dial(t *testing.T, endpoint string, opts ...grpc.DialOption) *clientv3.Client {
	t.Helper()
	c, err := connect(endpoint, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newPrefix() string { return fmt.Sprintf("/test/%d/", prefixes.Add(1)) }

func newHub(t *testing.T, c *clientv3.Client, opts follow.Options) *follow.Hub {
	t.Helper()
	if opts.Probe == "" {
		opts.Probe = "/test/probe"
	}
	h := follow.NewHub(c, opts)
	t.Cleanup(h.Close)
	return h
}

// start follows until the test ends, or until stop is called.
func start(t *testing.T, h *follow.Hub, prefix string, sink follow.Sink) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Follow(ctx, prefix, sink)
	}()
	stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Error("Follow did not return within 30 s of its context's end")
		}
	}
	t.Cleanup(stop)
	return stop
}

func put(t *testing.T, key, value string) int64 {
	t.Helper()
	resp, err := client.Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// delayed makes a connection to etcd that can be slowed down.
func delayed(t *testing.T, target string) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.New(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}
