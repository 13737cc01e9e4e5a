package calls

import (
	"errors"

	"github.com/distributed-resource-manager/drm/internal/core"
)

// The causes of the end of a context that the handler was given, as context.Cause returns them. The root package
// exports them, and documents them for users.
var (
	CauseStopped    = errors.New("drm: manager stopping")
	CauseMoved      = errors.New("drm: resource moved to another member")
	CauseRemoved    = errors.New("drm: resource removed")
	CauseChanged    = errors.New("drm: resource changed")
	CauseFenced     = errors.New("drm: lease too close to its deadline")
	CauseClaimLost  = errors.New("drm: claim vanished from etcd")
	CauseTimeout    = errors.New("drm: call timed out")
	CauseGivenUp    = errors.New("drm: call given up")
	CauseTerminated = errors.New("drm: terminated")
	CauseGone       = errors.New("drm: service restarted")
)

// causeOf translates a cause of the core; nil for NoCause.
func causeOf(c core.Cause) error {
	switch c {
	case core.Stopped:
		return CauseStopped
	case core.Moved:
		return CauseMoved
	case core.Removed:
		return CauseRemoved
	case core.Changed:
		return CauseChanged
	case core.Fenced:
		return CauseFenced
	case core.ClaimLost:
		return CauseClaimLost
	case core.Failure:
		return CauseTimeout
	case core.Gone:
		return CauseGone
	default:
		return nil
	}
}
