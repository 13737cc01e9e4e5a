package member

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/ready"
	"github.com/distributed-resource-manager/drm/lease"
)

// flapping keeps a member away for a while that has died again and again soon after its start, so that it does not drag
// its share to and fro.
//
// A key in etcd counts the lives. It is on a lease that nobody renews, and that a member which stops in order revokes.
// So what the next start finds there are the lives that ended without a stop, each less than ready.Quiet after its
// share had been due. The key costs a start three requests, and a member that never comes back leaves nothing behind.
// If etcd does not answer in time, the member does not wait: nothing here may prevent a start.
type flapping struct {
	kv      clientv3.KV
	lessor  lease.Lessor
	key     string
	timeout time.Duration // of all requests together
	first   time.Duration // ready.FirstWait
	now     func() time.Duration
	wall    func() time.Time
	log     *zap.Logger

	began  time.Duration // when the member started
	looked chan struct{} // closed when look has ended; it owns what follows before that

	lease  clientv3.LeaseID // of the key; 0: there is none
	wait   time.Duration    // for how long this member stays away from its start on
	reason string           // why it stays away; "" when the wait is over, too. Start and then run's goroutine own it
	back   *time.Timer      // fires when the wait is over
}

// longestLook is how long a start waits for etcd's answers about earlier lives.
const longestLook = 2 * time.Second

func (b *builder) newFlapping() *flapping {
	f := &flapping{
		kv: b.hub.KV(), lessor: b.hub.Leases(), key: b.cfg.Layout.Lives(b.place.id),
		timeout: min(b.cfg.Request, longestLook), first: b.o.FlapWait,
		now: b.loop.clock.Now, wall: b.o.Wall, log: b.log, looked: make(chan struct{}), back: pace.Stopped(),
	}
	f.began = f.now()
	return f
}

// look reads how many short lives there were, and counts this one.
func (f *flapping) look(ctx context.Context) {
	defer close(f.looked)
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	resp, err := f.kv.Get(ctx, f.key)
	if err != nil {
		f.log.Debug("cannot read how this member has ended before", zap.Error(err))
		return
	}
	var lives claims.Lives
	for _, kv := range resp.Kvs {
		lives, _ = claims.DecodeLives(kv.Value) // what cannot be read is written anew
	}
	now := f.wall().UTC().Truncate(time.Millisecond)
	if lives.Starts == 0 {
		lives.Since = now
	}
	f.wait = ready.WaitAfter(lives.Starts, f.first)
	if f.wait > 0 {
		f.reason = fmt.Sprintf("%d short lives in %v; takes its share again at %s", lives.Starts,
			max(now.Sub(lives.Since), 0).Round(time.Second), now.Add(f.wait).Format("15:04:05 UTC"))
	}
	lives.Starts++
	granted, err := f.lessor.Grant(ctx, int64((f.wait+ready.Quiet)/time.Second))
	if err == nil {
		f.lease = granted.ID
		_, err = f.kv.Put(ctx, f.key, lives.Encode(), clientv3.WithLease(f.lease))
	}
	if err != nil {
		f.log.Debug("cannot write that this member has started", zap.Error(err))
	}
}

// await waits until look has ended, which takes f.timeout at most, or ctx ends, or the member has ended.
func (f *flapping) await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-f.looked:
		f.back.Reset(f.left())
		return nil
	case <-done:
		return nil // the next step of the start fails
	case <-ctx.Done():
		return fmt.Errorf("look how the member has ended before: %w", context.Cause(ctx))
	}
}

// left returns what is left of the wait.
func (f *flapping) left() time.Duration { return f.began + f.wait - f.now() }

// isBack ends a wait that is over. It returns false if there is none, or if it is not over yet.
func (f *flapping) isBack() bool {
	if f.reason == "" {
		return false
	}
	if left := f.left(); left > 0 { // the timer is early, since it does not count the time of a sleep
		f.back.Reset(left)
		return false
	}
	f.reason = ""
	f.log.Info("the wait after short lives is over: this member takes its share again")
	return true
}

// forget makes the next start know nothing of this life, nor of those before it: it ends in order.
func (f *flapping) forget(ctx context.Context) {
	select {
	case <-f.looked:
	default:
		return // the start has failed before that
	}
	if f.lease != 0 {
		_, _ = f.lessor.Revoke(ctx, f.lease) // it expires by itself otherwise
	}
}
