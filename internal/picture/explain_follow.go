package picture

import (
	"context"
	"errors"
	"reflect"

	"github.com/distributed-resource-manager/drm/internal/etcd"
	"github.com/distributed-resource-manager/drm/shard"
)

// FollowExplanation calls changed with the explanation of a resource now, and with each that differs by more than its
// revision and the time left of leases, until ctx ends; the error has its cause. It also returns if etcd refuses.
// created is the create revision of the app's config key. lost is called as FollowOwners says. The calls come one at a
// time.
func (r *Reader) FollowExplanation(
	ctx context.Context, id string, created int64, changed func(Explanation), lost func(error),
) error {
	n := shard.Of(id, r.Shards)
	prefixes := []string{
		r.Layout.Group(), r.Layout.Resource(n, id), r.Layout.Claim(n, id), r.Layout.Summaries(n),
		r.Layout.Quarantine(n, id),
	}
	var before Explanation
	told, out := false, false
	return r.until(ctx, nil, prefixes, func(ctx context.Context) (bool, error) {
		e, err := r.Explain(ctx, id, created, 0)
		switch {
		case errors.Is(err, etcd.ErrUnreachable):
			if !out {
				out = true
				lost(err)
			}
			return false, err
		case err != nil:
			return false, err
		case out:
			out = false
			lost(nil)
		}
		if still := e.still(); !told || !reflect.DeepEqual(still, before) {
			before, told = still, true
			changed(e)
		}
		return false, nil
	})
}

// still returns the explanation without what changes all the time.
func (e Explanation) still() Explanation {
	e.Revision = 0
	if e.Claim != nil {
		c := *e.Claim
		c.Lease.Left, c.MemberLease.Left = 0, 0
		e.Claim = &c
	}
	reasons := make([]Reason, len(e.Reasons))
	for i, reason := range e.Reasons {
		if reason.Wait != nil {
			w := *reason.Wait
			w.Left = 0
			reason.Wait = &w
		}
		reasons[i] = reason
	}
	e.Reasons = reasons
	return e
}
