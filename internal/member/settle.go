package member

import (
	"context"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/outlook"
	"github.com/distributed-resource-manager/drm/membership"
)

// When a group forms, or several members join at once, each join would move resources that the next one moves again. So
// a member that does not join alone waits until no other member has come for a moment. Then it becomes active, and
// claims nothing before the others are active too, so that all of them begin together. A member that joins a group
// alone does not wait.
//
// All this decides when a resource moves, never who has it: the claims decide that.

// formingFor is how long after the start of a member the group counts as one that forms.
const formingFor = 2 * time.Second

// awaitMembers returns when as many members have registered as a forming group should have, this one included, or when
// one of them has joined, so that the group has formed already. It waits for most at most.
func (p *place) awaitMembers(ctx context.Context, least int, most time.Duration) error {
	defer p.stir() // awaitOthers looks at the last view too
	over := time.NewTimer(most)
	defer over.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for other members that register: %w", context.Cause(ctx))
		case <-over.C:
			registered, _ := p.registered()
			p.log.Warn("fewer members than MinMembers have come in time; beginning with those that are there",
				zap.Int("members", registered), zap.Int("min_members", least), zap.Duration("waited", most))
			return nil
		case <-p.joiners:
			if registered, formed := p.registered(); formed || registered >= least {
				return nil
			}
		}
	}
}

// registered returns how many members have registered and do not leave, this one included, and whether another one has
// joined.
func (p *place) registered() (n int, formed bool) {
	v, reg := p.last.Load(), p.reg.Load()
	if v == nil || reg == nil || v.Revision < reg.CreateRevision {
		return 1, false
	}
	joining, active := outlook.Others(v, p.id)
	return 1 + len(joining), active
}

// stir makes those who wait for other members look at the last view. Any goroutine may call it.
func (p *place) stir() {
	select {
	case p.joiners <- struct{}{}:
	default:
	}
}

// awaitOthers returns when this member, which is registered and joining, may become active.
func (p *place) awaitOthers(ctx context.Context) error {
	most := time.NewTimer(outlook.SettleMost(p.joinDelay))
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
			quiet.Reset(p.joinDelay) // no view of this registration has come yet
		case <-p.joiners:
			v, reg := p.last.Load(), p.reg.Load()
			if v == nil || reg == nil || v.Revision < reg.CreateRevision {
				continue
			}
			joining, active := outlook.Others(v, p.id)
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

// forming reports whether a member other than this one has just started. It compares the members' wall clocks. If they
// are wrong, some resources move twice, or this member waits a moment in vain.
func (p *place) forming(v *membership.View) bool {
	for id, m := range v.Members {
		if age := p.wall().Sub(m.Started); id != p.id && age.Abs() < formingFor {
			return true
		}
	}
	return false
}

// joining returns the log fields of the wait for other members that join.
func (p *place) joining() []zap.Field {
	v := p.last.Load()
	if v == nil {
		return nil
	}
	joining, _ := outlook.Others(v, p.id)
	return []zap.Field{zap.Int("joining", len(joining))}
}
