package lease

import (
	"testing"
	"time"
)

func TestAnEarlyLeaseIsDueBeforeTheOthers(t *testing.T) {
	o := Options{Interval: time.Second, Early: 10 * time.Millisecond}
	for sent, want := range map[time.Duration]time.Duration{
		0:                       990 * time.Millisecond,
		989 * time.Millisecond:  990 * time.Millisecond,
		990 * time.Millisecond:  1990 * time.Millisecond, // just sent
		time.Second:             1990 * time.Millisecond,
		4200 * time.Millisecond: 4990 * time.Millisecond,
	} {
		if got := o.tickAfter(sent); got != want {
			t.Errorf("after a keepalive at %v the next is due at %v, want %v", sent, got, want)
		}
	}
}

func TestKeepalivesOfAllLeasesAreDueAtTheSameMoments(t *testing.T) {
	o := Options{Interval: time.Second}
	for sent, want := range map[time.Duration]time.Duration{
		0:                       time.Second,
		1:                       time.Second,
		999 * time.Millisecond:  time.Second,
		time.Second:             2 * time.Second,
		4200 * time.Millisecond: 5 * time.Second,
	} {
		if got := o.tickAfter(sent); got != want {
			t.Errorf("after a keepalive at %v the next is due at %v, want %v", sent, got, want)
		}
		if wait := o.tickAfter(sent) - sent; wait <= 0 || wait > o.Interval {
			t.Errorf("after a keepalive at %v the next one waits for %v", sent, wait)
		}
	}
}
