package bench

import (
	"cmp"
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm"
)

// manyBare is how long the baseline of many is watched.
const manyBare = time.Minute

// bareKeepalives measures what as many keepalives as the members of many send cost a process that does nothing else: it
// sends them over one stream of gRPC, all at once in each interval, and reads the answers. Nothing that keeps as many
// leases alive as often can be cheaper.
func (l *lab) bareKeepalives(ctx context.Context, f map[string]float64, leases int) error {
	ttl := cmp.Or(l.opts.LeaseTTL, drm.DefaultLeaseTTL)
	watched := max(ttl/2, time.Duration(float64(manyBare)*min(1, l.opts.Scale)))
	l.say("raw: %d leases are kept alive over one stream for %v, and nothing else happens", leases, watched)
	ids, err := l.grantMany(ctx, leases, ttl)
	if err != nil {
		return err
	}
	etcdBefore, used, began := l.etcdCPU(), cpuTime(), time.Now()
	if err := keepAlive(ctx, l.client, ids, ttl/5, began.Add(watched)); err != nil {
		return fmt.Errorf("keep %d leases alive: %w", len(ids), err)
	}
	l.noteCPU(f, "raw", cpuTime()-used, l.etcdCPU()-etcdBefore, time.Since(began))
	return nil
}

// keepAlive renews leases over one stream, once in each interval.
func keepAlive(
	ctx context.Context, client *clientv3.Client, ids []clientv3.LeaseID, interval time.Duration, until time.Time,
) error {
	open, end := context.WithCancel(ctx)
	defer end()
	stream, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(open)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for open.Err() == nil {
			if _, err := stream.Recv(); err != nil && open.Err() == nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		defer end()
		for time.Now().Before(until) {
			for _, id := range ids {
				if stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}) != nil {
					return nil // Recv says why
				}
			}
			if err := pause(ctx, interval); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

// grantMany takes leases, which end by themselves when nobody renews them any more.
func (l *lab) grantMany(ctx context.Context, n int, ttl time.Duration) ([]clientv3.LeaseID, error) {
	ids := make([]clientv3.LeaseID, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(rawBatch)
	for i := range ids {
		g.Go(func() error {
			resp, err := l.client.Grant(ctx, int64(max(ttl, time.Second)/time.Second))
			if err == nil {
				ids[i] = resp.ID
			}
			return err
		})
	}
	return ids, g.Wait()
}
