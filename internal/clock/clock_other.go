//go:build !linux && !darwin

package clock

import (
	"sync"
	"time"
)

// process is the one clock that all callers share, so that its readings can be compared.
var process = struct {
	sync.Mutex
	start time.Time
	skips skips
}{start: time.Now()}

func now() time.Duration {
	process.Lock()
	defer process.Unlock()
	t := time.Now()
	// Round strips the monotonic reading, so that the second difference is one of wall clocks.
	return process.skips.now(t.Sub(process.start), t.Round(0).Sub(process.start.Round(0)))
}
