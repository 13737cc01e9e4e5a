package member

import (
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm/internal/pace"
)

// comeback makes a member pause before its next lease if its leases are fenced again and again, because the member or
// etcd has more to do than it can. Each fence terminates everything that the member handles, and starting all of it at
// once would overload the member again. So the first fence costs no pause, and each further one a longer pause. The
// member's key, whose lease is fenced together with the others, comes back after the pause too, so that other members
// handle meanwhile what belongs to this one. Any goroutine may call its methods.
type comeback struct {
	mu     sync.Mutex
	times  int           // fences in a row
	pauses *pace.Pauses  // the pauses after the second fence and each further one
	last   time.Duration // the time of the last fence, by the clock that measures leases
	until  time.Duration // no lease is requested before this time, by the same clock
}

const (
	// calmAfter is how many TTLs leases must have lived for their fence to count as a first one again.
	calmAfter = 8
	// longestComeback is the longest pause.
	longestComeback = time.Minute
)

// fenced notes that a lease was fenced because it was not renewed in time.
func (c *comeback) fenced(now, ttl time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.times > 0 && now-c.last < ttl/2:
		return // a lease that was renewed together with the last one; a newer lease would have lived longer
	case now-max(c.last, c.until) > calmAfter*ttl:
		c.times = 0
	}
	c.times++
	c.last, c.until = now, now
	if c.times == 1 {
		c.pauses = pace.New(ttl/5, longestComeback, 0.25)
	} else {
		c.until += c.pauses.Next()
	}
}

// left returns how long to wait before requesting a lease, zero or less for not at all, and the fences in a row.
func (c *comeback) left(now time.Duration) (left time.Duration, times int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until - now, c.times
}
