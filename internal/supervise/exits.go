package supervise

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/leaselink"
)

const (
	// exitKept is how long etcd keeps how a member's processes have ended: longer than anybody suspects a resource of a
	// death.
	exitKept = 25 * time.Hour
	// exitTries is how often an exit is written if somebody else writes the same key meanwhile.
	exitTries = 3
)

// Exits writes down in etcd how members have ended, so that the evidence against a resource that kills its members can
// tell it.
type Exits struct {
	KV    clientv3.KV
	Lease interface { // the part of clientv3.Lease that it needs
		Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error)
	}
}

// write writes down how a command ended, for each of its members that has named a key for that.
func (x *Exits) write(ctx context.Context, end End) error {
	exits := map[string]*claims.Exit{}
	for _, l := range end.Leases {
		if l.Deaths == "" {
			continue
		}
		if exits[l.Deaths] == nil {
			exits[l.Deaths] = &claims.Exit{At: end.At.UTC(), Exit: end.Exit}
		}
		exits[l.Deaths].Leases = append(exits[l.Deaths].Leases, leaselink.ID(l.ID))
	}
	if len(exits) == 0 {
		return nil
	}
	kept, err := x.Lease.Grant(ctx, int64(exitKept/time.Second))
	if err != nil {
		return fmt.Errorf("get a lease: %w", err)
	}
	var mu sync.Mutex
	var failed error
	var all sync.WaitGroup
	for key, exit := range exits {
		all.Go(func() {
			if err := x.add(ctx, key, *exit, kept.ID); err != nil {
				mu.Lock()
				failed = errors.Join(failed, fmt.Errorf("write %s: %w", key, err))
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return failed
}

// errBusy is the error of a key that others write again and again.
var errBusy = errors.New("somebody else writes it all the time")

// add adds an exit to what a key says.
func (x *Exits) add(ctx context.Context, key string, exit claims.Exit, kept clientv3.LeaseID) error {
	for range exitTries {
		resp, err := x.KV.Get(ctx, key)
		if err != nil {
			return err
		}
		var known claims.Deaths
		var mod int64
		if len(resp.Kvs) > 0 {
			mod = resp.Kvs[0].ModRevision
			known, _ = claims.DecodeDeaths(resp.Kvs[0].Value) // what cannot be read is of no use to anybody
		}
		done, err := x.KV.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", mod)).
			Then(clientv3.OpPut(key, string(known.With(exit).Encode()), clientv3.WithLease(kept))).
			Commit()
		if err != nil || done.Succeeded {
			return err
		}
	}
	return errBusy
}
