package drm

import (
	"context"

	"github.com/distributed-resource-manager/drm/internal/picture"
)

// OwnerChange says that another member than before has the claim on a resource.
type OwnerChange struct {
	Resource string
	Before   string // the member that had the claim; empty: none had
	Member   string // the member that has the claim now; empty: none has
	Token    int64  // the token of the new claim, or of the claim that ended
	Revision int64  // etcd's revision when it changed, or when that was noticed after a gap
	Fell     bool   // the token is not greater than that of an earlier claim, which is a violation
}

// FollowOwners calls changed for each change of ownership from now on, in the order of revisions. It returns when ctx
// ends, with the context's cause, or when it finds that etcd was rewound, with ErrStoreRewound. After a lost connection
// it tells which owners are others than before; owners in between are not seen. Where the app does not exist yet,
// FollowOwners waits for it.
//
// lost is called with the reason when etcd does not answer, or refuses, and with nil when etcd answers again: in turn,
// and never twice for one outage. It may be nil. Neither function may block for long. lost is called by another
// goroutine than changed.
func (c *Client) FollowOwners(ctx context.Context, changed func(OwnerChange), lost func(error)) error {
	if lost == nil {
		lost = func(error) {}
	}
	return c.anyReader().FollowOwners(ctx, func(o picture.OwnerChange) { changed(OwnerChange(o)) }, lost)
}
