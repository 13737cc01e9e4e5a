package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/distributed-resource-manager/drm/internal/leaselink"
	"github.com/distributed-resource-manager/drm/internal/pace"
)

// Etcd is the part of an etcd client that a Revoker needs.
type Etcd interface {
	Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error)
	Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error)
	TimeToLive(ctx context.Context, id clientv3.LeaseID, opts ...clientv3.LeaseOption) (
		*clientv3.LeaseTimeToLiveResponse, error)
}

// RevokerConfig is what a Revoker needs to know.
type RevokerConfig struct {
	Etcd  Etcd
	Probe string // a key that etcd is asked for, to find out whether it answers; it need not exist
	Exits *Exits // writes down how commands have ended; nil: nobody does
	// Attempt bounds each request, and All one call of Revoke.
	Attempt, All time.Duration
	Log          *zap.Logger
}

// Revoker revokes leases. It connects to etcd before there is anything to revoke, so that a revocation goes out at
// once.
type Revoker struct {
	cfg     RevokerConfig
	cluster atomic.Uint64 // of etcd, as far as known; 0: not known yet
	end     context.CancelFunc
	ended   chan struct{}
}

// NewRevoker makes a Revoker, which connects in the background, for as long as it takes. The caller calls Close.
func NewRevoker(cfg RevokerConfig) *Revoker {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Revoker{cfg: cfg, end: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.connect(ctx)
	}()
	return r
}

// Close ends what the Revoker does in the background.
func (r *Revoker) Close() {
	r.end()
	<-r.ended
}

// connect asks etcd until it answers. It says once that etcd does not.
func (r *Revoker) connect(ctx context.Context) {
	told := false
	for pauses := pace.Retry(); ; {
		err := r.ask(ctx)
		switch {
		case err == nil:
			r.prepare(ctx)
			if told {
				r.cfg.Log.Info("etcd answers; from now on leases are revoked when the command dies")
			}
			return
		case ctx.Err() != nil:
			return
		case !told:
			told = true
			r.cfg.Log.Warn("cannot reach etcd; until it answers, leases expire as without a supervisor", zap.Error(err))
		}
		if !pauses.Wait(ctx) {
			return
		}
	}
}

// prepare makes ready what is needed to write down how a command ends. What fails is tried again then.
func (r *Revoker) prepare(ctx context.Context) {
	if r.cfg.Exits == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Attempt)
	defer cancel()
	if _, err := r.cfg.Exits.prepare(ctx); err != nil {
		r.cfg.Log.Debug("cannot prepare to write down how the command ends", zap.Error(err))
	}
}

// ask asks etcd once, and notes which cluster it is. An etcd that refuses the key has answered, but has not told that.
// It refuses nobody the question for a lease that there cannot be.
func (r *Revoker) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Attempt)
	defer cancel()
	resp, err := r.cfg.Etcd.Get(ctx, r.cfg.Probe, clientv3.WithKeysOnly())
	if err == nil {
		r.cluster.Store(resp.Header.GetClusterId())
		return nil
	}
	if !errors.Is(err, rpctypes.ErrPermissionDenied) {
		return fmt.Errorf("ask etcd for %s: %w", r.cfg.Probe, err)
	}
	lease, err := r.cfg.Etcd.TimeToLive(ctx, clientv3.NoLease)
	if err != nil {
		return fmt.Errorf("ask etcd which cluster it is: %w", err)
	}
	r.cluster.Store(lease.GetClusterId())
	return nil
}

// learn asks etcd which cluster it is where a lease is not of the one that is known: none may be known yet, and a
// restored snapshot makes another one. It tries again while none is known.
func (r *Revoker) learn(ctx context.Context, leases []leaselink.Lease) error {
	pauses := revocations()
	for {
		known := r.cluster.Load()
		if !slices.ContainsFunc(leases, func(l leaselink.Lease) bool { return l.Cluster != 0 && l.Cluster != known }) {
			return nil
		}
		err := r.ask(ctx)
		if err == nil || known != 0 {
			return nil
		}
		if ctx.Err() != nil || !pauses.Wait(ctx) {
			return err
		}
	}
}

// claimsWait is how long the leases of claims wait at most until those of the members' keys are revoked, so that the
// other members see at once who has died. More would only delay them.
const claimsWait = 2 * time.Millisecond

