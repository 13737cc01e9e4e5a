package member

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/calls"
	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// stopper is the state of a member's end.
type stopper struct {
	once    sync.Once
	hurry   chan struct{} // closed when Stop must not wait any longer
	hurried sync.Once
	done    chan struct{} // closed when the member has ended
	stopErr error         // what Stop returns; written before done is closed

	mu  sync.Mutex
	ran bool  // Start was called, so that there is something to stop
	err error // why the member ended by itself

	idle      chan struct{} // closed when nothing is handled any more after Stop
	quiet     chan struct{} // closed when no call or release is in progress after Stop's time was up
	idleOnce  sync.Once
	quietOnce sync.Once
	stopping  bool // Stop has begun; the loop owns it
	halted    bool // Stop's time is up; the loop owns it
}

func newStopper() stopper {
	return stopper{
		hurry: make(chan struct{}), done: make(chan struct{}), idle: make(chan struct{}), quiet: make(chan struct{}),
	}
}

// Done returns a channel that is closed when the member has ended: after Stop, or because of the error of Err.
func (s *stopper) Done() <-chan struct{} { return s.done }

// Err returns why the member ended by itself; nil while it runs, and if it ended because of Stop.
func (s *stopper) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// blame notes why the member ends by itself, and reports whether Start was called. Only the first error counts.
func (s *stopper) blame(err error) (runs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	return s.ran
}

// hasten makes Stop wait no longer.
func (s *stopper) hasten() { s.hurried.Do(func() { close(s.hurry) }) }

// tellIdle lets shutdown go on once nothing is handled, or in progress, any more. The loop calls it.
func (m *Member) tellIdle() {
	if m.stopping && m.core.Idle() {
		m.idleOnce.Do(func() { close(m.idle) })
	}
	if m.halted && m.core.Quiet() {
		m.quietOnce.Do(func() { close(m.quiet) })
	}
}

// fail ends the member because of an error that it cannot recover from. Any goroutine may call it.
func (m *Member) fail(err error) {
	if runs := m.blame(err); !runs {
		return // Start returns the error
	}
	m.log.Error("the member ends", zap.Error(err))
	m.fetched(err)
	m.beginStop()
}

// Stop ends the member in order: it stops polling, tells the others that it leaves, terminates everything that it
// handles, releases each claim when its Terminate has returned, ends the source, and gives the leases back. It returns
// when all that is done, or soon after ctx ends or StopTimeout has passed, whatever the user's code does. What still
// runs then is cancelled and left behind, and the error, which matches source.ErrLeftBehind, says what that is. Stop is
// called after Start only. It may be called several times; all callers get the same result.
func (m *Member) Stop(ctx context.Context) error {
	m.beginStop()
	select {
	case <-m.done:
	case <-ctx.Done():
		m.hasten()
		<-m.done
	}
	return m.stopErr
}

func (m *Member) beginStop() {
	m.once.Do(func() {
		m.cfg.Board.Stop(m.Err(), time.Now().Add(m.cfg.StopTimeout))
		m.leave()
		go m.shutdown()
	})
}

// outcomesUntil returns how long Stop waits for calls that FinishCalls protects. It leaves time for a Terminate and
// for the callbacks that report failures. If there is not that much time, it is half of what Stop has.
func (m *Member) outcomesUntil() time.Duration {
	all := m.cfg.StopTimeout
	if d := all - m.cfg.TerminateTimeout - 3*usercode.Grace; d > 0 && m.cfg.TerminateTimeout != calls.Forever {
		return d
	}
	return all / 2
}

// shutdown does the work of Stop. The order of its steps matters: each needs what the next one takes away.
func (m *Member) shutdown() {
	defer close(m.done)
	deadline, cancel := context.WithTimeout(context.Background(), m.cfg.StopTimeout)
	defer cancel()
	defer context.AfterFunc(deadline, m.hasten)()

	if m.Err() == nil && !m.reserves() { // after an error nobody may wait, or write to etcd
		m.place.announce(deadline, m.hurry)
	}
	m.endPlace() // ends the polling, and the standing for coordinator
	select {
	case <-m.placed:
	case <-m.hurry:
	}
	left, had := m.terminate(deadline)
	var errs []error
	if left.Claims+left.Calls > 0 {
		errs = append(errs, leftBehind(left, had))
	}
	if err := m.endSource(); err != nil {
		errs = append(errs, err)
	}
	m.endWork()
	m.tasks.wait()
	m.executor.claims.Close()
	m.executor.states.Close()
	m.executor.trails.Close()
	m.giveBack(left.Claims > 0)
	close(m.loop.end)
	<-m.loop.ended
	m.hub.Close()
	m.link.Close()
	m.stopErr = errors.Join(errs...)
	m.failures.Close()
	m.log.Info("stopped", zap.Error(m.stopErr))
	m.cfg.Board.End(m.Err())
	m.cfg.Close()
}

