// Package embeddedtest starts real etcd servers for tests and benchmarks, and ends them with the test.
package embeddedtest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/embedded"
)

// startTimeout is generous, since the tests of many packages may share a small machine.
const startTimeout = time.Minute

// Config is the configuration of Server: the server is up within milliseconds, grants leases of 1 s and more, and does
// not fsync. If several tests share a server, start one with it in TestMain.
func Config() embedded.Config {
	return embedded.Config{UnsafeNoFsync: true, TickMs: 10, ElectionMs: 100}
}

// ClusterConfig is the configuration of Cluster. A busy machine keeps its election timeout of 500 ms; the cluster
// grants leases of 1 s and more.
func ClusterConfig() embedded.Config {
	return embedded.Config{UnsafeNoFsync: true, TickMs: 50, ElectionMs: 500}
}

// Server starts one etcd with Config.
func Server(tb testing.TB) *embedded.Server {
	tb.Helper()
	return ServerOf(tb, func(*embedded.Config) {})
}

// ServerOf starts one etcd with Config and some changes.
func ServerOf(tb testing.TB, change func(*embedded.Config)) *embedded.Server {
	tb.Helper()
	cfg := Config()
	change(&cfg)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s, err := embedded.Start(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close etcd: %v", err)
		}
	})
	return s
}

// Cluster starts n members with ClusterConfig.
func Cluster(tb testing.TB, n int) *embedded.Cluster {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c, err := embedded.StartCluster(ctx, n, ClusterConfig())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Errorf("close etcd cluster: %v", err)
		}
	})
	return c
}

// Client connects to the endpoints, or to a server that it starts if there are none. It logs nothing.
func Client(tb testing.TB, endpoints ...string) *clientv3.Client {
	tb.Helper()
	if len(endpoints) == 0 {
		endpoints = []string{Server(tb).Endpoint()}
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		tb.Fatalf("connect to etcd at %v: %v", endpoints, err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Errorf("close etcd client: %v", err)
		}
	})
	return c
}

// VerifyTestMain runs a package's tests and fails them if goroutines are left. TestMain calls it in place of goleak's
// function of that name. It waits for the goroutines that a closed Cluster leaves for up to 5 s: the connections
// between its members end only by their timeouts. A single server leaves none.
func VerifyTestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		var err error
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
			if err = goleak.Find(); err == nil { // this polls for a while itself
				break
			}
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "goleak: errors on successful test run: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

// LeakOptions are for goleak.VerifyNone in a single test that has closed a Cluster. They ignore the goroutines that
// VerifyTestMain waits for, and with them leaked connections of any other HTTP client.
func LeakOptions() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("go.etcd.io/etcd/client/pkg/v3/transport.timeoutConn.Read"),
		goleak.IgnoreAnyFunction("net/http.(*connReader).abortPendingRead"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	}
}

// Run is for a TestMain whose tests share one etcd: it starts the etcd, hands out a client, runs the tests, and ends
// both. It returns the exit code, which is also not 0 if anything failed to start or end, or if a goroutine is left.
func Run(m *testing.M, use func(*clientv3.Client)) int {
	code, err := run(m, use)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func run(m *testing.M, use func(*clientv3.Client)) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	server, err := embedded.Start(ctx, Config())
	if err != nil {
		return 1, err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		return 1, err
	}
	use(client)
	code := m.Run()
	_ = client.Close() // its error says only that the client was closed
	if err := server.Close(); err != nil {
		return 1, err
	}
	if code != 0 {
		return code, nil
	}
	return code, goleak.Find()
}

// Learner adds a learner to the cluster of a server, and starts it. It ends with the test.
func Learner(tb testing.TB, of *embedded.Server) *embedded.Server {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c := Client(tb, of.Endpoint())
	listed, err := c.MemberList(ctx)
	if err != nil {
		tb.Fatalf("list the members: %v", err)
	}
	peer := Address(tb)
	if _, err := c.MemberAddAsLearner(ctx, []string{"http://" + peer}); err != nil {
		tb.Fatalf("add a learner: %v", err)
	}
	return ServerOf(tb, func(cfg *embedded.Config) {
		cfg.Name, cfg.Joins, cfg.ListenPeer = "learner", true, peer
		cfg.InitialCluster = "learner=http://" + peer
		for _, m := range listed.Members {
			cfg.InitialCluster += "," + m.Name + "=" + m.PeerURLs[0]
		}
	})
}
