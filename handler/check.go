package handler

import (
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// The range of every duration that this package is configured with.
const (
	minDuration = time.Millisecond
	maxDuration = 24 * time.Hour
)

// checkDuration gives d, or def where d is zero; out of [least, 24 h] it is an *drm.InputError.
func checkDuration(field string, d, def, least time.Duration) (time.Duration, error) {
	if d == 0 {
		d = def
	}
	if d < least || d > maxDuration {
		return 0, &drm.InputError{Field: field, Value: d.String(), Want: fmt.Sprintf("%v to %v", least, maxDuration)}
	}
	return d, nil
}
