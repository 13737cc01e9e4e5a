// Package pause waits before a request to etcd that failed is made again.
package pause

import (
	"context"
	"math/rand/v2"
	"time"
)

// After returns the pause after so many failures in a row, the first of which is 0: 100 ms, doubled with each failure
// up to 5 s, less up to half of it at random.
func After(failures int) time.Duration {
	d := min(100*time.Millisecond<<min(failures, 6), 5*time.Second)
	return d - rand.N(d/2+1)
}

// For waits. False says that ctx ended first.
func For(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
