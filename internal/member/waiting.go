package member

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/pace"
)

// Whoever waits says what for: in the log while it waits, and in the error where the waiting came to nothing.

const (
	// tellWaitAfter is how long something is waited for without a word.
	tellWaitAfter = time.Second
	// tellWaitMost bounds the pauses between two lines about the same wait, which double.
	tellWaitMost = time.Minute
)

// tellWait calls say while something is being waited for: after a second, and then again at growing intervals until
// done is called. say must not wait for anything.
func tellWait(say func(waited time.Duration)) (done func()) {
	began := time.Now()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		pauses := pace.New(tellWaitAfter, tellWaitMost, 0)
		timer := time.NewTimer(tellWaitAfter)
		defer timer.Stop()
		for {
			select {
			case <-over:
				return
			case <-timer.C:
			}
			say(time.Since(began).Round(100 * time.Millisecond))
			timer.Reset(pauses.Next())
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// During runs f, which waits for something, and logs at info that it does, with details; nil stands for none. Where
// that took long, or ctx has ended meanwhile, an error says what was waited for and how long.
func During(ctx context.Context, log *zap.Logger, what string, details func() []zap.Field, f func() error) error {
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
	if errors.Is(err, etcd.ErrUnreachable) && ctx.Err() == nil {
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
