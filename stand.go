package drm

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/membership"
)

// The pause of a member that has resigned because a Fetch did not return, before it stands for coordinator again: doubled with
// each one in a row, up to the longest. The others stand as soon as they hear; where there is none, nobody could ask earlier.
const (
	leastRest = 15 * time.Second
	mostRest  = 4 * time.Minute
)

// rest is such a pause.
type rest struct {
	until time.Duration // 0: there is none
	times int           // that it was begun, with no Fetch that has returned since
	term  int64         // that it was begun after
}

// begin begins a pause after a term, once.
func (r *rest) begin(m *Manager, term int64) {
	if r.term == term {
		return
	}
	pause := min(leastRest<<min(r.times, 16), mostRest)
	r.until, r.times, r.term = m.now()+pause, r.times+1, term
	m.log.Info("resigned; not standing for coordinator again before its Fetch has returned, or a pause is over", zap.Duration("pause", pause))
}

// left is what is left of the pause: none once Fetch has returned.
func (r *rest) left(m *Manager) time.Duration {
	if r.until == 0 {
		return 0
	}
	left := r.until - m.now()
	switch {
	case !m.source.Hangs():
		r.until, r.times = 0, 0
		return 0
	case left <= 0:
		r.until = 0
		return 0
	}
	return left
}

// resign makes run give the office of a term up.
func (g *group) resign(term int64) {
	g.resigned.Store(term)
	g.wake()
}

// stand takes the office where nobody has it, enters it where the view says it is this member's, and resigns where this
// member has no source and another one has, or its source does not return. False asks to be called again soon.
func (g *group) stand(ctx context.Context, v *membership.View) bool {
	m, reg := g.m, g.reg.Load()
	if reg == nil {
		return true
	}
	c := v.Coordinator
	if c.CreateRevision != 0 && c.CreateRevision == g.term && (c.Lease != int64(reg.Lease) || c.ID != m.id) {
		m.log.Warn("the coordinator's key was overwritten; putting it again")
		if err := m.registrar.KeepOffice(ctx, *reg, g.term); err != nil {
			g.warn(ctx, "cannot keep the office", err)
			return false
		}
		return true
	}
	mine := c.CreateRevision != 0 && c.Lease == int64(reg.Lease)
	yield := m.cfg.Retriever == nil && v.SourceWanted(m.id)
	switch {
	case mine && (yield || c.CreateRevision == g.resigned.Load()):
		g.leaveOffice()
		if err := m.registrar.Resign(ctx, c.CreateRevision); err != nil {
			g.warn(ctx, "cannot resign", err)
			return false
		}
		if !yield {
			g.rest.begin(m, c.CreateRevision)
		}
	case mine:
		if g.term != c.CreateRevision {
			g.leaveOffice()
			g.term = c.CreateRevision
			g.office = m.source.Term(c.CreateRevision, g.inherits)
			g.inherits = true
			g.office.Enter(m.ctx)
		}
	default:
		g.leaveOffice()
		if c.CreateRevision != 0 {
			coordinator, known := v.Members[c.ID]
			if coordinator.Source || !known { // one without a source resigns as soon as it sees this member
				m.firstFetch(nil) // another member sees to the source
			}
			g.inherits = g.inherits || coordinator.Source
		}
		if c.CreateRevision == 0 && !yield && v.Members[m.id].State == membership.Active && g.rest.left(m) == 0 {
			won, err := m.registrar.StandForCoordinator(ctx, *reg)
			if err != nil {
				g.warn(ctx, "cannot stand for coordinator", err)
			}
			return won // the next view tells; ask again where somebody else was faster, or etcd did not answer
		}
	}
	return true
}

func (g *group) leaveOffice() {
	if g.office != nil {
		g.office.Leave()
		g.office, g.term = nil, 0
	}
}
