package source

import (
	"testing"
	"time"
)

func TestFetchPauseDoublesUpToTheLongestLessAQuarterAtMost(t *testing.T) {
	for longest, want := range map[time.Duration][]time.Duration{
		time.Minute: {
			time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second,
			32 * time.Second, time.Minute, time.Minute,
		},
		100 * time.Millisecond: {100 * time.Millisecond, 100 * time.Millisecond},
		5 * time.Second:        {time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second},
	} {
		for range 20 {
			pauses := fetchPauses(longest)
			for attempt, most := range want {
				if got := pauses.Next(); got > most || got < most*3/4 {
					t.Errorf("attempt %d, at most %v: %v, want %v less a quarter at most", attempt, longest, got, most)
				}
			}
		}
	}
}
