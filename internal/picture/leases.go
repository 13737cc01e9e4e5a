package picture

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/etcd"
)

// leaseAge is the TTL of a lease, and how long it still lives if nobody renews it. It is zero for a lease that has
// ended.
type leaseAge struct{ granted, left time.Duration }

// stale says whether nobody has renewed the lease for half of its TTL. Members renew theirs after a fifth.
func (a leaseAge) stale() bool { return a.left < a.granted/2 || a.granted == 0 }

// leaseAges reads the ages of all leases of members and claims. Each costs a request.
func (r *Reader) leaseAges(ctx context.Context, p *Picture) (map[int64]leaseAge, error) {
	ages := map[int64]leaseAge{}
	for _, m := range p.view.Members {
		ages[m.Lease] = leaseAge{}
	}
	for _, c := range p.claims {
		ages[c.lease] = leaseAge{}
	}
	delete(ages, 0)
	for id := range ages {
		asking, cancel := context.WithTimeout(ctx, r.Timeout)
		resp, err := r.Client.TimeToLive(asking, clientv3.LeaseID(id))
		cancel()
		if err != nil {
			return nil, etcd.Unreachable(ctx, err)
		}
		if resp.TTL >= 0 {
			// etcd returns whole seconds, rounded down, so up to one more second may be left.
			ages[id] = leaseAge{time.Duration(resp.GrantedTTL) * time.Second, time.Duration(resp.TTL+1) * time.Second}
		}
	}
	return ages, nil
}
