package clock

import "time"

// skipTolerance is how far the wall clock may run ahead of the monotonic one before it counts. Their resolutions
// differ (to 16 ms on Windows), and a wall clock that is being corrected wanders.
const skipTolerance = 50 * time.Millisecond

// skips makes one clock of a monotonic and a wall clock, where the monotonic one may stop while the machine sleeps. It
// is used where the system has no clock that does not, but built and tested everywhere.
type skips struct {
	ahead   time.Duration // wall − monotonic at the lowest reading since the last skip
	skipped time.Duration // by how much the monotonic clock was found to have fallen behind, in all
}

// now tells the time, given both clocks' time since the same moment. It must be called in the order of the readings.
func (s *skips) now(mono, wall time.Duration) time.Duration {
	ahead := wall - mono
	switch {
	case ahead < s.ahead: // set back, or wandering: what it does from here on is what counts
		s.ahead = ahead
	case ahead > s.ahead+skipTolerance:
		s.skipped += ahead - s.ahead
		s.ahead = ahead
	}
	return mono + s.skipped
}
