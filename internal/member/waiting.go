package member

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/internal/health"
	"github.com/distributed-resource-manager/drm/internal/pace"
)

const (
	// tellWaitAfter is how long a wait lasts before it is logged.
	tellWaitAfter = time.Second
	// tellWaitMost is the longest pause between two lines about the same wait. The pauses double.
	tellWaitMost = time.Minute
	// tellIDMost is that pause for a wait for the member's id: people look at such a start, and wonder whether it
	// hangs.
	tellIDMost = 5 * time.Second
)

// tellWait calls say during a wait, after tellWaitAfter and then at intervals that grow up to most, until the caller
// calls done. say must not block.
func tellWait(most time.Duration, say func(waited time.Duration)) (done func()) {
	began := time.Now()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		pauses := pace.New(tellWaitAfter, most, 0)
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

// Wait is something that a start waits for.
type Wait struct {
	For    string             // completes "waiting for"
	AtMost time.Duration      // 0: nobody knows how long it may take
	More   func() []zap.Field // what else people should know; nil if there is nothing; it must not block
}

// During calls f, which waits for something. While f waits, During logs at info what it waits for, and the board, which
// may be nil, shows it. If f fails after long, or because ctx has ended, the error says what it waited for, and how
// long.
func During(ctx context.Context, log *zap.Logger, board *health.Board, w Wait, f func() error) error {
	began := time.Now()
	done := tellWait(tellWaitMost, func(waited time.Duration) {
		fields := []zap.Field{zap.Duration("waited", waited)}
		if w.AtMost > 0 {
			fields = append(fields, zap.Duration("at_most", w.AtMost))
		}
		if w.More != nil {
			fields = append(fields, w.More()...)
		}
		log.Info("waiting for "+w.For, fields...)
	})
	var until time.Time
	if w.AtMost > 0 {
		until = began.Add(w.AtMost)
	}
	hide := board.Wait(w.For, w.text, until)
	err := f()
	hide()
	done()
	if errors.Is(err, etcd.ErrUnreachable) && ctx.Err() == nil {
		return err // it says how long itself
	}
	if took := time.Since(began); err != nil && (took >= tellWaitAfter || ctx.Err() != nil) {
		return fmt.Errorf("%w (after %v of waiting for %s)", err, took.Round(100*time.Millisecond), w.For)
	}
	return err
}

// text returns what More returns as a text such as: coordinator a, retry_budget 1m0s.
func (w Wait) text() string {
	if w.More == nil {
		return ""
	}
	var parts []string
	for _, f := range w.More() {
		values := zapcore.NewMapObjectEncoder()
		f.AddTo(values)
		parts = append(parts, fmt.Sprintf("%s %v", f.Key, values.Fields[f.Key]))
	}
	return strings.Join(parts, ", ")
}
