package etcd_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/faultproxy"
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

// A stream that breaks is not repeated by etcd's client, as a read is.
func TestAStreamGoesOnAfterALostConnection(t *testing.T) {
	server := embeddedtest.Server(t)
	proxy, err := faultproxy.New(server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	client, direct := embeddedtest.Client(t, proxy.Endpoint()), embeddedtest.Client(t, server.Endpoint())
	const many = 600
	value := strings.Repeat("x", 20<<10) // more than the buffers of connections hold
	var last int64
	for i := range many {
		resp, err := direct.Put(t.Context(), fmt.Sprintf("k/%04d", i), value)
		if err != nil {
			t.Fatal(err)
		}
		last = resp.Header.Revision
	}
	got, cuts := 0, 0
	for part, err := range etcd.Stream(t.Context(), client, time.Minute, "k/", "k0", clientv3.WithRev(last)) {
		if err != nil {
			t.Fatalf("after %d keys: %v", got, err)
		}
		for _, kv := range part {
			if want := fmt.Sprintf("k/%04d", got); string(kv.Key) != want {
				t.Fatalf("got %q, want %q", kv.Key, want)
			}
			got++
		}
		if cuts == 0 {
			cuts++
			proxy.Reset()
		}
	}
	if got != many || cuts == 0 {
		t.Errorf("got %d keys of %d, with %d cuts", got, many, cuts)
	}
}
