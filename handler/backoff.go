package handler

import (
	"time"

	"github.com/distributed-resource-manager/drm/internal/pace"
)

// The pauses between restarts, and between tries of Retry, where the configuration names none.
const (
	DefaultBackoff    = time.Second
	DefaultBackoffMax = time.Minute
)

// newBackoff gives pauses that begin at first and double up to most, each moved by up to a fifth either way, so that
// what failed together does not come back together.
func newBackoff(first, most time.Duration) *pace.Pauses { return pace.Around(first, most, 0.2) }

// checkBackoff gives the two pauses with their defaults. A first pause longer than the default maximum raises that.
func checkBackoff(first, most time.Duration) (time.Duration, time.Duration, error) {
	first, err := checkDuration("Backoff", first, DefaultBackoff, minDuration)
	if err != nil {
		return 0, 0, err
	}
	most, err = checkDuration("BackoffMax", most, max(first, DefaultBackoffMax), first)
	return first, most, err
}
