package member

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/clock"
	"github.com/distributed-resource-manager/drm/lease"
)

// lender is an etcd that knows nothing but leases.
type lender struct{ revoked chan clientv3.LeaseID }

func (lender) Grant(_ context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	return &clientv3.LeaseGrantResponse{ID: 1, TTL: ttl}, nil
}

func (lender) KeepAliveOnce(ctx context.Context, _ clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (l lender) Revoke(_ context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	l.revoked <- id
	return &clientv3.LeaseRevokeResponse{}, nil
}

// A Stop that is in a hurry does not wait for the goroutine of the place, which may be getting a lease just then. That
// lease is revoked too.
func TestALeaseThatThePlaceGetsDuringAStopIsGivenBack(t *testing.T) {
	etcd := lender{make(chan clientv3.LeaseID, 1)}
	loop := newLoop(clock.System())
	m := &Member{
		cfg:    Config{LeaseTTL: time.Minute, Request: time.Minute},
		loop:   loop,
		placed: make(chan struct{}),
		place:  &place{flapping: &flapping{looked: make(chan struct{})}}, // it has not looked
	}
	m.executor = &executor{
		leases: newLeases(t.Context(), t.Context(), &grants{timeout: time.Minute}, nil, loop.post, &m.tasks),
	}
	go func() {
		defer close(m.placed)
		<-loop.mailbox.wake // giveBack has begun
		k, err := lease.Grant(context.Background(), etcd, lease.Options{TTL: time.Minute})
		if err != nil {
			t.Error(err)
			return
		}
		close(loop.ended)
		m.place.keeper = k
	}()
	m.giveBack(false)
	<-m.placed
	select {
	case <-etcd.revoked:
	default:
		t.Error("the lease is not given back")
		m.place.keeper.Close()
	}
}
