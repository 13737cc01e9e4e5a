package member

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/distributed-resource-manager/drm/membership"
)

// retakeAfter is how long there must have been room until a member takes back shards that it has declined.
const retakeAfter = 10 * time.Second

// declines is what this member says of the shards that it declines to own, since it is full.
type declines struct {
	want atomic.Pointer[membership.Decline] // what the core wants to decline; nil: nothing
	said int64                              // the revision at which it was said last; run's goroutine owns it
	full bool                               // the log says that this member declines shards; run's goroutine owns it
}

// setDeclined sets what this member declines. Any goroutine may call it.
func (p *place) setDeclined(shards []bool, lacks []int) {
	p.declines.want.Store(&membership.Decline{Shards: shards, Lacks: lacks})
	p.wake()
}

// wanted returns what this member wants to decline. Any goroutine may call it.
func (d *declines) wanted() membership.Decline {
	if set := d.want.Load(); set != nil {
		return *set
	}
	return membership.Decline{}
}

// sayDeclined tells the other members which shards this one declines, unless the view shows it. It returns false if it
// has to be tried again.
func (p *place) sayDeclined(ctx context.Context, v *membership.View, reg membership.Registration) bool {
	d := &p.declines
	want := d.wanted()
	if v.Revision < d.said || v.DeclineOf(p.id).Equal(want) {
		return true
	}
	revision, err := p.registrar.Decline(ctx, reg, want)
	switch {
	case errors.Is(err, membership.ErrGone): // the next view shows that
		return true
	case err != nil:
		p.warn(ctx, "cannot tell the other members which shards this one declines", err)
		return false
	}
	d.said = revision
	if full := want.Shards != nil; full != d.full {
		if d.full = full; full {
			p.log.Warn("this member is full (MaxResources); it declines further shards, for others to take")
		} else {
			p.log.Info("this member has room again; it declines no shards any more")
		}
	}
	return true
}
