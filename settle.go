package drm

import (
	"context"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/membership"
)

// When a group forms, or several members join at once, each join by itself would move resources that the next one moves
// again. So a member that does not join alone waits until no other one has come for a moment, and all begin together: it
// becomes active then, and takes nothing before the others are too. A lone join to a group that is there is not delayed.
//
// All of that is a matter of when, never of who: the claims see to that.

// settleMost bounds both waits, in JoinDelays: a member that is stuck while joining holds up the others no longer.
const settleMost = 8

// formingFor is how long after the start of a member the group counts as one that forms.
const formingFor = 2 * time.Second

// awaitOthers returns when this member, which is registered, may become active.
func (g *group) awaitOthers(ctx context.Context) error {
	delay := g.m.cfg.JoinDelay
	most := time.NewTimer(settleMost * delay)
	defer most.Stop()
	quiet := time.NewTimer(delay)
	defer quiet.Stop()
	began := g.m.now()
	var seen map[string]int64
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for other members that join: %w", context.Cause(ctx))
		case <-most.C:
			return nil
		case <-quiet.C:
			if seen != nil {
				g.m.log.Debug("the group has settled", zap.Duration("after", g.m.now()-began), zap.Int("members", len(seen)))
				return nil
			}
			quiet.Reset(delay) // etcd has not told yet who is there
		case <-g.joiners:
			v, reg := g.last.Load(), g.reg.Load()
			if v == nil || reg == nil || v.Revision < reg.CreateRevision {
				continue
			}
			joining, active := others(v, g.m.id)
			if active && len(joining) == 0 && !g.forming(v) {
				return nil
			}
			if seen == nil || !maps.Equal(seen, joining) {
				seen = joining
				quiet.Reset(delay)
			}
		}
	}
}

// others are the members besides id that are joining, by create revision, and whether any is active already.
func others(v *membership.View, id string) (joining map[string]int64, active bool) {
	joining = map[string]int64{}
	for other, m := range v.Members {
		switch {
		case other == id:
		case m.State == membership.Joining:
			joining[other] = m.CreateRevision
		case m.State == membership.Active:
			active = true
		}
	}
	return joining, active
}

// forming says whether a member besides this one has started only now. It goes by the members' wall clocks; where they
// are wrong, something moves twice, or this member waits a moment for nobody.
func (g *group) forming(v *membership.View) bool {
	for id, m := range v.Members {
		if age := g.m.wall().Sub(m.Started); id != g.m.id && age.Abs() < formingFor {
			return true
		}
	}
	return false
}

// hold says whether this member claims nothing for now, and until when at the latest: it is joining, or new itself while
// others are about to join. What it already has it keeps. g.mu is held.
func (g *group) hold(v *membership.View) (held bool, until time.Duration) {
	if g.activeAt == 0 || v.Members[g.m.id].State == membership.Joining {
		return true, 0 // until a view has it active
	}
	until = g.activeAt + settleMost*g.m.cfg.JoinDelay
	if g.m.now() >= until {
		return false, 0
	}
	joining, _ := others(v, g.m.id)
	return len(joining) > 0, until
}

// prospect is what a member that joins will own, if that is plain: where it is alone, everything. To follow it already
// spares the time in which it waits for others. g.mu is held.
func (g *group) prospect(v *membership.View) []bool {
	owned := make([]bool, v.Shards)
	if joining, active := others(v, g.m.id); !active && len(joining) == 0 {
		for n := range owned {
			owned[n] = true
		}
	}
	return owned
}
