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

const (
	// tellWaitAfter is how long a wait lasts before it is logged.
	tellWaitAfter = time.Second
	// tellWaitMost is the longest pause between two lines about the same wait. The pauses double.
	tellWaitMost = time.Minute
)

// tellWait calls say during a wait, after tellWaitAfter and then at growing intervals, until the caller calls done. say
// must not block.
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

// During calls f, which waits for something. While f waits, During logs at info what it waits for, with the fields of
// details, which may be nil. If f fails after long, or because ctx has ended, the error says what it waited for, and
// how long.
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
		return err // it says how long itself
	}
	if took := time.Since(began); err != nil && (took >= tellWaitAfter || ctx.Err() != nil) {
		return fmt.Errorf("%w (after %v of waiting for %s)", err, took.Round(100*time.Millisecond), what)
	}
	return err
}

// upTo returns the log field of a wait that says how long it may take.
func upTo(most time.Duration) func() []zap.Field {
	return func() []zap.Field { return []zap.Field{zap.Duration("at_most", most)} }
}
