package order

import (
	"context"
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/picture"
	"github.com/distributed-resource-manager/drm/membership"
)

// Drain orders that a member hold nothing, until Undrain.
//
// Errors: picture.ErrNotFound, ErrLastMember, ErrChanged, appconfig.ErrGone, and those of a Reader.
func (d *Desk) Drain(ctx context.Context, member string, o Options) error {
	layout := d.Reader.Layout
	return d.change(ctx, layout.Drain(member), o.IfRevision, func(v *membership.View) (change, error) {
		r, stands := v.Drains[member]
		if !stands {
			switch {
			case !o.Absent && !v.Known(member):
				return change{}, picture.ErrNotFound
			case !o.Force && v.LastToTake(member):
				return change{}, lastMember(v, member)
			}
			if !o.AtOnce && !v.LastToTake(member) { // a coordinator places these elsewhere, a few at a time
				r.Keeps = v.Owned(member)
			}
		}
		c := restrict(r, stands, o, d.now())
		if !stands && !o.Force { // another drain must not come in between
			c.only, c.covered = d.noOtherLeaves(v), true
		}
		return c, nil
	})
}

// lastMember says why a member must not be drained that is the last one to take anything.
func lastMember(v *membership.View, member string) error {
	for _, m := range (&picture.Roll{View: v}).Members() {
		if m.ID != member && m.Reason != "" && m.Drain == "" && m.State != picture.StateAbsent {
			return fmt.Errorf("%w: %s could take what it has, but is not ready (%s); %s",
				ErrLastMember, m.ID, m.Reason, helpers(v, member))
		}
	}
	return fmt.Errorf("%w: nobody could take what it has; %s", ErrLastMember, helpers(v, member))
}

// helpers says how another member comes to take what the last one has: only what would help is named.
func helpers(v *membership.View, last string) string {
	drained, weightless := false, false
	for id, m := range v.Members {
		if id != last && m.State != membership.Leaving {
			drained = drained || v.Ordered(id)
			weightless = weightless || v.WeightOf(id) == 0
		}
	}
	ways := "start another member"
	if drained {
		ways += ", or undrain one"
	}
	if weightless {
		ways += ", or give one a weight above 0"
	}
	if drained || weightless {
		ways += ","
	}
	return ways + " first"
}

// Cordon orders that a member keep what it has, and take nothing new, until Uncordon. Its errors are those of Drain,
// less ErrLastMember: where everybody is cordoned, members take what nobody keeps.
func (d *Desk) Cordon(ctx context.Context, member string, o Options) error {
	return d.change(ctx, d.Reader.Layout.Cordon(member), o.IfRevision, func(v *membership.View) (change, error) {
		r, stands := v.Cordons[member]
		if !stands {
			if !o.Absent && !v.Known(member) {
				return change{}, picture.ErrNotFound
			}
			r.Keeps = v.Owned(member)
		}
		o.AtOnce, o.Force = false, false
		return restrict(r, stands, o, d.now()), nil
	})
}

// restrict makes the change that gives an order to keep shards away from a member, or that makes one which stands say
// what the options say.
func restrict(r membership.Restriction, stands bool, o Options, now time.Time) change {
	if stands && o.Why == "" && o.For == 0 && (!o.Force || r.Force) && (!o.AtOnce || r.Keeps == nil) {
		return change{none: true}
	}
	said := o.order(now)
	if stands {
		said.Since = r.Since
	}
	if o.By != "" {
		r.By = o.By
	}
	if o.Why != "" {
		r.Why = o.Why
	}
	r.Since = said.Since
	if r.Force = r.Force || o.Force; o.AtOnce {
		r.Keeps = nil
	}
	if o.For > 0 {
		r.Until = now.Add(o.For).UTC().Truncate(time.Second)
	}
	return change{value: r.Encode(), life: o.For}
}

// Undrain takes an order of Drain back. It returns picture.ErrNotFound where there is neither such an order nor such a
// member.
func (d *Desk) Undrain(ctx context.Context, member string) error {
	return d.change(ctx, d.Reader.Layout.Drain(member), 0, func(v *membership.View) (change, error) {
		_, stands := v.Drains[member]
		return takeBack(v, member, stands)
	})
}

// Uncordon takes an order of Cordon back. Its errors are those of Undrain.
func (d *Desk) Uncordon(ctx context.Context, member string) error {
	return d.change(ctx, d.Reader.Layout.Cordon(member), 0, func(v *membership.View) (change, error) {
		_, stands := v.Cordons[member]
		return takeBack(v, member, stands)
	})
}

func takeBack(v *membership.View, member string, stands bool) (change, error) {
	if !v.Known(member) {
		return change{}, fmt.Errorf("%w: there is neither such a member nor such an order", picture.ErrNotFound)
	}
	return change{none: !stands, delete: true}, nil
}
