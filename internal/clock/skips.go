package clock

import "time"

// skipTolerance is how far the wall clock may run ahead of the monotonic one before that counts. Their resolutions
// differ (up to 16 ms on Windows), and a wall clock that is being corrected wanders.
const skipTolerance = 50 * time.Millisecond

// skips makes one clock from a monotonic and a wall clock, for systems whose monotonic clock may stop while the machine
// sleeps and that have no other. It is built and tested everywhere.
type skips struct {
	ahead   time.Duration // wall − monotonic at the lowest reading since the last skip
	skipped time.Duration // how far the monotonic clock was found to have fallen behind in total
}

// now returns the time, given both clocks' time since the same moment. The calls must come in the order of the
// readings.
func (s *skips) now(mono, wall time.Duration) time.Duration {
	ahead := wall - mono
	switch {
	case ahead < s.ahead: // it was set back, or wanders: what it does from here on counts
		s.ahead = ahead
	case ahead > s.ahead+skipTolerance:
		s.skipped += ahead - s.ahead
		s.ahead = ahead
	}
	return mono + s.skipped
}
