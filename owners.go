package drm

import (
	"context"

	"github.com/distributed-resource-manager/drm/internal/picture"
)

// OwnerChange tells that a resource has another owner than before.
type OwnerChange struct {
	Resource string
	Before   string // the member that had the claim; empty: nobody
	Member   string // the member that has it; empty: nobody
	Token    int64  // of the new claim, or of the one that ended
	Revision int64  // etcd's, when it changed, or when it was noticed after a gap
	Fell     bool   // the token is not greater than that of an earlier claim: a violation
}

// FollowOwners calls changed for each change of ownership from now on, in the order of revisions, until ctx ends, and
// returns its cause; or until etcd turns out to have been rewound: ErrStoreRewound. After a lost connection it tells
// what changed meanwhile; owners in between are not seen. Where the app does not exist yet it waits for it.
//
// lost is called with the reason when etcd does not answer, or refuses, and with nil when it answers again: in turn,
// and never twice for one outage. It may be nil. Neither may block for long; lost is called by another goroutine than
// changed.
func (c *Client) FollowOwners(ctx context.Context, changed func(OwnerChange), lost func(error)) error {
	if lost == nil {
		lost = func(error) {}
	}
	return c.anyReader().FollowOwners(ctx, func(o picture.OwnerChange) { changed(OwnerChange(o)) }, lost)
}
