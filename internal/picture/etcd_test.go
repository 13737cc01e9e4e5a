package picture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
)

// serveEtcd makes this test's program an etcd, so that the heap of a test is that of the code under test.
const serveEtcd = "PICTURE_TEST_SERVES_ETCD"

func TestMain(m *testing.M) {
	if os.Getenv(serveEtcd) != "" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// serve serves an etcd until stdin ends, and prints its endpoint.
func serve() error {
	cfg := embeddedtest.Config()
	cfg.Quota = 8 << 30
	s, err := embedded.Start(context.Background(), cfg)
	if err != nil {
		return err
	}
	fmt.Println(s.Endpoint())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return s.Close()
}

// apart starts an etcd in a process of its own.
func apart(t *testing.T) *clientv3.Client {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), serveEtcd+"=1", "GORACE=atexit_sleep_ms=0") // it need not sleep at its exit
	cmd.Stderr = os.Stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("etcd: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the endpoint of etcd: %v", err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{strings.TrimSpace(line)}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// readerOf makes a reader of the tests' app.
func readerOf(client *clientv3.Client, shards int) *Reader {
	return &Reader{Client: client, Layout: layout, Shards: shards, Timeout: time.Minute}
}

// fewOps is how many operations a transaction may have where a test wants few.
const fewOps = 5

// put puts many keys, many at a time, or few at a time if the server takes no more.
func put(t *testing.T, client *clientv3.Client, ops ...clientv3.Op) {
	t.Helper()
	most := 100
	if len(ops) > fewOps {
		_, err := client.Txn(t.Context()).Then(ops[:fewOps+1]...).Commit()
		if errors.Is(err, rpctypes.ErrTooManyOps) {
			most = fewOps
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < len(ops); n += most {
		if _, err := client.Txn(t.Context()).Then(ops[n:min(n+most, len(ops))]...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}
