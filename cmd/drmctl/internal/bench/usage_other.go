//go:build !unix

package bench

import "time"

// cpuTime is not told here.
func cpuTime() time.Duration { return 0 }

// peakMemory is not told here.
func peakMemory() int64 { return 0 }