// mostAtOnce is how many leases are revoked at once.
const mostAtOnce = 64

// Revoke revokes the leases of a command that has ended, all at the same time, and writes down how it ended. It returns
// when that is done or has taken too long, and logs what came of it. Nobody may use the leases any more.
func (r *Revoker) Revoke(ctx context.Context, end End) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.cfg.All)
	defer cancel()
	var out outcome
	if err := r.learn(ctx, end.Leases); err != nil {
		out.failed, out.err = len(end.Leases), err
		out.log(r.cfg.Log, time.Since(began))
		return
	}
	var first, rest []leaselink.Lease
	for _, l := range end.Leases {
		switch known := r.cluster.Load(); {
		case known != 0 && l.Cluster != 0 && l.Cluster != known:
			r.cfg.Log.Warn("a lease is of another etcd cluster than the supervisor's; it expires by itself",
				zap.String("lease", leaselink.ID(l.ID)), zap.String("cluster", leaselink.ID(int64(l.Cluster))),
				zap.String("supervisor_cluster", leaselink.ID(int64(known))))
		case l.Of == leaselink.Member:
			first = append(first, l)
		default:
			rest = append(rest, l)
		}
	}
	written := r.record(ctx, End{Exit: end.Exit, At: end.At, Leases: append(first[:len(first):len(first)], rest...)})
	members := r.each(ctx, first, &out)
	if len(rest) > 0 {
		late := time.NewTimer(claimsWait)
		select {
		case <-members:
		case <-late.C:
		}
		late.Stop()
	}
	<-r.each(ctx, rest, &out)
	<-members
	<-written
	out.log(r.cfg.Log, time.Since(began))
}

// record begins to write down how a command ended, and closes the channel when that is over.
func (r *Revoker) record(ctx context.Context, end End) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		if r.cfg.Exits == nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, r.cfg.Attempt)
		defer cancel()
		if err := r.cfg.Exits.write(ctx, end); err != nil {
			r.cfg.Log.Warn("cannot write down how the command ended; if a resource is to blame, nobody can tell how",
				zap.String("exit", end.Exit), zap.Error(err))
		}
	}()
	return over
}

// each begins to revoke leases, and closes the channel when all that is over.
func (r *Revoker) each(ctx context.Context, leases []leaselink.Lease, out *outcome) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		var g errgroup.Group
		g.SetLimit(mostAtOnce)
		for _, l := range leases {
			g.Go(func() error {
				out.add(r.one(ctx, l))
				return nil
			})
		}
		_ = g.Wait() // no function returns an error
	}()
	return over
}

// revocations are the pauses between requests while others wait for a takeover.
func revocations() *pace.Pauses { return pace.New(20*time.Millisecond, time.Second, 0.5) }

// one revokes a lease, and tries again while etcd does not answer. gone says that etcd had no such lease.
func (r *Revoker) one(ctx context.Context, l leaselink.Lease) (gone bool, err error) {
	for pauses := revocations(); ; {
		asking, cancel := context.WithTimeout(ctx, r.cfg.Attempt)
		_, err := r.cfg.Etcd.Revoke(asking, clientv3.LeaseID(l.ID))
		cancel()
		switch {
		case err == nil:
			return false, nil
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			return true, nil
		case errors.Is(err, rpctypes.ErrPermissionDenied), ctx.Err() != nil, !pauses.Wait(ctx):
			return false, fmt.Errorf("revoke lease %s: %w", leaselink.ID(l.ID), err)
		}
	}
}

// outcome counts what came of revocations.
type outcome struct {
	mu                    sync.Mutex
	revoked, gone, failed int
	err                   error // the first one
}

func (o *outcome) add(gone bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err != nil:
		o.failed++
		if o.err == nil {
			o.err = err
		}
	case gone:
		o.gone++
	default:
		o.revoked++
	}
}

func (o *outcome) log(log *zap.Logger, took time.Duration) {
	if o.failed > 0 {
		log.Warn("cannot revoke leases; they expire by themselves", zap.Int("leases", o.failed), zap.Error(o.err))
	}
	if o.revoked+o.gone > 0 {
		log.Info("revoked the leases of the command", zap.Int("leases", o.revoked), zap.Int("already_gone", o.gone),
			zap.Duration("took", took))
	}
}
