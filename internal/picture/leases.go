package picture

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
)

// leaseAge is the TTL of a lease, and how long it still lives if nobody renews it. It is zero for a lease that has
// ended.
type leaseAge struct{ granted, left time.Duration }

// stale says whether nobody has renewed the lease for half of its TTL. Members renew theirs after a fifth.
func (a leaseAge) stale() bool { return a.left < a.granted/2 || a.granted == 0 }

// readAge reads the age of a lease, unless ages has it. Each lease costs a request. Lease 0 has no age.
func (r *Reader) readAge(ctx context.Context, lease int64, ages map[int64]leaseAge) error {
	if _, known := ages[lease]; known || lease == 0 {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	resp, err := r.Client.TimeToLive(asking, clientv3.LeaseID(lease))
	if err != nil {
		return fmt.Errorf("read the leases: %w", etcd.Unreachable(ctx, err))
	}
	ages[lease] = ageOf(resp)
	return nil
}

// ageOf returns what an answer says of a lease.
func ageOf(resp *clientv3.LeaseTimeToLiveResponse) leaseAge {
	if resp.TTL < 0 {
		return leaseAge{}
	}
	// etcd returns whole seconds, rounded down, so up to one more second may be left.
	return leaseAge{time.Duration(resp.GrantedTTL) * time.Second, time.Duration(resp.TTL+1) * time.Second}
}
