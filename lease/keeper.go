package lease

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/clock"
)

// Lessor is the part of an etcd client that a Keeper needs. A *clientv3.Client is a Lessor, and a *Renewer on a client
// is a better one: the client opens a stream for each keepalive, and while it cannot reach etcd it retries at full
// speed until the context ends.
type Lessor interface {
	Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error)
	KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error)
	Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error)
}

// Keeper keeps one lease alive until the lease is fenced, closed or revoked. Its methods are safe for concurrent use.
type Keeper struct {
	etcd  Lessor
	clock Clock
	opts  Options
	ttl   time.Duration

	*life
	closed atomic.Bool
	// outlast is Options.Outlast until NoLonger takes it back.
	outlast atomic.Bool
	// behind says that a round could not renew the lease, and apart that no round ever will. Without Rounds they mean
	// nothing, nor does place: among the leases of the round, which the Rounds guard.
	behind, apart atomic.Bool
	place         int

	ctx    context.Context
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	cause error // why the lease is fenced; nil until it is
	lapse error // why a round could not renew the lease

	wake chan struct{} // makes the goroutine look at the clock again
	done chan struct{} // closed when the goroutine has ended

	revoking sync.Mutex
	revoked  bool
}

// life is what is known of how long a lease lives. Those of many leases lie next to each other in memory: hundreds of
// leases that are idle are out of the processor's cache whenever they are due, and to fetch several places in memory
// for each of them takes longer than all the rest.
type life struct {
	id     clientv3.LeaseID
	keeper *Keeper
	pulse  *Pulse // nil: it is not certain that the owner works
	// until is the deadline on the clock, or dead. The first one to see the clock at or past the deadline sets it to
	// dead for good, so that nobody is told that the lease is valid after somebody was told that it is not.
	until   atomic.Int64
	last    atomic.Int64 // the last deadline, even after until has become dead
	renewed atomic.Int64 // when the last answered keepalive was sent, or the request for the lease
	moving  sync.Mutex   // is held while the deadline is moved
	fenced  atomic.Bool
	alone   atomic.Bool // not a round renews the lease now, but the Keeper's goroutine
}

// dead is the value of life.until when nobody may rely on the lease any more.
const dead = math.MinInt64

// Grant asks etcd for a lease and starts to keep it alive. ctx bounds the request but not the lease; the request takes
// at most a TTL in any case. The error is etcd's, or names the option that is out of its range. It is ErrExpired if the
// answer took so long that the lease would have to be fenced at once. The caller ends the Keeper with Close or Revoke.
func Grant(ctx context.Context, etcd Lessor, opts Options) (*Keeper, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	if opts.Rounds != nil {
		opts.Clock = opts.Rounds.Clock
	}
	if opts.Clock == nil {
		opts.Clock = clock.System()
	}
	asking, stop := context.WithTimeout(ctx, opts.TTL)
	defer stop()
	sent := opts.Clock.Now()
	granted, err := etcd.Grant(asking, int64(opts.TTL/time.Second))
	if err != nil {
		return nil, fmt.Errorf("get a lease of %v: %w", opts.TTL, err)
	}
	ttl := time.Duration(granted.TTL) * time.Second
	k := &Keeper{
		life:  opts.Rounds.newLife(),
		etcd:  etcd,
		clock: opts.Clock,
		ttl:   ttl,
		wake:  make(chan struct{}, 1),
		done:  make(chan struct{}),
	}
	if k.opts, err = opts.withDefaults(ttl); err != nil {
		return nil, err
	}
	deadline := sent + ttl - k.opts.Margin
	if took := opts.Clock.Now() - sent; sent+took >= deadline-k.opts.FenceLead {
		return nil, fmt.Errorf("get a lease: the answer took %v of its TTL of %v: %w", took, ttl, ErrExpired)
	}
	k.id, k.keeper = granted.ID, k
	if k.pulse = k.opts.Pulse; k.opts.Probe == nil {
		k.pulse = new(Pulse) // nobody asks whether the owner works
	}
	k.until.Store(int64(deadline))
	k.last.Store(int64(deadline))
	k.renewed.Store(int64(sent))
	k.outlast.Store(k.opts.Outlast)
	k.ctx, k.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if k.opts.Rounds != nil {
		k.opts.Rounds.join(k)
	}
	go k.run(k.opts.tickAfter(sent))
	return k, nil
}

// ID is the lease's id in etcd.
func (k *Keeper) ID() clientv3.LeaseID { return k.id }

// TTL is the TTL that etcd granted, which may be longer than Options.TTL.
func (k *Keeper) TTL() time.Duration { return k.ttl }

