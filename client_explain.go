package drm

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/picture"
)

// Errors of Client.Explain at a revision of the past.
var (
	// ErrFutureRevision says that etcd has not reached that revision.
	ErrFutureRevision = picture.ErrFuture
	// ErrOtherApp says that the app did not exist at that revision, or had another number of shards.
	ErrOtherApp = picture.ErrOtherApp
)

// Explain tells where a resource is, where it should be, and why; where these differ, what is waited for, and what
// would change it. It reads the members and what concerns this resource, and writes nothing. A resource that the
// catalogue does not have is explained too: where it would go. Errors: an *InputError for a bad id or revision,
// ErrNoApp, ErrAppGone where the app has keys, but not the one that makes it exist; ErrCompacted, ErrFutureRevision and
// ErrOtherApp about ExplainOptions.Revision.
func (c *Client) Explain(ctx context.Context, id string, o ExplainOptions) (Explanation, error) {
	if err := keys.CheckID(id); err != nil {
		return Explanation{}, fmt.Errorf("explain: %w", &InputError{"id", id, err.Error()})
	}
	if o.Revision < 0 {
		return Explanation{}, fmt.Errorf("explain: %w",
			&InputError{"Revision", fmt.Sprint(o.Revision), "0 (now), or a revision of etcd"})
	}
	desk, err := c.watchedDesk(ctx)
	if err != nil {
		return Explanation{}, fmt.Errorf("explain resource %q: %w", id, err)
	}
	e, err := desk.Reader.Explain(ctx, id, desk.Created, o.Revision)
	return explanationOf(e), err
}

// FollowExplanation calls changed with what Explain tells now, and then whenever more of it changes than the revision
// and the time that leases have left, by watches of etcd, until ctx ends, and then returns the context's cause. It
// returns earlier with the errors of Explain. The calls come one at a time. lost is called as FollowOwners says, and
// may be nil.
func (c *Client) FollowExplanation(
	ctx context.Context, id string, changed func(Explanation), lost func(error),
) error {
	if err := keys.CheckID(id); err != nil {
		return fmt.Errorf("explain: %w", &InputError{"id", id, err.Error()})
	}
	desk, err := c.watchedDesk(ctx)
	if err != nil {
		return fmt.Errorf("explain resource %q: %w", id, err)
	}
	if lost == nil {
		lost = func(error) {}
	}
	tell := func(e picture.Explanation) { changed(explanationOf(e)) }
	return desk.Reader.FollowExplanation(ctx, id, desk.Created, tell, lost)
}

// DescribeResource tells all that is known of a resource, its data included. ErrNotFound says that there is neither an
// entry, nor a claim, nor a record of quarantine.
func (c *Client) DescribeResource(ctx context.Context, id string) (ResourceDetail, error) {
	if err := keys.CheckID(id); err != nil {
		return ResourceDetail{}, fmt.Errorf("describe a resource: %w", &InputError{"id", id, err.Error()})
	}
	desk, err := c.watchedDesk(ctx)
	if err != nil {
		return ResourceDetail{}, fmt.Errorf("describe resource %q: %w", id, err)
	}
	d, err := desk.Reader.DescribeResource(ctx, id, desk.Created)
	return resourceDetailOf(d), err
}

// DescribeMember tells all that is known of a member, also of one that is not there. ErrNotFound says that nothing is.
// It reads the members, this member's own keys, and the trails and records of quarantine of all shards.
func (c *Client) DescribeMember(ctx context.Context, id string) (MemberDetail, error) {
	if err := keys.CheckID(id); err != nil {
		return MemberDetail{}, fmt.Errorf("describe a member: %w", &InputError{"id", id, err.Error()})
	}
	desk, err := c.watchedDesk(ctx)
	if err != nil {
		return MemberDetail{}, fmt.Errorf("describe member %q: %w", id, err)
	}
	d, err := desk.Reader.DescribeMember(ctx, id)
	return memberDetailOf(d), err
}

