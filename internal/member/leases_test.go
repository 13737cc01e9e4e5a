package member

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/lease"
)

func TestThePauseAfterAFenceGrows(t *testing.T) {
	const ttl = 5 * time.Second
	var c comeback
	now := time.Hour
	for i, seconds := range []time.Duration{0, 1, 2, 4, 8, 16, 32, 60, 60} {
		most := seconds * time.Second
		c.fenced(now, ttl)
		c.fenced(now+time.Second, ttl) // another of its leases
		left, times := c.left(now)
		if left > most || left < most*3/4 || times != i+1 {
			t.Errorf("fence %d, counted as %d: a pause of %v, want %v less a quarter at most", i+1, times, left, most)
		}
		now += max(left, 0) + ttl
	}
	now += (calmAfter + 1) * ttl
	c.fenced(now, ttl)
	if left, times := c.left(now); left > 0 || times != 1 {
		t.Errorf("after leases that lived for long: counted as %d, a pause of %v", times, left)
	}
}

// slowRevokes is a Lessor whose revocations wait until the test lets them go on.
type slowRevokes struct {
	ids        atomic.Int64
	under, top atomic.Int64  // revocations in progress: now, and the most so far
	began      chan struct{} // gets a token when a revocation begins
	let        chan struct{} // a token lets one revocation go on
}

func (s *slowRevokes) Grant(_ context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	return &clientv3.LeaseGrantResponse{ID: clientv3.LeaseID(s.ids.Add(1)), TTL: ttl}, nil
}

func (s *slowRevokes) KeepAliveOnce(_ context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	return &clientv3.LeaseKeepAliveResponse{ID: id, TTL: 60}, nil
}

func (s *slowRevokes) Revoke(context.Context, clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	n := s.under.Add(1)
	for top := s.top.Load(); n > top && !s.top.CompareAndSwap(top, n); top = s.top.Load() {
	}
	s.began <- struct{}{}
	<-s.let
	s.under.Add(-1)
	return &clientv3.LeaseRevokeResponse{}, nil
}

// A lease may have thousands of keys, and etcd answers nobody while it deletes them. So the next revocation waits until
// the last one is done. What is on each lease ends at once, though, and does not wait for that.
func TestLeasesAreRevokedOneAtATime(t *testing.T) {
	const leases = 5
	etcd := &slowRevokes{began: make(chan struct{}, leases), let: make(chan struct{})}
	pool := newLeases(t.Context(), t.Context(), &grants{timeout: time.Minute}, nil, nil, nil)
	var all []*claimLease
	var ends []<-chan struct{}
	for range leases {
		ctx, cancel := context.WithCancelCause(t.Context())
		k, err := lease.Grant(t.Context(), etcd, lease.Options{TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(k.Close)
		all = append(all, &claimLease{Lease: calls.NewLease(ctx, cancel, k)})
		ends = append(ends, ctx.Done())
	}
	var wg sync.WaitGroup
	for _, l := range all {
		wg.Go(func() { pool.letGo(t.Context(), l) })
	}
	for _, ended := range ends {
		<-ended
	}
	for range leases {
		<-etcd.began
		etcd.let <- struct{}{}
	}
	wg.Wait()
	if top := etcd.top.Load(); top != 1 {
		t.Errorf("%d leases were revoked at once", top)
	}
}
