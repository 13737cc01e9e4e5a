// Package pace spaces out attempts: the pauses between them grow, and differ at random, so that callers that failed
// together do not try again together. The caller decides when to try again at all, and when a row of failures is over.
package pace

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Pauses is a row of pauses. Each is twice as long as the one before, up to a longest one. It is not safe for
// concurrent use.
type Pauses struct {
	steps      backoff.ExponentialBackOff // its own randomness is off, since it cannot only shorten
	less, more float64                    // by which shares of a step a pause may be shorter or longer
}

// New makes a row that begins at first and grows up to most. Each pause is shortened at random by up to the share less,
// 0 to 1; it is never longer.
func New(first, most time.Duration, less float64) *Pauses { return newPauses(first, most, less, 0) }

// Around makes a row that begins at first and grows up to most. Each pause is moved at random by up to share, 0 to 1,
// either way.
func Around(first, most time.Duration, share float64) *Pauses {
	return newPauses(first, most, share, share)
}

// Retry makes the row of pauses for requests to etcd that are repeated after a failure: 100 ms, doubled up to 5 s, less
// up to half.
func Retry() *Pauses { return New(100*time.Millisecond, MostRetry, 0.5) }

// MostRetry is the longest pause of Retry.
const MostRetry = 5 * time.Second

func newPauses(first, most time.Duration, less, more float64) *Pauses {
	p := &Pauses{
		steps: backoff.ExponentialBackOff{InitialInterval: min(first, most), MaxInterval: most, Multiplier: 2},
		less:  less, more: more,
	}
	p.Reset()
	return p
}

// Next returns the next pause of the row.
func (p *Pauses) Next() time.Duration {
	step := p.steps.NextBackOff()
	least := step - shareOf(step, p.less)
	return least + rand.N(step+shareOf(step, p.more)-least+1)
}

// Reset begins the row anew, after a success.
func (p *Pauses) Reset() { p.steps.Reset() }

// Wait waits for the next pause of the row. It returns false if ctx ended first.
func (p *Pauses) Wait(ctx context.Context) bool { return Wait(ctx, p.Next()) }

// Less returns a duration shortened at random by up to share, 0 to 1, so that what many do at the same moment is
// spread.
func Less(d time.Duration, share float64) time.Duration { return d - rand.N(shareOf(d, share)+1) }

func shareOf(d time.Duration, share float64) time.Duration { return time.Duration(float64(d) * share) }

// Wait waits for a duration. It returns false if ctx ended first.
func Wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}

// Stopped returns a timer that does not run. Whoever waits for it costs nothing until Reset starts it, while a timer of
// an hour keeps its place among all that the runtime has to look after.
func Stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}
