package drm

import (
	"context"
	"errors"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/usercode"
)

// What a Retriever is called for besides Fetch: Setup, and TearDown after all that Setup and Fetch may still be doing.

// setUpRetriever calls Setup, and does not wait for one that ignores its context. Should that succeed after all, its
// TearDown follows at once, since nothing else will come of it.
func (m *Manager) setUpRetriever(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.FetchTimeout)
	defer cancel()
	err := m.bounded(ctx, func(ctx context.Context) error { return m.cfg.Retriever.Setup(ctx, m) }, func(late error) {
		if late != nil {
			return
		}
		if err := m.tearDown(); err != nil {
			m.log.Warn("cannot tear down a retriever that was set up too late", zap.Error(err))
		}
	})
	m.setUp = err == nil
	return err
}

// tearDown calls the Retriever's TearDown, and does not wait for one that ignores its context: no longer than usercode.Grace once
// Stop is to wait no longer.
func (m *Manager) tearDown() error {
	limited, cancelTimeout := context.WithTimeout(context.Background(), m.cfg.FetchTimeout)
	defer cancelTimeout()
	ctx, cancel := context.WithCancelCause(limited)
	defer cancel(nil)
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-m.hurry:
		case <-over:
			return
		}
		if pauseFor(ctx, usercode.Grace) {
			cancel(errors.New("it did not return in the time that Stop had"))
		}
	}()
	return m.bounded(ctx, m.cfg.Retriever.TearDown, func(error) {})
}

// bounded calls the user's code and returns when it does, or when ctx ends. Where it returns after that, its error goes to
// late.
func (m *Manager) bounded(ctx context.Context, f func(context.Context) error, late func(error)) error {
	answer := make(chan error, 1)
	var decided atomic.Bool // by whichever comes first
	detached(func() error { return f(ctx) }, func(err error) {
		if decided.CompareAndSwap(false, true) {
			answer <- err
		} else {
			late(err)
		}
	})
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		if decided.CompareAndSwap(false, true) {
			return context.Cause(ctx)
		}
		return <-answer
	}
}