// terminate ends everything that is handled. It returns what is left, and how many claims the member had before.
func (m *Member) terminate(deadline context.Context) (left core.Left, had int) {
	leaving, ended := context.WithTimeout(deadline, m.cfg.Request)
	told, reserve := make(chan struct{}), m.reserves()
	go func() { // the others take over while this member terminates, which does not wait for etcd's answer
		defer close(told)
		// ended cancels the request when all is terminated: the others see the member leave when its lease is revoked.
		if err := m.tellLeaving(leaving, reserve); err != nil && !errors.Is(leaving.Err(), context.Canceled) {
			m.log.Warn("cannot tell the other members that this one leaves", zap.Error(err))
		}
	}()
	m.loop.post(func(now time.Duration) {
		m.stopping = true
		had = m.core.Left().Claims
		m.core.Stop(now)
		m.executor.leases.noLonger()
	})
	hasten := time.AfterFunc(m.outcomesUntil(), func() { m.loop.post(m.core.Hasten) })
	defer hasten.Stop()
	waiting := tellWait(tellWaitMost, m.tellStopping)
	select {
	case <-m.idle:
		m.endHandling(calls.CauseStopped)
	case <-m.hurry:
		m.cutOff()
	}
	waiting()
	if reserve { // if the lease of the member's key were revoked before that, the others would take over
		select {
		case <-told:
		case <-m.hurry:
		}
	}
	ended()
	<-told
	m.loop.ask(func(time.Duration) { left = m.core.Left() })
	return left, had
}

// cutOff cancels what still runs when Stop's time is up, and lets no call begin any more. It waits for the calls that
// return soon, and for the releases that are on their way, so that as little as possible is left behind.
func (m *Member) cutOff() {
	m.loop.post(func(time.Duration) {
		m.core.Halt()
		m.halted = true
	})
	m.endHandling(calls.CauseStopped)
	last := time.NewTimer(usercode.Grace)
	defer last.Stop()
	select {
	case <-m.quiet:
	case <-last.C:
	}
}

// endSource waits for the calls of the source, and calls its TearDown.
func (m *Member) endSource() error {
	defer tellWait(tellWaitMost, func(waited time.Duration) {
		m.log.Info("waiting for calls of the source, and its TearDown, before the member can stop",
			zap.Duration("waited", waited))
	})()
	return m.source.End()
}

// giveBack revokes the leases. With keepClaims the leases of claims expire by themselves, because what is on them may
// still be handled.
func (m *Member) giveBack(keepClaims bool) {
	ctx, cancel := context.WithTimeout(context.Background(), min(m.cfg.Request, m.cfg.LeaseTTL))
	defer cancel()
	var all []*claimLease
	m.loop.ask(func(time.Duration) { all = m.executor.leases.list() })
	var wg sync.WaitGroup
	wg.Go(func() { m.executor.leases.giveBack(ctx, all, keepClaims) })
	if m.Err() == nil { // it was told to end, also if that was during its start
		wg.Go(func() { m.place.flapping.forget(ctx) })
	}
	wg.Go(func() {
		select {
		case <-m.placed: // if Stop is in a hurry, the place may still be getting a lease
			m.place.giveBack(ctx)
		case <-ctx.Done():
		}
	})
	wg.Wait()
}

// mostCallsTold is how many calls tellStopping names.
const mostCallsTold = 5

// tellStopping makes the loop log what a stop waits for.
func (m *Member) tellStopping(waited time.Duration) {
	m.loop.post(func(time.Duration) {
		left := m.core.Left()
		m.log.Info("waiting for what is left before the member can stop",
			zap.Duration("waited", waited), zap.Int("claims", left.Claims), zap.Int("calls", left.Calls),
			zap.Int("not_terminated", left.Waiting+left.Failing), zap.Int("not_released", left.Unreleased),
			zap.Strings("longest_calls", m.executor.calls.Longest(mostCallsTold)))
	})
}

// leftBehind returns the error which says what a stop has left behind, of the claims that the member had when it began.
func leftBehind(left core.Left, had int) error {
	if left.Claims == 0 {
		return fmt.Errorf("stop: %w: %d calls of the handler have not returned", source.ErrLeftBehind, left.Calls)
	}
	var why []string
	for _, part := range []struct {
		n    int
		what string
	}{
		{left.Calling, "in a call of the handler that has not returned"},
		{left.Stuck, "in one that was given up"},
		{left.Failing, "held since Terminate failed"},
		{left.Waiting, "not terminated in time"},
		{left.Unreleased, "terminated, and etcd did not take the release"},
	} {
		if part.n > 0 {
			why = append(why, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	return fmt.Errorf("stop: %w: %d of %d claims, which expire by themselves: %s",
		source.ErrLeftBehind, left.Claims, max(had, left.Claims), strings.Join(why, ", "))
}
