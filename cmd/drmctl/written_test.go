package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/distributed-resource-manager/drm/internal/keys"
)

// writes are the prefixes and keys that were written, or would have been where a comparison did not hold: etcd wants
// the permission for both.
type writes struct {
	mu   sync.Mutex
	keys []string
}

func (w *writes) add(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys = append(w.keys, key)
}

func (w *writes) of(ops []*pb.RequestOp) {
	for _, op := range ops {
		switch {
		case op.GetRequestPut() != nil:
			w.add(string(op.GetRequestPut().Key))
		case op.GetRequestDeleteRange() != nil:
			w.add(string(op.GetRequestDeleteRange().Key))
		case op.GetRequestTxn() != nil:
			w.of(op.GetRequestTxn().Success)
			w.of(op.GetRequestTxn().Failure)
		}
	}
}

// see takes down what a request writes.
func (w *writes) see(
	ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	switch req := req.(type) {
	case *pb.PutRequest:
		w.add(string(req.Key))
	case *pb.DeleteRangeRequest:
		w.add(string(req.Key))
	case *pb.TxnRequest:
		w.of(req.Success)
		w.of(req.Failure)
	}
	return handle(ctx, req)
}

// writesTo starts a proxy in front of an etcd that takes down what is written through it.
func writesTo(t *testing.T, endpoint string) (address string, w *writes) {
	t.Helper()
	log := zap.NewNop()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	w = &writes{}
	ctx, cancel := context.WithCancel(client.Ctx())
	kv, _ := grpcproxy.NewKvProxy(client)
	watch, watched := grpcproxy.NewWatchProxy(ctx, log, client)
	lease, leased := grpcproxy.NewLeaseProxy(ctx, client)
	server := grpc.NewServer(grpc.UnaryInterceptor(w.see))
	pb.RegisterKVServer(server, kv)
	pb.RegisterWatchServer(server, watch)
	pb.RegisterLeaseServer(server, lease)
	pb.RegisterMaintenanceServer(server, grpcproxy.NewMaintenanceProxy(client))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // ends with Stop
	}()
	t.Cleanup(func() {
		server.Stop()
		cancel()
		<-served
		_ = client.Close() // its error says only that it was closed
		<-watched
		<-leased
	})
	return l.Addr().String(), w
}

// What doctor --as operator asks permissions for is what the commands write, neither less nor more.
func TestOperatorsWriteWhatTheyAreSaidTo(t *testing.T) {
	t.Parallel()
	l, source := newLab(t), filepath.Join(t.TempDir(), "source.json")
	if err := os.WriteFile(source, []byte(`{"data":[{"id":"a"},{"id":"b"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	at, w := writesTo(t, l.global[1])
	operator := &lab{t, slices.Clone(l.global)}
	operator.global[1] = at

	operator.ok("allocate", "--id", "r", "--create")
	_, stop1 := l.agent("m1", "--source-file", source, "--poll", "0", "--handler-log", "--weight", "3")
	_, stop2 := l.agent("m2", "--source-file", source, "--poll", "0", "--handler-log")
	l.members(2)
	for _, args := range [][]string{
		{"allocate", "--id", "s", "--wait"},
		{"allocate", "--id", "b", "--wait"},
		{"cordon", "m1", "--for", "1h"},
		{"uncordon", "m1"},
		{"drain", "m1", "--wait"},
		{"undrain", "m1", "--wait"},
		{"weight", "m1", "2"},
		{"weight", "m1", "--reset"},
		{"pin", "s", "m2", "--yes"},
		{"unpin", "s"},
		{"pin", "s", "m1", "--yes"},
		{"unpin", "s"},
		{"move", "s", "m1", "--yes"},
		{"move", "s", "m2", "--yes"},
		{"rebalance"},
		{"retry", "s"},
		{"retry", "--all-quarantined"},
		{"retry", "--all-failed"},
		{"source", "accept"},
		{"fetch", "--wait"},
		{"suspend", "s", "--wait"},
		{"resume", "s", "--wait"},
		{"suspend", "a", "--wait"},
		{"resume", "a", "--wait"},
		{"deallocate", "a"},
		{"deallocate", "s", "--wait"},
	} {
		operator.ok(args...)
	}
	for _, stop := range []func() int{stop1, stop2} {
		if code := stop(); code != exitFine {
			t.Errorf("an agent: exit code %d", code)
		}
	}
	operator.ok("forget-source")

	layout := keys.New("/drm", "lab")
	needed := layout.WrittenByOperators()
	used := make(map[string]bool)
	for _, key := range w.keys {
		i := slices.IndexFunc(needed, func(n string) bool {
			return key == n || strings.HasSuffix(n, "/") && strings.HasPrefix(key, n)
		})
		if i < 0 {
			t.Errorf("an operator writes %q, which Layout.WrittenByOperators has not", key)
			continue
		}
		used[needed[i]] = true
	}
	for _, n := range needed {
		if !used[n] {
			t.Errorf("Layout.WrittenByOperators has %q, and no command writes it", n)
		}
	}
}
