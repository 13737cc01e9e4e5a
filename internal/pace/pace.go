// Package pace spaces out attempts: the pauses between them grow, and differ at random, so that those who failed
// together do not try again together. When to try again at all, and when a row of failures is over, is decided by
// whoever asks.
package pace

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Pauses is a row of pauses, each twice as long as the one before up to a longest one. It is not safe for concurrent
// use.
type Pauses struct {
	steps      backoff.ExponentialBackOff // without its own randomness, which cannot be all to one side
	less, more float64                    // which shares of a step a pause is shorter or longer by at most
}

// New makes a row that begins at first and grows up to most. Each pause is shorter than that by up to a share of it,
// from 0 to 1, at random; it is never longer.
func New(first, most time.Duration, less float64) *Pauses { return newPauses(first, most, less, 0) }

// Around makes a row that begins at first and grows up to most, where each pause is moved by up to a share of it,
// from 0 to 1, either way.
func Around(first, most time.Duration, share float64) *Pauses {
	return newPauses(first, most, share, share)
}

// Retry makes the row of pauses before a request to etcd that failed is made again: 100 ms, doubled up to 5 s, less
// up to half.
func Retry() *Pauses { return New(100*time.Millisecond, MostRetry, 0.5) }

// MostRetry is the longest pause before a request to etcd that failed is made again.
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

// Reset begins the row anew: what was tried has succeeded.
func (p *Pauses) Reset() { p.steps.Reset() }

// Wait waits for the next pause of the row. It reports false where ctx ended first.
func (p *Pauses) Wait(ctx context.Context) bool { return Wait(ctx, p.Next()) }

// Less returns a duration less up to a share of it, from 0 to 1, at random: what many would do at the same moment is
// spread.
func Less(d time.Duration, share float64) time.Duration { return d - rand.N(shareOf(d, share)+1) }

func shareOf(d time.Duration, share float64) time.Duration { return time.Duration(float64(d) * share) }

// Wait waits for a duration. It reports false where ctx ended first.
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
