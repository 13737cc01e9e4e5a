package drm

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/lease"
)

// lender is an etcd that has leases only.
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

// A Stop that is in a hurry does not wait for the goroutine of the group, which may be getting a lease just then: that one is
// given back too.
func TestALeaseThatTheGroupGetsDuringAStopIsGivenBack(t *testing.T) {
	etcd := lender{make(chan clientv3.LeaseID, 1)}
	m := &Manager{mailbox: newMailbox(), loopDone: make(chan struct{}), groupDone: make(chan struct{})}
	m.cfg.LeaseTTL, m.cfg.Etcd.CommandTimeout = time.Minute, time.Minute
	m.group = newGroup(m)
	go func() {
		defer close(m.groupDone)
		<-m.mailbox.wake // it has begun to give back
		k, err := lease.Grant(context.Background(), etcd, lease.Options{TTL: time.Minute})
		if err != nil {
			t.Error(err)
			return
		}
		close(m.loopDone)
		m.group.keeper = k
	}()
	m.giveBack(false)
	<-m.groupDone
	select {
	case <-etcd.revoked:
	default:
		t.Error("the lease is not given back")
		m.group.keeper.Close()
	}
}
