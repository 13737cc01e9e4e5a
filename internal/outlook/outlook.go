// Package outlook decides what one member's core is told of a view: which shards and resources the member owns, whether
// anybody could take over what it releases, and whether it claims anything for now. The package is pure. Members use it
// (internal/member), and so does their simulation (internal/sim).
package outlook

import (
	"time"

	"github.com/distributed-resource-manager/drm/internal/core"
	"github.com/distributed-resource-manager/drm/membership"
)

// settleMost bounds the waits of a member that joins, as a multiple of its JoinDelay, so that a member that is stuck
// while it joins does not delay the others for longer.
const settleMost = 8

// SettleMost is the longest time for which a member waits for others that join.
func SettleMost(joinDelay time.Duration) time.Duration { return settleMost * joinDelay }

// Self is what a member knows of itself when it looks at a view. Times are those of its own clock.
type Self struct {
	ID         string
	Registered int64         // the create revision of its key; 0: it is not registered
	ActiveAt   time.Duration // when it first became active or unready; 0: it has not
	Now        time.Duration
	JoinDelay  time.Duration // how long no other member must have come until a member that joins becomes active
}

// Outlook is what a view means for one member.
type Outlook struct {
	Owned    []bool          // for each shard: whether the member owns it
	Moved    core.Exceptions // from that, by resource
	Share    core.Share      // the part of each key's rate that the member has
	Declined []bool          // the shards that it declines, as the others know; nil: none
	Lacks    []int           // as membership.View.Lacks has it
	Alone    bool            // no other member could take over what this one releases
	Waits    bool            // the member claims nothing new for now
	Until    time.Duration   // if it waits: when it must look again at the latest; 0: when another view comes
}

// Of returns what a view means for a member: it owns nothing if it is not registered, or if the view has another
// registration of its id. ok is false if the view is older than the registration. Then nothing follows from it, because
// a later one will come.
func Of(v *membership.View, self Self) (o Outlook, ok bool) {
	o.Owned = make([]bool, v.Shards)
	if self.Registered != 0 {
		if v.Revision < self.Registered {
			return Outlook{}, false
		}
		switch me := v.Members[self.ID]; {
		case me.CreateRevision != self.Registered:
		case me.State == membership.Joining:
			o.Owned, o.Share = prospect(v, self.ID), share(v, self.ID)
		default:
			o.Owned, o.Declined = v.Owned(self.ID), v.DeclineOf(self.ID).Shards
			o.Moved, o.Share = v.MovedOf(self.ID), share(v, self.ID)
		}
	}
	_, awaited := v.Awaited(self.ID) // then nobody takes over what this member releases
	o.Alone, o.Lacks = v.Alone(self.ID) || awaited, v.Lacks()
	o.Waits, o.Until = waits(v, self)
	return o, true
}

// Tell tells the core of a member. The core keeps Moved, so an Outlook is told once.
func (o *Outlook) Tell(c *core.Core, now time.Duration) {
	if o.Waits { // a pause begins before the shards are set, and ends after it
		c.PauseClaims(now, true)
	}
	c.SetAlone(now, o.Alone)
	c.SetShare(now, o.Share)
	c.SetDeclined(now, o.Declined, o.Lacks)
	c.SetOwned(now, o.Owned, o.Moved)
	c.PauseClaims(now, o.Waits)
}

// Keeps says which shards wait for a member that stops with Rejoin: those that it owns by the last view that it has
// seen, except what it declines by now, and what it owns only since nobody else takes it. Another member may have got
// these meanwhile, since it has room for them. declines is what the member wants to decline; nil: nothing.
func Keeps(v *membership.View, id string, declines []bool) []bool {
	keeps := v.Owned(id)
	for n := range keeps {
		declined := n < len(declines) && declines[n]
		keeps[n] = keeps[n] && !declined && v.Takes(id, n)
	}
	return keeps
}

// share returns which part of each key's rate a member has.
func share(v *membership.View, id string) core.Share {
	mine, all := v.Share(id)
	return core.Share{Mine: mine, All: all, Since: v.Members[id].CreateRevision, Alone: mine == all}
}

// Others returns the create revisions of the members other than id that are joining, and whether another one is active
// or unready: such a member has joined, and owns shards, or will as soon as it is ready.
func Others(v *membership.View, id string) (joining map[string]int64, active bool) {
	joining = map[string]int64{}
	for other, m := range v.Members {
		switch {
		case other == id:
		case m.State == membership.Joining:
			joining[other] = m.CreateRevision
		case m.HasJoined():
			active = true
		}
	}
	return joining, active
}

// waits reports whether a member claims nothing for now, because it is joining, or because it is new and others are
// joining. It keeps what it has. until is when it claims again at the latest; 0: when a view shows that it has joined.
func waits(v *membership.View, self Self) (waits bool, until time.Duration) {
	if self.ActiveAt == 0 || v.Members[self.ID].State == membership.Joining {
		return true, 0
	}
	until = self.ActiveAt + SettleMost(self.JoinDelay)
	if self.Now >= until {
		return false, 0
	}
	joining, _ := Others(v, self.ID)
	return len(joining) > 0, until
}

// prospect returns the shards that a joining member will own, if that is certain: those that wait for it, all of them
// if it is alone, else none. The member already follows these while it waits for others, so that it begins sooner.
func prospect(v *membership.View, id string) []bool {
	if _, awaited := v.Awaited(id); awaited {
		return v.Owned(id)
	}
	owned := make([]bool, v.Shards)
	if joining, active := Others(v, id); !active && len(joining) == 0 {
		for n := range owned {
			owned[n] = true
		}
	}
	return owned
}
