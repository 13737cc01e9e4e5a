package drm

import (
	"context"

	"github.com/distributed-resource-manager/drm/internal/picture"
)

// Group is the members of an app, and the orders of its operators, at one moment.
type Group struct {
	Members  []MemberInfo // by id: those that are live, and those that are expected back (Config.Rejoin)
	Orders   []OrderInfo  // all that stand, by kind, member and shard, also those about members that are not there
	Schemas  string       // what Status.Schemas says
	Revision int64        // etcd's revision at which all but the members' own figures was read
}

func groupOf(l *picture.Roll) Group {
	return Group{
		Members: mapped(l.Members(), memberOf), Orders: mapped(l.Orders(), orderOf),
		Schemas: picture.SchemasOf(l.View), Revision: l.View.Revision,
	}
}

// Group reads the members and the orders, and of an app that does not exist that there are none. What it costs depends
// on how many members there are, and not on how many resources.
func (c *Client) Group(ctx context.Context) (Group, error) {
	r, err := c.reader(ctx)
	if r == nil || err != nil {
		return Group{Members: []MemberInfo{}, Orders: []OrderInfo{}}, err
	}
	roll, err := r.Roll(ctx)
	if err != nil {
		return Group{}, err
	}
	return groupOf(roll), nil
}

// FollowGroup calls changed with the group now, and after each change of it or of the members' figures, by watches of
// etcd, until ctx ends, and then returns the context's cause. It returns earlier where there is no such app (ErrNoApp),
// and where it finds that etcd was rewound (ErrStoreRewound). The calls come one at a time; changed must not block for
// long. lost is called as FollowOwners says, and may be nil.
func (c *Client) FollowGroup(ctx context.Context, changed func(Group), lost func(error)) error {
	r, err := c.needReader(ctx)
	if err != nil {
		return err
	}
	if lost == nil {
		lost = func(error) {}
	}
	return r.FollowRoll(ctx, func(l *picture.Roll) { changed(groupOf(l)) }, lost)
}
