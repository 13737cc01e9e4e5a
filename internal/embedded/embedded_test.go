package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

const long = time.Minute

func start(t *testing.T, cfg embedded.Config) *embedded.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	s, err := embedded.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustPut(t *testing.T, c *clientv3.Client, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if _, err := c.Put(ctx, key, value); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

func mustGet(t *testing.T, c *clientv3.Client, key, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	resp, err := c.Get(ctx, key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != want {
		t.Fatalf("get %s: got %v, want %q", key, resp.Kvs, want)
	}
}

func TestServerIsReadyWhenStartReturnsAndGoneAfterClose(t *testing.T) {
	s := start(t, embeddedtest.Config())
	client := embeddedtest.Client(t, s.Endpoint())
	mustPut(t, client, "k", "v")
	mustGet(t, client, "k", "v")
	// An open watch does not keep Close waiting, even if the client does not end it.
	watch := client.Watch(t.Context(), "k", clientv3.WithCreatedNotify())
	<-watch
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("Close took %v with a watch open", took)
	}
	if _, err := os.Stat(s.DataDir()); !os.IsNotExist(err) {
		t.Errorf("the temporary data dir is still there: %v", err)
	}
	if _, open := <-s.Err(); open {
		t.Error("Err is open after Close")
	}
	if conn, err := net.Dial("tcp", s.Endpoint()); err == nil {
		_ = conn.Close()
		t.Error("still listening after Close")
	}
}

func TestServerKeepsItsDataDir(t *testing.T) {
	cfg := embeddedtest.Config()
	cfg.DataDir = t.TempDir()
	s := start(t, cfg)
	mustPut(t, embeddedtest.Client(t, s.Endpoint()), "k", "v")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, cfg)
	mustGet(t, embeddedtest.Client(t, s.Endpoint()), "k", "v")
}

func TestDataDirOfARunningEtcdIsRefused(t *testing.T) {
	cfg := embeddedtest.Config()
	cfg.DataDir = t.TempDir()
	start(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if _, err := embedded.Start(ctx, cfg); !errors.Is(err, embedded.ErrDataDirInUse) {
		t.Fatalf("got %v, want ErrDataDirInUse", err)
	}
}

func TestBadConfigsAreRefusedInOneLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		cfg  embedded.Config
		want string
	}{
		{embedded.Config{ListenClient: taken.Addr().String()}, "client address: listen tcp " + taken.Addr().String()},
		{embedded.Config{ListenPeer: "http://" + taken.Addr().String()}, "peer address: listen tcp"},
		{embedded.Config{ListenClient: "https://127.0.0.1:0"}, `client address: got "https://127.0.0.1:0"`},
		{embedded.Config{ListenClient: "nonsense"}, `client address: got "nonsense"`},
		{embedded.Config{ListenClient: "127.0.0.1:70000"}, `want a port from 0 to 65535`},
		{embedded.Config{AutoCompaction: "often"}, `auto-compaction: got "often"`},
		{embedded.Config{AutoCompaction: "5m", AutoCompactionMode: "never"}, `auto-compaction mode: got "never"`},
		{embedded.Config{Quota: -1}, "quota: got -1"},
		{embedded.Config{DataDir: file}, "data dir"},
		{embedded.Config{ElectionMs: 100, TickMs: 100}, "election-timeout"},
	} {
		t.Run(test.want, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), long)
			defer cancel()
			s, err := embedded.Start(ctx, test.cfg)
			if err == nil {
				_ = s.Close()
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line with %q", err, test.want)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	for _, test := range []struct{ listen, wantHost string }{
		{"", "127.0.0.1"}, {"localhost:0", "localhost"}, {":0", "127.0.0.1"}, {"http://0.0.0.0:0", "127.0.0.1"},
	} {
		cfg := embeddedtest.Config()
		cfg.ListenClient = test.listen
		s := start(t, cfg)
		host, _, err := net.SplitHostPort(s.Endpoint())
		if err != nil || host != test.wantHost {
			t.Errorf("%q: got endpoint %s (%v), want host %s", test.listen, s.Endpoint(), err, test.wantHost)
		}
		mustPut(t, embeddedtest.Client(t, s.Endpoint()), "k", "v")
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := embedded.Start(ctx, embeddedtest.Config()); err == nil {
		_ = s.Close()
		t.Skip("etcd was faster than a context that had ended")
	} else if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestAutoCompactionByRevisions(t *testing.T) {
	cfg := embeddedtest.Config()
	cfg.AutoCompaction = "1000"
	start(t, cfg)
	cfg.AutoCompaction = "5m"
	start(t, cfg)
}

func TestClusterSurvivesItsLeaderAndTakesItBack(t *testing.T) {
	cluster := embeddedtest.Cluster(t, 3)
	client := embeddedtest.Client(t, cluster.Endpoints()...)
	mustPut(t, client, "k", "1")
	for round, stop := range []func(int) error{cluster.Stop, cluster.Kill} {
		leader := waitLeader(t, cluster)
		if err := stop(leader); err != nil {
			t.Fatal(err)
		}
		if err := stop(leader); err != nil {
			t.Fatal(err)
		}
		if next := waitLeader(t, cluster); next == leader {
			t.Fatalf("member %d is stopped and leads", leader)
		}
		value := fmt.Sprint(round + 2)
		// A request that was in progress at the stopped member fails, and the client does not repeat writes.
		eventually(t, "put", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := client.Put(ctx, "k", value)
			return err
		})
		ctx, cancel := context.WithTimeout(t.Context(), long)
		if err := cluster.Restart(ctx, leader); err != nil {
			t.Fatal(err)
		}
		cancel()
		mustGet(t, embeddedtest.Client(t, cluster.Endpoints()[leader]), "k", value)
	}
	if err := cluster.Close(); err != nil {
		t.Fatal(err)
	}
}

func waitLeader(t *testing.T, c *embedded.Cluster) (leader int) {
	t.Helper()
	eventually(t, "leader", func() error {
		if leader = c.Leader(); leader < 0 {
			return errors.New("none")
		}
		return nil
	})
	return leader
}

func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.After(long)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

func ExampleStart() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := embedded.Start(ctx, embedded.Config{UnsafeNoFsync: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close() //nolint:errcheck // an example

	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close() //nolint:errcheck // an example
	resp, err := client.Put(ctx, "hello", "world")
	fmt.Println(resp.Header.Revision, err)
	// Output: 2 <nil>
}