// DescribeShard tells all that is known of a shard. It reads the members, and of the catalogue this shard only. An
// *InputError says that there is no such shard.
func (c *Client) DescribeShard(ctx context.Context, shard int) (ShardDetail, error) {
	desk, err := c.watchedDesk(ctx)
	if err == nil {
		err = checkShard(desk, shard)
	}
	if err != nil {
		return ShardDetail{}, fmt.Errorf("describe shard %d: %w", shard, err)
	}
	d, err := desk.Reader.DescribeShard(ctx, shard)
	return shardDetailOf(d), err
}

// WatchResource yields what DescribeResource tells, and then each change of more than the revision and the time that
// leases have left, by watches of etcd, and no more often than once in a second. It goes on until ctx ends; then the
// last error is the context's cause. The first error is one of DescribeResource's. Where nothing is known of the
// resource any more, that is a WatchGone, with what was known last. Where something may have been missed, it begins
// anew, with a list of one. lost is called as WatchAssignments says, and may be nil.
func (c *Client) WatchResource(
	ctx context.Context, id string, lost func(error),
) iter.Seq2[Watched[ResourceDetail], error] {
	type changes = changesOf[picture.ResourceDetail]
	return watchedOne(ctx, c, "describe resource", id, resourceDetailOf, func(d *order.Desk) changes {
		return d.Reader.WatchResource(ctx, id, d.Created, unlessNil(lost))
	})
}

// WatchMember is DescribeMember as WatchResource is DescribeResource. Since the resources that may be to blame for a
// member's death are in any shard, it watches the whole app.
func (c *Client) WatchMember(
	ctx context.Context, id string, lost func(error),
) iter.Seq2[Watched[MemberDetail], error] {
	type changes = changesOf[picture.MemberDetail]
	return watchedOne(ctx, c, "describe member", id, memberDetailOf, func(d *order.Desk) changes {
		return d.Reader.WatchMember(ctx, id, unlessNil(lost))
	})
}

// WatchShard is DescribeShard as WatchResource is DescribeResource.
func (c *Client) WatchShard(
	ctx context.Context, shard int, lost func(error),
) iter.Seq2[Watched[ShardDetail], error] {
	return func(yield func(Watched[ShardDetail], error) bool) {
		desk, err := c.watchedDesk(ctx)
		if err == nil {
			err = checkShard(desk, shard)
		}
		if err != nil {
			yield(Watched[ShardDetail]{}, fmt.Errorf("describe shard %d: %w", shard, err))
			return
		}
		inWords(desk.Reader.WatchShard(ctx, shard, unlessNil(lost)), shardDetailOf)(yield)
	}
}

// watchedOne watches the thing with an id.
func watchedOne[A, B any](
	ctx context.Context, c *Client, what, id string, word func(A) B, watch func(*order.Desk) changesOf[A],
) iter.Seq2[Watched[B], error] {
	return func(yield func(Watched[B], error) bool) {
		if err := keys.CheckID(id); err != nil {
			yield(Watched[B]{}, fmt.Errorf("%s: %w", what, &InputError{"id", id, err.Error()}))
			return
		}
		desk, err := c.watchedDesk(ctx)
		if err != nil {
			yield(Watched[B]{}, fmt.Errorf("%s %q: %w", what, id, err))
			return
		}
		inWords(watch(desk), word)(yield)
	}
}

// watchedDesk is desk, with another error where the app has keys but not the one that makes it exist: without that key
// nobody knows the number of shards.
func (c *Client) watchedDesk(ctx context.Context) (*order.Desk, error) {
	desk, err := c.desk(ctx)
	if !errors.Is(err, ErrNoApp) {
		return desk, err
	}
	if there, failed := c.Exists(ctx); failed == nil && there {
		return nil, fmt.Errorf("%w: without it nobody knows the shard of a resource, and members claim nothing; "+
			"`drmctl verify` tells more", ErrAppGone)
	}
	return nil, err
}
