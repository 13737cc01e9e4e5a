package etcd_test

import (
	"context"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/etcd"
)

// older answers as an etcd that has no streams of keys.
type older struct{ clientv3.KV }

func (older) GetStream(context.Context, string, ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	return nil, status.Error(codes.Unimplemented, "unknown method RangeStream")
}

func TestTheFirstKeyIsReadWithoutCountingTheOthers(t *testing.T) {
	var mu sync.Mutex
	calls := map[string]int{}
	server := embeddedtest.ServerOf(t, func(c *embedded.Config) {
		c.OnCall = func(method string) {
			mu.Lock()
			defer mu.Unlock()
			calls[method]++
		}
	})
	client := embeddedtest.Client(t, server.Endpoint())
	for _, key := range []string{"b/1", "b/2", "c/1"} {
		if _, err := client.Put(t.Context(), key, "x"); err != nil {
			t.Fatal(err)
		}
	}
	look := func(kv clientv3.KV, from, end, want string) {
		t.Helper()
		found, err := etcd.First(t.Context(), kv, time.Minute, from, end)
		if err != nil || string(found.GetKey()) != want || len(found.GetValue()) > 0 {
			t.Errorf("from %q to %q: got %v, %v, want %q", from, end, found, err, want)
		}
	}
	all := func(kv clientv3.KV) {
		t.Helper()
		look(kv, "a", "z", "b/1")
		look(kv, "b/2", "z", "b/2")
		look(kv, "b0", "z", "c/1")
		look(kv, "b0", "c", "")
		look(kv, "d", "z", "")
	}
	all(client)
	mu.Lock()
	if calls["/etcdserverpb.KV/Range"] > 0 || calls["/etcdserverpb.KV/RangeStream"] != 5 {
		t.Errorf("etcd was asked %v", calls)
	}
	mu.Unlock()
	all(older{client})

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if found, err := etcd.First(ended, client, time.Minute, "a", "z"); err == nil {
		t.Errorf("after the end of the context: %v", found)
	}
}
