//go:build linux || darwin

package clock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

func now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(clockID, &t); err != nil {
		// Reading a clock that the kernel has cannot fail, and all kernels that Go supports have it. Without it nobody
		// can say whether a lease is safe, so there is no way to go on.
		panic(fmt.Sprintf("clock: reading the system's clock %d: %v", clockID, err))
	}
	return time.Duration(t.Nano())
}
