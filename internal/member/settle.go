package member

import (
	"context"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/membership"
)

// When a group forms, or several members join at once, each join by itself would move resources that the next one moves
// again. So a member that does not join alone waits until no other one has come for a moment, and all of them begin
// together: it becomes active then, and takes nothing before the others are active too. A member that joins a group
// alone is not delayed.
//
// All of that decides when something moves, never who has it: the claims decide that.

// settleMost bounds both waits, in JoinDelays: a member that is stuck while joining delays the others for no longer.
const settleMost = 8

// formingFor is for how long after the start of a member the group counts as one that forms.
const formingFor = 2 * time.Second

// awaitOthers returns when this member, which is registered, may become active.
func (p *place) awaitOthers(ctx context.Context) error {
	most := time.NewTimer(settleMost * p.joinDelay)
	defer most.Stop()
	quiet := time.NewTimer(p.joinDelay)
	defer quiet.Stop()
	began := p.loop.clock.Now()
	var seen map[string]int64
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for other members that join: %w", context.Cause(ctx))
		case <-most.C:
			return nil
		case <-quiet.C:
			if seen != nil {
				p.log.Debug("the group has settled",
					zap.Duration("after", p.loop.clock.Now()-began), zap.Int("members", len(seen)))
				return nil
			}
			quiet.Reset(p.joinDelay) // etcd has not told yet who is there
		case <-p.joiners:
			v, reg := p.last.Load(), p.reg.Load()
			if v == nil || reg == nil || v.Revision < reg.CreateRevision {
				continue
			}
			joining, active := others(v, p.id)
			if active && len(joining) == 0 && !p.forming(v) {
				return nil
			}
			if seen == nil || !maps.Equal(seen, joining) {
				seen = joining
				quiet.Reset(p.joinDelay)
			}
		}
	}
}

// others are the members besides id that are joining, by create revision, and whether any other one is active already.
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

// forming says whether a member besides this one has started only now. It goes by the members' wall clocks. Where they
// are wrong, something moves twice, or this member waits a moment for nobody.
func (p *place) forming(v *membership.View) bool {
	for id, m := range v.Members {
		if age := p.wall().Sub(m.Started); id != p.id && age.Abs() < formingFor {
			return true
		}
	}
	return false
}

// waits says whether this member claims nothing for now, and until when at the latest: it is joining, or it is new
// itself while others are about to join. What it has already it keeps. p.mu is held.
func (p *place) waits(v *membership.View) (waits bool, until time.Duration) {
	if p.activeAt == 0 || v.Members[p.id].State == membership.Joining {
		return true, 0 // until a view has it active
	}
	until = p.activeAt + settleMost*p.joinDelay
	if p.loop.clock.Now() >= until {
		return false, 0
	}
	joining, _ := others(v, p.id)
	return len(joining) > 0, until
}

// prospect is what a member that joins will own, if that is certain: where it is alone, everything. To follow it
// already spares the time in which the member waits for others. p.mu is held.
func (p *place) prospect(v *membership.View) []bool {
	owned := make([]bool, v.Shards)
	if joining, active := others(v, p.id); !active && len(joining) == 0 {
		for n := range owned {
			owned[n] = true
		}
	}
	return owned
}

// joining is a detail of waiting for others that join.
func (p *place) joining() []zap.Field {
	fields := []zap.Field{zap.Duration("at_most", settleMost*p.joinDelay)}
	if v := p.last.Load(); v != nil {
		joining, _ := others(v, p.id)
		fields = append(fields, zap.Int("joining", len(joining)))
	}
	return fields
}
