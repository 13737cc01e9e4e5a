package ready

import "time"

const (
	// Quiet is how long a member must live for its life not to be a short one. Then its earlier lives are forgotten.
	Quiet = 10 * time.Minute
	// ShortLives is how many short lives in a row make a member stay away at its next start.
	ShortLives = 2
	// FirstWait is how long it stays away after as many short lives. Each further one doubles that, up to LongestWait.
	FirstWait = 15 * time.Second
	// LongestWait is the longest time for which a member stays away because of short lives.
	LongestWait = 5 * time.Minute
)

// WaitAfter returns for how long a member that starts stays away after so many short lives in a row. A short life ends
// without a stop in order within Quiet. The first one costs nothing: a lone death is no reason for mistrust. first is
// the first wait that is not zero.
func WaitAfter(short int, first time.Duration) time.Duration {
	if short < ShortLives {
		return 0
	}
	wait := first
	for range short - ShortLives {
		if wait *= 2; wait >= LongestWait {
			return LongestWait
		}
	}
	return min(wait, LongestWait)
}
