//go:build !unix

package bench

import "time"

// cpuTime is not known on this platform.
func cpuTime() time.Duration { return 0 }

// peakMemory is not known on this platform.
func peakMemory() int64 { return 0 }
