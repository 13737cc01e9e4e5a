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

// stopper is how far the end of a member is.
type stopper struct {
	once    sync.Once
	hurry   chan struct{} // closed when Stop is to wait no longer
	hurried sync.Once
	done    chan struct{}
	stopErr error // what Stop returns; written before done is closed

	mu  sync.Mutex
	ran bool  // Start was called, so that there is something to stop
	err error // why the member ended by itself

	idle      chan struct{} // closed when nothing is handled after Stop
	quiet     chan struct{} // closed when nothing is in progress after Stop's time was up
	idleOnce  sync.Once
	quietOnce sync.Once
	stopping  bool // the loop owns it
	halted    bool // Stop's time is up; the loop owns it
}

func newStopper() stopper {
	return stopper{
		hurry: make(chan struct{}), done: make(chan struct{}), idle: make(chan struct{}), quiet: make(chan struct{}),
	}
}

// Done is closed when the member has ended: after Stop, or because of the error that Err tells.
func (s *stopper) Done() <-chan struct{} { return s.done }

// Err is why the member ended by itself; nil while it runs, and after Stop.
func (s *stopper) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// blame notes why the member ends by itself, and reports whether it runs.
func (s *stopper) blame(err error) (runs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	return s.ran
}

func (s *stopper) hasten() { s.hurried.Do(func() { close(s.hurry) }) }

// tellIdle lets Stop go on once nothing is handled any more. It runs on the loop.
func (m *Member) tellIdle() {
	if m.stopping && m.core.Idle() {
		m.idleOnce.Do(func() { close(m.idle) })
	}
	if m.halted && m.core.Quiet() {
		m.quietOnce.Do(func() { close(m.quiet) })
	}
}

// fail ends the member because of an error that is for good.
func (m *Member) fail(err error) {
	if runs := m.blame(err); !runs {
		return // New, or Start, tells
	}
	m.log.Error("the member ends", zap.Error(err))
	m.fetched(err)
	m.beginStop()
}

// Stop ends the member in order: it stops polling, tells the others that it leaves, terminates everything that it
// handles, releases each claim when its Terminate has returned, ends the source, and gives the leases back. It returns
// when all that is done, or soon after ctx ends or StopTimeout has passed, whatever the user's code does: what still
// runs then is cancelled and left behind, and the error, which matches source.ErrLeftBehind, says what. It may be
// called several times; all callers get the same answer. It is called after Start only.
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
		m.leave()
		go m.shutdown()
	})
}

// outcomesUntil is for how long Stop waits for the outcomes of calls that are to be finished: so long that Terminate
// still has its time afterwards, and what tells of a failure too; or for half of its time, where that does not fit.
func (m *Member) outcomesUntil() time.Duration {
	all := m.cfg.StopTimeout
	if d := all - m.cfg.TerminateTimeout - 3*usercode.Grace; d > 0 && m.cfg.TerminateTimeout != calls.Forever {
		return d
	}
	return all / 2
}

// shutdown is Stop's work. Its steps are in an order: each needs what the next one takes away.
func (m *Member) shutdown() {
	defer close(m.done)
	deadline, cancel := context.WithTimeout(context.Background(), m.cfg.StopTimeout)
	defer cancel()
	defer context.AfterFunc(deadline, m.hasten)()

	m.endPlace() // no polling, no standing for coordinator
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
	m.giveBack(left.Claims > 0)
	close(m.loop.end)
	<-m.loop.ended
	m.hub.Close()
	m.stopErr = errors.Join(errs...)
	m.failures.Close()
	m.log.Info("stopped", zap.Error(m.stopErr))
	m.cfg.Close()
}

// terminate ends everything that is handled, and returns what is left of it, out of so many claims.
func (m *Member) terminate(deadline context.Context) (left core.Left, had int) {
	leaving, ended := context.WithTimeout(deadline, m.cfg.Request)
	told := make(chan struct{})
	go func() { // the others take over while this member terminates; it does not wait for etcd to say so
		defer close(told)
		// Cancelled, it was overtaken: nothing is left that others could take over before the member's lease is given
		// back.
		if err := m.place.setLeaving(leaving); err != nil && !errors.Is(leaving.Err(), context.Canceled) {
			m.log.Warn("cannot say that this member leaves", zap.Error(err))
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
	waiting := tellWait(m.tellStopping)
	select {
	case <-m.idle:
		m.endHandling(calls.CauseStopped)
	case <-m.hurry:
		m.cutOff()
	}
	waiting()
	ended()
	<-told
	m.loop.ask(func(time.Duration) { left = m.core.Left() })
	return left, had
}

// cutOff cancels what still runs when Stop's time is up. No call begins any more. Those that return soon, and the
// releases that are on their way, are waited for, so that no more than need be is left behind.
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

// endSource waits for the user's code of the source, and calls its TearDown.
func (m *Member) endSource() error {
	defer tellWait(func(waited time.Duration) {
		m.log.Info(
			"waiting for calls of the source, and its TearDown, before the member can stop",
			zap.Duration("waited", waited),
		)
	})()
	return m.source.End()
}

// giveBack ends the leases. Those with claims that were left behind expire by themselves, since what is on them may
// still be handled.
func (m *Member) giveBack(keepClaims bool) {
	ctx, cancel := context.WithTimeout(context.Background(), min(m.cfg.Request, m.cfg.LeaseTTL))
	defer cancel()
	var all []*claimLease
	m.loop.ask(func(time.Duration) { all = m.executor.leases.list() })
	var wg sync.WaitGroup
	wg.Go(func() { m.executor.leases.giveBack(ctx, all, keepClaims) })
	wg.Go(func() {
		select {
		case <-m.placed: // where Stop was in a hurry, it may have been getting a lease just now
			m.place.giveBack(ctx)
		case <-ctx.Done():
		}
	})
	wg.Wait()
}

// mostCallsTold is how many calls a line of the log names.
const mostCallsTold = 5

// tellStopping logs on the loop what a stop waits for.
func (m *Member) tellStopping(waited time.Duration) {
	m.loop.post(func(time.Duration) {
		left := m.core.Left()
		m.log.Info(
			"waiting for what is left before the member can stop",
			zap.Duration("waited", waited),
			zap.Int(
				"claims",
				left.Claims,
			),
			zap.Int("calls", left.Calls),
			zap.Int("not_terminated", left.Waiting+left.Failing),
			zap.Int(
				"not_released",
				left.Unreleased,
			),
			zap.Strings("longest_calls", m.executor.calls.Longest(mostCallsTold)),
		)
	})
}

// leftBehind says what a stop has left, of so many claims that the member had when it began.
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
