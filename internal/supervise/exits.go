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
	// exitLeast is how long etcd keeps how a member's process has ended, at least: longer than anybody suspects a
	// resource of a death.
	exitLeast = 25 * time.Hour
	// exitKept is how long it keeps that at most. An exit is written with a lease that was granted some time before.
	exitKept = 2 * exitLeast
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

	granting sync.Mutex       // held while a lease is requested
	kept     clientv3.LeaseID // the lease of the next exit; 0: there is none yet
	granted  time.Time

	mu    sync.Mutex
	known map[string]known
}

// known is what a key says, as far as known.
type known struct {
	deaths claims.Deaths
	mod    int64
}

// prepare gets the lease of the next exit, so that nothing has to be waited for when that comes.
func (x *Exits) prepare(ctx context.Context) (clientv3.LeaseID, error) {
	x.granting.Lock()
	defer x.granting.Unlock()
	if x.kept != 0 && time.Since(x.granted) < exitKept-exitLeast {
		return x.kept, nil
	}
	now := time.Now()
	resp, err := x.Lease.Grant(ctx, int64(exitKept/time.Second))
	if err != nil {
		return 0, fmt.Errorf("get a lease: %w", err)
	}
	x.kept, x.granted = resp.ID, now
	return x.kept, nil
}

// forget makes prepare get another lease.
func (x *Exits) forget(kept clientv3.LeaseID) {
	x.granting.Lock()
	defer x.granting.Unlock()
	if x.kept == kept {
		x.kept = 0
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
	kept, err := x.prepare(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var failed error
	var all sync.WaitGroup
	for key, exit := range exits {
		all.Go(func() {
			if err := x.add(ctx, key, *exit, kept); err != nil {
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

// add adds an exit to what a key says. Where nobody else has written the key meanwhile, that takes one request.
func (x *Exits) add(ctx context.Context, key string, exit claims.Exit, kept clientv3.LeaseID) error {
	x.mu.Lock()
	was := x.known[key]
	x.mu.Unlock()
	for range exitTries {
		next := was.deaths.With(exit)
		done, err := x.KV.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", was.mod)).
			Then(clientv3.OpPut(key, string(next.Encode()), clientv3.WithLease(kept))).
			Else(clientv3.OpGet(key)).
			Commit()
		if err != nil {
			x.forget(kept) // etcd may have lost it, such as with a restored snapshot
			return err
		}
		if done.Succeeded {
			x.mu.Lock()
			defer x.mu.Unlock()
			if x.known == nil {
				x.known = map[string]known{}
			}
			x.known[key] = known{next, done.Header.GetRevision()}
			return nil
		}
		was = known{}
		if kvs := done.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
			was.mod = kvs[0].ModRevision
			was.deaths, _ = claims.DecodeDeaths(kvs[0].Value) // what cannot be read is of no use to anybody
		}
	}
	return errBusy
}