// Deadline is when the lease stops being safe, as a time on Options.Clock, counted from the last answered keepalive. It
// does not tell whether that time has come, or whether the lease has ended earlier: Remaining does.
func (k *Keeper) Deadline() time.Duration { return time.Duration(k.last.Load()) }

// Remaining is how much longer the lease is certainly valid. Once it is zero or less it stays so, except with
// Options.Outlast. Each call reads the clock once.
func (k *Keeper) Remaining() time.Duration {
	for {
		until := k.until.Load()
		if until == dead {
			return 0
		}
		left := time.Duration(until) - k.clock.Now()
		if left > 0 || k.outlasts() {
			return left
		}
		if k.until.CompareAndSwap(until, dead) {
			k.poke()
			return left
		}
	}
}

// Context ends when nobody may rely on the lease any more. Its cause wraps ErrExpired, ErrGone or ErrClosed.
func (k *Keeper) Context() context.Context { return k.ctx }

// Fenced reports whether the lease is fenced: its owner must begin nothing new under it, and the Keeper no longer
// renews it.
func (k *Keeper) Fenced() bool { return k.fenced.Load() }

// Fence fences the lease now, for a reason that the Keeper cannot see by itself. The lease stays valid until its
// deadline, unless the cause is ErrGone (or etcd's own "requested lease not found"): then it is dead at once. The first
// cause counts, but ErrGone replaces any other one.
func (k *Keeper) Fence(cause error) {
	if errors.Is(cause, rpctypes.ErrLeaseNotFound) && !errors.Is(cause, ErrGone) {
		cause = fmt.Errorf("%w: %w", ErrGone, cause)
	}
	k.mu.Lock()
	gone := errors.Is(cause, ErrGone)
	if k.cause == nil || gone && !errors.Is(k.cause, ErrGone) {
		k.cause = cause
	}
	k.mu.Unlock()
	k.fenced.Store(true)
	if gone {
		k.until.Store(dead)
	}
	k.poke()
}

// Close stops renewing the lease and ends Context with ErrClosed; etcd lets the lease expire later. Close returns when
// the Keeper's goroutines have ended, which takes no longer than a call of Probe that is in progress. Calls after the
// first only wait.
func (k *Keeper) Close() {
	if k.closed.CompareAndSwap(false, true) {
		k.fenced.Store(true)
		k.until.Store(dead)
		k.cancel(ErrClosed)
		k.poke()
	}
	<-k.done
}

// Revoke closes the Keeper and makes etcd delete the lease with all its keys. It repeats a failed attempt until ctx
// ends or a TTL has passed (by then the lease has expired, if etcd works at all). It succeeds if etcd does not know the
// lease, or if an earlier call has succeeded.
func (k *Keeper) Revoke(ctx context.Context) error {
	k.Close()
	k.revoking.Lock()
	defer k.revoking.Unlock()
	if k.revoked {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, k.ttl)
	defer cancel()
	for {
		err := k.revoke(ctx)
		if err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound) {
			k.revoked = true
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("revoke lease %x: %w", int64(k.id), err)
		case <-time.After(k.opts.RetryInterval):
		}
	}
}

func (k *Keeper) revoke(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, k.opts.AttemptTimeout)
	defer cancel()
	_, err := k.etcd.Revoke(ctx, k.id)
	return err
}

// outlasts says whether the lease may pass its deadline. With Options.Outlast it may, unless it is fenced for another
// reason.
func (k *Keeper) outlasts() bool { return k.outlast.Load() && !k.fenced.Load() }

// NoLonger takes Options.Outlast back: from now on the lease is fenced in time like any other, and at once if its time
// has come. An owner calls it when it is about to end.
func (k *Keeper) NoLonger() {
	k.outlast.Store(false)
	k.poke()
}

func (k *Keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// extend moves the deadline: a keepalive that was sent at that time was answered with that TTL, of which the margin is
// not used. It does nothing if the lease is dead, or past its deadline by now.
func (l *life) extend(sent, ttl, margin time.Duration, clock Clock) {
	next := int64(sent + ttl - margin)
	l.moving.Lock() // a round and the Keeper may extend at once
	defer l.moving.Unlock()
	for {
		until := l.until.Load()
		if until == dead || next <= until {
			return
		}
		if clock.Now() >= time.Duration(until) && !l.keeper.outlasts() {
			l.until.CompareAndSwap(until, dead)
			return
		}
		if l.until.CompareAndSwap(until, next) {
			l.last.Store(next)
			l.renewed.Store(int64(sent))
			return
		}
	}
}
