package handler

import (
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm"
)

// The limits of every duration in this package's configuration.
const (
	minDuration = time.Millisecond
	maxDuration = 24 * time.Hour
)

// checkDuration returns d, or def if d is zero. A value below least or above 24 h is a *drm.InputError.
func checkDuration(field string, d, def, least time.Duration) (time.Duration, error) {
	if d == 0 {
		d = def
	}
	if d < least || d > maxDuration {
		return 0, &drm.InputError{Field: field, Value: d.String(), Want: fmt.Sprintf("%v to %v", least, maxDuration)}
	}
	return d, nil
}
