package lease_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/embedded"
	"github.com/distributed-resource-manager/drm/internal/embedded/embeddedtest"
	"github.com/distributed-resource-manager/drm/lease"
)

// grant gets a real lease, and puts a key under it.
func grant(t *testing.T, client *clientv3.Client, opts lease.Options, key string) *lease.Keeper {
	t.Helper()
	renewer := lease.NewRenewer(client)
	t.Cleanup(renewer.Close)
	k, err := lease.Grant(within(t), renewer, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	if _, err := client.Put(within(t), key, "", clientv3.WithLease(k.ID())); err != nil {
		t.Fatal(err)
	}
	return k
}

// deletion returns a channel that tells when the key is deleted.
func deletion(t *testing.T, client *clientv3.Client, key string) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	watch := client.Watch(ctx, key, clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	receive(t, "the watch", watch)
	deleted, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for resp := range watch {
			if len(resp.Events) > 0 {
				close(deleted)
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return deleted
}

// renewed waits until the lease's deadline has moved by that much, and fails if the lease is fenced before.
func renewed(t *testing.T, k *lease.Keeper, by time.Duration) {
	t.Helper()
	timeout := time.After(long)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for goal := k.Deadline() + by; k.Deadline() < goal; {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("in %v not renewed by %v", long, by)
		case <-k.Context().Done():
			t.Fatalf("the lease ended: %v", context.Cause(k.Context()))
		}
		if k.Fenced() {
			t.Fatal("fenced")
		}
	}
}

func TestKeeperFencesBeforeServerExpires(t *testing.T) {
	t.Parallel()
	server := embeddedtest.Server(t)
	proxy := newProxy(t, server.Endpoint())
	fenced, dead := make(chan error, 2), make(chan error, 2)
	deleted := deletion(t, embeddedtest.Client(t, server.Endpoint()), "key")
	k := grant(t, embeddedtest.Client(t, proxy.endpoint()), lease.Options{
		TTL:     4 * time.Second,
		OnFence: func(_ *lease.Keeper, err error) { fenced <- err },
		OnDead:  func(_ *lease.Keeper, err error) { dead <- err },
	}, "key")
	renewed(t, k, 2*k.TTL()/5) // two keepalives; then etcd falls silent
	proxy.pass(false, false)

	wantErr(t, "OnFence", receive(t, "the fence", fenced), lease.ErrFenced)
	wantErr(t, "OnDead", receive(t, "the deadline", dead), lease.ErrExpired)
	select {
	case <-deleted:
		t.Error("etcd expired the lease before the keeper's deadline")
	default:
	}
	receive(t, "the key's deletion", deleted)
	if k.Remaining() > 0 {
		t.Errorf("%v remain", k.Remaining())
	}
	if len(fenced)+len(dead) > 0 {
		t.Error("told more than once")
	}
}

func TestKeeperLivesThroughBrokenConnections(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t, embeddedtest.Server(t).Endpoint())
	client := embeddedtest.Client(t, proxy.endpoint())
	k := grant(t, client, lease.Options{TTL: 5 * time.Second}, "key")
	for range 5 {
		proxy.reset()
		renewed(t, k, k.TTL()/10) // by the next keepalive
	}
}

func TestKeeperGoesAroundAMemberThatSwallowsRequests(t *testing.T) {
	t.Parallel()
	cluster := embeddedtest.Cluster(t, 3)
	var proxies []*proxy
	var endpoints []string
	for _, endpoint := range cluster.Endpoints() {
		p := newProxy(t, endpoint)
		proxies = append(proxies, p)
		endpoints = append(endpoints, p.endpoint())
	}
	client := embeddedtest.Client(t, endpoints...)
	k := grant(t, client, lease.Options{TTL: 5 * time.Second}, "key")
	proxies[1].pass(false, false)
	renewed(t, k, 4*k.TTL()/5)
}

// This test uses a TTL of 5 s, the default, and etcd's default timing.
func TestElectionFencesNobody(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	cluster, err := embedded.StartCluster(ctx, 3, embedded.Config{UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	client := embeddedtest.Client(t, cluster.Endpoints()...)
	k := grant(t, client, lease.Options{TTL: 5 * time.Second}, "key")
	if err := cluster.Kill(cluster.Leader()); err != nil {
		t.Fatal(err)
	}
	// More than the keepalives that were in progress when the leader died would give.
	renewed(t, k, 3*k.TTL()/5)
}

func TestRevokeDeletesTheKeysAtOnce(t *testing.T) {
	t.Parallel()
	client := embeddedtest.Client(t)
	k := grant(t, client, lease.Options{TTL: time.Minute}, "key")
	for range 3 {
		if err := k.Revoke(within(t)); err != nil {
			t.Fatal(err)
		}
		if resp, err := client.Get(within(t), "key"); err != nil || len(resp.Kvs) != 0 {
			t.Fatalf("got %v, %v, want no key", resp, err)
		}
	}
	if k.TTL() != time.Minute {
		t.Errorf("TTL is %v", k.TTL())
	}
}

func TestKeeperNoticesThatItsLeaseWasRevoked(t *testing.T) {
	t.Parallel()
	client := embeddedtest.Client(t)
	k := grant(t, client, lease.Options{TTL: 2 * time.Second}, "key")
	if _, err := client.Revoke(within(t), k.ID()); err != nil {
		t.Fatal(err)
	}
	receive(t, "the context's end", k.Context().Done())
	wantErr(t, "context", context.Cause(k.Context()), lease.ErrGone)
	if err := k.Revoke(within(t)); err != nil {
		t.Errorf("revoke of a lease that is gone: %v", err)
	}
}

func TestGrantUsesMoreThanAskedIfEtcdInsists(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	server, err := embedded.Start(ctx, embedded.Config{UnsafeNoFsync: true}) // an election timeout of 1 s: at least 2 s
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	k := grant(t, embeddedtest.Client(t, server.Endpoint()), lease.Options{TTL: time.Second}, "key")
	if k.TTL() != 2*time.Second || k.Remaining() > 1800*time.Millisecond {
		t.Errorf("TTL %v, %v remain", k.TTL(), k.Remaining())
	}
}
