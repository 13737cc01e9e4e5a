package handler

import (
	"time"

	"github.com/distributed-resource-manager/drm/internal/pace"
)

// Defaults of the pauses between restarts (Loop, Exec) and between attempts (Retry): the first one, and the longest.
const (
	DefaultBackoff    = time.Second
	DefaultBackoffMax = time.Minute
)

// newBackoff returns pauses that begin at first and double up to most. Each is moved at random by up to a fifth either
// way, so that resources that failed together are not all tried again at the same moment.
func newBackoff(first, most time.Duration) *pace.Pauses { return pace.Around(first, most, 0.2) }

// checkBackoff checks the two pauses and fills in their defaults. A first pause longer than DefaultBackoffMax is also
// the default of the longest.
func checkBackoff(first, most time.Duration) (time.Duration, time.Duration, error) {
	first, err := checkDuration("Backoff", first, DefaultBackoff, minDuration)
	if err != nil {
		return 0, 0, err
	}
	most, err = checkDuration("BackoffMax", most, max(first, DefaultBackoffMax), first)
	return first, most, err
}
