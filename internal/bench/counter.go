package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// counter is a handler that does nothing but count, so that what is measured is DRM. All members of a lab share it.
type counter struct {
	handled, terminated atomic.Int64

	mu    sync.Mutex
	want  int64 // when so many were handled, reached is closed
	mark  int64 // handled before
	last  time.Time
	full  chan struct{}
	ended []int64         // by resource: when Terminate returned, in Unix nanoseconds; nil: not kept
	gaps  []time.Duration // from there to the next Handle
}

func newCounter(resources int) *counter { return &counter{ended: make([]int64, resources)} }

// expect returns a channel that is closed when n more were handled from now on.
func (c *counter) expect(n int) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mark = c.handled.Load()
	c.want, c.full = int64(n), make(chan struct{})
	return c.full
}

// reached is when that was.
func (c *counter) reached() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// takeGaps returns the gaps so far, and begins anew.
func (c *counter) takeGaps() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	gaps := c.gaps
	c.gaps = nil
	clear(c.ended)
	return gaps
}

// Handle counts.
func (c *counter) Handle(_ context.Context, claim drm.Claim) error {
	n := c.handled.Add(1)
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := number(claim.Resource.ID); c.ended[i] != 0 {
		c.gaps = append(c.gaps, time.Duration(now.UnixNano()-c.ended[i]))
	}
	if c.full != nil && n == c.mark+c.want {
		c.last = now
		close(c.full)
		c.full = nil
	}
	return nil
}

// Terminate counts.
func (c *counter) Terminate(_ context.Context, claim drm.Claim) error {
	c.terminated.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended[number(claim.Resource.ID)] = time.Now().UnixNano()
	return nil
}

// HandleFailed never happens.
func (c *counter) HandleFailed(context.Context, drm.Claim, error) {}

// TerminateFailed does not matter: members that were cut off have nothing to lose.
func (c *counter) TerminateFailed(context.Context, drm.Claim, error) {}
