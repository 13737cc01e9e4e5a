package member

import (
	"sync"
	"time"

	"github.com/distributed-resource-manager/drm/internal/pace"
)

// comeback spaces out the attempts of a member whose leases are fenced again and again, because the member, or etcd,
// has more to do than it can. Each time, everything that it handled is terminated, and to begin with all of it at once
// is what overloads it the next time. So a first fence costs no pause, and the further ones a longer and longer one. A
// member whose key went with them (its lease is renewed together with the others) puts its key again after the pause
// too, so that others handle meanwhile what belongs to it.
type comeback struct {
	mu     sync.Mutex
	times  int           // fences in a row
	pauses *pace.Pauses  // after the second of them and each further one
	last   time.Duration // when the last one was, on the clock that leases are measured by
	until  time.Duration // no lease is asked for before
}

const (
	// calmAfter is how many TTLs leases have to live until their fence is the first of a row again.
	calmAfter = 8
	// longestComeback bounds the pause.
	longestComeback = time.Minute
)

// fenced notes that a lease was fenced since it was not renewed in time.
func (c *comeback) fenced(now, ttl time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.times > 0 && now-c.last < ttl/2:
		return // another lease, which was renewed together with that one: a new one would have lived for longer
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

// left is for how long from now no lease is to be asked for.
func (c *comeback) left(now time.Duration) (left time.Duration, times int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until - now, c.times
}
