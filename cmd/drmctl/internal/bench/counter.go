package bench

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/shard"
)

// counter is a handler that only counts, so that the figures are those of DRM. All members of a lab share one.
type counter struct {
	handled, terminated atomic.Int64

	mu    sync.Mutex
	want  int64 // full is closed when so many more than mark have been handled
	mark  int64
	last  time.Time // when full was closed last
	full  chan struct{}
	ended []int64         // for each resource: when Terminate returned, in Unix nanoseconds; 0 if it did not
	gaps  []time.Duration // from the end of a Terminate to the next Handle of the resource
	by    []string        // for each resource: the member that handles it
	had   []string        // for each resource: the member that has handled it last
	moves int             // how many calls of Handle were of another member than the one before

	shards []int // for each resource: its shard
}

func newCounter(resources int) *counter {
	c := &counter{
		ended: make([]int64, resources), by: make([]string, resources), had: make([]string, resources),
		shards: make([]int, resources),
	}
	for i := range c.shards {
		c.shards[i] = shard.Of(id(i), drm.DefaultShards)
	}
	return c
}

// misplaced counts the resources that are not handled by the member that should have them.
func (c *counter) misplaced(owners []string) int {
	c.mu.Lock()
	by := slices.Clone(c.by)
	c.mu.Unlock()
	n := 0
	for i, member := range by {
		if member == "" || member != owners[c.shards[i]] {
			n++
		}
	}
	return n
}

// expect returns a channel that is closed when n more were handled from now on.
func (c *counter) expect(n int) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mark = c.handled.Load()
	c.want, c.full = int64(n), make(chan struct{})
	return c.full
}

// reached returns when as many resources had been handled as expect was called with.
func (c *counter) reached() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// takeGaps returns the gaps so far, and forgets them.
func (c *counter) takeGaps() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	gaps := c.gaps
	c.gaps = nil
	clear(c.ended)
	return gaps
}

// takeMoves returns the moves so far, and forgets them.
func (c *counter) takeMoves() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.moves
	c.moves = 0
	return n
}

// lose notes that a member has died with all that it handles.
func (c *counter) lose(member string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now().UnixNano()
	for i, by := range c.by {
		if by == member {
			c.by[i], c.ended[i] = "", now
		}
	}
}

// takeUnhandled returns for how long all resources together have been unhandled, and forgets that.
func (c *counter) takeUnhandled() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all time.Duration
	for _, gap := range c.gaps {
		all += gap
	}
	now := time.Now().UnixNano()
	for i, ended := range c.ended {
		if ended != 0 {
			all += time.Duration(now - ended)
			c.ended[i] = now
		}
	}
	c.gaps = nil
	return all
}

// Handle implements drm.Handler.
func (c *counter) Handle(_ context.Context, claim drm.Claim) error {
	n := c.handled.Add(1)
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	i := number(claim.Resource.ID)
	if c.had[i] != "" && c.had[i] != claim.Member {
		c.moves++
	}
	c.by[i], c.had[i] = claim.Member, claim.Member
	if c.ended[i] != 0 {
		c.gaps = append(c.gaps, time.Duration(now.UnixNano()-c.ended[i]))
		c.ended[i] = 0
	}
	if c.full != nil && n == c.mark+c.want {
		c.last = now
		close(c.full)
		c.full = nil
	}
	return nil
}

// Terminate implements drm.Handler.
func (c *counter) Terminate(_ context.Context, claim drm.Claim) error {
	c.terminated.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	i := number(claim.Resource.ID)
	c.ended[i] = time.Now().UnixNano()
	if c.by[i] == claim.Member { // a member that was cut off may end what another member handles by now
		c.by[i] = ""
	}
	return nil
}

// HandleFailed implements drm.Handler. It is never called, since Handle does not fail.
func (c *counter) HandleFailed(context.Context, drm.Claim, error) {}

// TerminateFailed implements drm.Handler. Members that were cut off may call it, which does not matter.
func (c *counter) TerminateFailed(context.Context, drm.Claim, error) {}
