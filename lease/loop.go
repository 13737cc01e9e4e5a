package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// maxAttempts is how many keepalives of a lease may be in progress at once. The default options never lead to so many.
const maxAttempts = 8

// loop is the state of a Keeper's goroutine.
type loop struct {
	*Keeper
	next     time.Duration // when the next attempt is due
	since    time.Duration // the lease is renewed by attempts until a keepalive was answered that was sent after this
	told     bool          // the fence has been handled, and OnFence called if it is given
	failure  error         // why the latest attempt failed; nil if etcd answered it
	probing  bool          // an attempt waits for the probe's answer
	answers  chan answer   // has room for the answers of all attempts, and of their probes
	underWay int           // attempts whose outcome has not been taken
	attempts sync.WaitGroup
	renewing context.Context
	giveUp   context.CancelFunc
}

// answer is the outcome of one attempt to renew the lease, or of the probe before it.
type answer struct {
	probed  bool          // this is the outcome of the probe, which succeeded
	unasked bool          // the probe failed, so nothing was sent
	sent    time.Duration // the time on the clock just before the request was sent
	ttl     time.Duration
	err     error
}

// run is the Keeper's goroutine. It never waits for a request: each attempt has a goroutine of its own, so that a
// request that hangs delays neither the fence nor the deadline. A timer only says when to look: the clock decides what
// is due, since the clock goes on while the machine sleeps, and timers do not.
func (k *Keeper) run(first time.Duration) {
	defer close(k.done)
	l := &loop{Keeper: k, next: first, answers: make(chan answer, 2*maxAttempts)}
	l.renewing, l.giveUp = context.WithCancel(context.Background())
	defer l.attempts.Wait()
	defer l.giveUp()

	if k.opts.Rounds != nil {
		defer k.opts.Rounds.leave(k)
	}
	if k.opts.Leaps != nil {
		defer k.opts.Leaps.Tell(k.poke)()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		l.takeAll() // first, since after a hiccup the answer that prevents the fence may be waiting
		now := k.clock.Now()
		if l.over(now) {
			return
		}
		l.heed(now)
		if !l.told && l.leads() && now >= l.next && l.underWay < maxAttempts && !l.probing {
			l.next = now + k.opts.RetryInterval
			l.underWay++
			l.probing = k.opts.Probe != nil
			patience := k.patience(now)
			l.attempts.Go(func() { l.answers <- l.renew(patience) })
		}
		if l.told || l.leads() || l.opts.Leaps == nil {
			timer.Reset(l.pause(now))
		} else {
			timer.Stop() // a round, or the Rounds' guard, wakes this goroutine up when there is something to do
		}
		select {
		case <-timer.C:
		case <-k.wake:
		case a := <-l.answers:
			l.take(a)
		}
	}
}

// over fences the lease if it is time to, and ends it if it is dead. It reports whether the lease has ended.
func (l *loop) over(now time.Duration) bool {
	left := l.Remaining()
	if l.closed.Load() { // read after Remaining, which is zero once Close has begun
		return true
	}
	if l.outlasts() || left > l.opts.FenceLead && !l.fenced.Load() {
		return false
	}
	l.mu.Lock()
	if l.cause == nil {
		sent := l.Deadline() + l.opts.Margin - l.ttl
		silent := (now - sent).Round(time.Millisecond)
		l.cause = fmt.Errorf("%w: none of the keepalives of the last %v was answered", ErrFenced, silent)
		if l.failure != nil {
			l.cause = fmt.Errorf("%w: %w", l.cause, l.failure)
		}
	}
	cause := l.cause
	l.mu.Unlock()
	l.fenced.Store(true)
	l.giveUp()

	end := cause
	if !errors.Is(cause, ErrGone) {
		end = fmt.Errorf("%w: %w", ErrExpired, cause)
	}
	if left <= 0 {
		l.cancel(end) // before the callbacks, since this may be late already
	}
	if !l.told {
		l.told = true
		if l.opts.OnFence != nil {
			l.opts.OnFence(l.Keeper, cause)
		}
	}
	if left <= 0 && l.opts.OnDead != nil {
		l.opts.OnDead(l.Keeper, end)
	}
	return left <= 0
}

func (l *loop) takeAll() {
	for {
		select {
		case a := <-l.answers:
			l.take(a)
		default:
			return
		}
	}
}

// take uses an attempt's answer, unless the lease is fenced.
func (l *loop) take(a answer) {
	if a.probed {
		l.probing = false
		l.next = max(l.next, a.sent+l.opts.RetryInterval)
		return
	}
	l.underWay--
	l.probing = l.probing && !a.unasked
	if l.fenced.Load() {
		return
	}
	switch {
	case a.err == nil:
		l.failure = nil
		l.extend(a.sent, a.ttl, l.opts.Margin, l.clock)
		l.next = max(l.next, l.opts.tickAfter(a.sent))
	case errors.Is(a.err, rpctypes.ErrLeaseNotFound):
		l.Fence(a.err)
	case errors.Is(a.err, ErrUnderWay): // the earlier one's outcome tells more
	default:
		l.failure = a.err
	}
}

// pause is how long to wait before looking at the clock again.
func (l *loop) pause(now time.Duration) time.Duration {
	until := l.Deadline()
	if !l.told {
		until -= l.opts.FenceLead
		if l.outlasts() { // then neither the fence nor the deadline matters
			until = now + l.ttl
		}
		if l.leads() && l.underWay < maxAttempts && !l.probing {
			until = min(until, l.next)
		}
	}
	// The pause is at most a part of the TTL, since the clock may leap. It ends when the clock stands at a multiple of
	// that part, so that the leases of a process look at the clock together: a hundred that wake up at a hundred
	// moments cost the machine much more. It is at least as long as a timer is worth setting for.
	if l.opts.Leaps != nil {
		return max(until-now, minPause)
	}
	part := l.ttl / 20
	return max(min(until, (now/part+1)*part)-now, minPause)
}

// patience is how long the owner may take to show that it works: until the lease would be fenced. An owner that is slow
// because the machine is busy is alive as soon as it answers, and the keepalive is sent only after its answer.
func (k *Keeper) patience(now time.Duration) time.Duration {
	if k.outlasts() {
		return k.ttl
	}
	return max(k.Deadline()-k.opts.FenceLead-now, k.opts.AttemptTimeout)
}

// renew sends one keepalive once the owner has shown that it works.
func (l *loop) renew(patience time.Duration) answer {
	ctx := l.renewing
	if l.opts.Probe != nil {
		if err := l.probe(ctx, patience); err != nil {
			return answer{unasked: true, err: fmt.Errorf("the lease's owner does not answer: %w", err)}
		}
		l.answers <- answer{probed: true, sent: l.clock.Now()}
	}
	ctx, cancel := context.WithTimeout(ctx, l.opts.AttemptTimeout)
	defer cancel()
	sent := l.clock.Now()
	resp, err := l.etcd.KeepAliveOnce(ctx, l.id)
	if err != nil {
		return answer{err: fmt.Errorf("keep lease %x alive: %w", int64(l.id), err)}
	}
	return answer{sent: sent, ttl: time.Duration(resp.TTL) * time.Second}
}

// probe calls Options.Probe. A success that comes too late is a failure.
func (k *Keeper) probe(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := k.opts.Probe(ctx); err != nil {
		return err
	}
	return ctx.Err()
}
