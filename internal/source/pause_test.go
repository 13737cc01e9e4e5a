package source

import (
	"testing"
	"time"
)

func TestFetchPauseDoublesUpToTheLongestLessAQuarterAtMost(t *testing.T) {
	for _, c := range []struct {
		attempt int
		longest time.Duration
		random  float64
		want    time.Duration
	}{
		{0, time.Minute, 0, time.Second},
		{1, time.Minute, 0, 2 * time.Second},
		{2, time.Minute, 0, 4 * time.Second},
		{5, time.Minute, 0, 32 * time.Second},
		{6, time.Minute, 0, time.Minute},
		{1_000_000, time.Minute, 0, time.Minute},
		{0, 100 * time.Millisecond, 0, 100 * time.Millisecond},
		{3, 5 * time.Second, 0, 5 * time.Second},
		{0, time.Minute, 1, 750 * time.Millisecond},
		{2, time.Minute, 0.5, 3500 * time.Millisecond},
		{9, time.Minute, 1, 45 * time.Second},
	} {
		if got := fetchPause(c.attempt, c.longest, c.random); got != c.want {
			t.Errorf("after attempt %d, at most %v, random %v: %v, want %v", c.attempt, c.longest, c.random, got, c.want)
		}
	}
}
