package drm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Whoever waits says for what: in the log while it waits, and in the error where the waiting came to nothing.

const (
	// tellWaitAfter is how long something is waited for without a word.
	tellWaitAfter = time.Second
	// tellWaitMost bounds the pauses between two lines about the same wait, which double.
	tellWaitMost = time.Minute
)

// tellWait calls say while something is being waited for: after a second, and then again at growing intervals until done is
// called. say must not wait for anything.
func tellWait(say func(waited time.Duration)) (done func()) {
	began := time.Now()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		pause := tellWaitAfter
		timer := time.NewTimer(pause)
		defer timer.Stop()
		for {
			select {
			case <-over:
				return
			case <-timer.C:
			}
			say(time.Since(began).Round(100 * time.Millisecond))
			timer.Reset(pause)
			pause = min(2*pause, tellWaitMost)
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// during runs f, which waits for something, and logs at info that it does, with details; nil stands for none. An error says what
// was waited for and how long, where that was long or ctx has ended meanwhile.
func during(ctx context.Context, log *zap.Logger, what string, details func() []zap.Field, f func() error) error {
	began := time.Now()
	done := tellWait(func(waited time.Duration) {
		fields := []zap.Field{zap.Duration("waited", waited)}
		if details != nil {
			fields = append(fields, details()...)
		}
		log.Info("waiting for "+what, fields...)
	})
	err := f()
	done()
	if errors.Is(err, ErrUnreachable) && ctx.Err() == nil {
		return err // it says so itself
	}
	if took := time.Since(began); err != nil && (took >= tellWaitAfter || ctx.Err() != nil) {
		return fmt.Errorf("%w (after %v of waiting for %s)", err, took.Round(100*time.Millisecond), what)
	}
	return err
}

// upTo is a detail of a wait: how long it may take.
func upTo(most time.Duration) func() []zap.Field {
	return func() []zap.Field { return []zap.Field{zap.Duration("at_most", most)} }
}

// mostCallsTold is how many calls a line names.
const mostCallsTold = 5

// tellStopping says on the loop what a stop waits for.
func (m *Manager) tellStopping(waited time.Duration) {
	m.post(func() {
		left := m.core.Left()
		m.log.Info("waiting for what is left before the member can stop", zap.Duration("waited", waited), zap.Int("claims", left.Claims),
			zap.Int("calls", left.Calls), zap.Int("not_terminated", left.Waiting+left.Failing), zap.Int("not_released", left.Unreleased),
			zap.Strings("longest_calls", m.calls.Longest(mostCallsTold)))
	})
}

// endpointsOf is a detail of waiting for etcd.
func endpointsOf(c EtcdConfig) func() []zap.Field {
	return func() []zap.Field {
		return []zap.Field{zap.Strings("endpoints", c.Endpoints), zap.Duration("at_most", c.DialTimeout)}
	}
}

// joining is a detail of waiting for others that join.
func (g *group) joining() []zap.Field {
	fields := []zap.Field{zap.Duration("at_most", settleMost*g.m.cfg.JoinDelay)}
	if v := g.last.Load(); v != nil {
		joining, _ := others(v, g.m.id)
		fields = append(fields, zap.Int("joining", len(joining)))
	}
	return fields
}

// coordinates is a detail of waiting for the source: who asks it.
func (g *group) coordinates() []zap.Field {
	fields := []zap.Field{zap.Duration("retry_budget", g.m.cfg.FetchRetryBudget)}
	if v := g.last.Load(); v != nil && v.Coordinator.ID != "" {
		fields = append(fields, zap.String("coordinator", v.Coordinator.ID))
	}
	return fields
}
