package member

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/distributed-resource-manager/drm/internal/pace"
	"github.com/distributed-resource-manager/drm/internal/source"
	"github.com/distributed-resource-manager/drm/membership"
)

// office is this member's part in who coordinates: its term while it coordinates, and what it remembers of earlier
// terms.
type office struct {
	term     *source.Term     // nil while this member does not coordinate
	number   int64            // the create revision of the coordinator's key while this member coordinates, else 0
	inherits bool             // this member knows of an earlier coordinator that had a source
	resigned atomic.Int64     // the number of the term that this member gives up; any goroutine may set it
	rest     rest             // the pause before it stands for coordinator again
	before   *membership.View // the view that heed looked at last
	vacant   time.Duration    // since when the office has been free for this member; 0: it was not, when stand looked
}

// readyFirst is for how long an unready member leaves a free office to a ready one, and a member of an older version to
// one of the newer version. It can ask the source as well as others, and so takes the office after that: the others may
// be unable to (a Fetch hangs, or they are cut off).
const readyFirst = 2 * time.Second

// A member that resigned because a Fetch did not return pauses before it stands for coordinator again. The pause
// doubles with each such term in a row, from leastRest to mostRest. Other members stand as soon as they see that the
// office is free. Without any, the pause loses nothing: no Fetch could begin before the last one has returned.
const (
	leastRest = 15 * time.Second
	mostRest  = 4 * time.Minute
)

// rest is such a pause.
type rest struct {
	until  time.Duration // when the pause ends; 0: there is none
	times  int           // how many pauses have begun since a Fetch returned
	pauses *pace.Pauses  // their lengths
	term   int64         // the term that the last pause followed
}

// begin begins the pause after a term and returns its length. It returns 0 if that pause has begun before.
func (r *rest) begin(now time.Duration, term int64) time.Duration {
	if r.term == term {
		return 0
	}
	if r.times == 0 {
		r.pauses = pace.New(leastRest, mostRest, 0)
	}
	pause := r.pauses.Next()
	r.until, r.times, r.term = now+pause, r.times+1, term
	return pause
}

// left returns what is left of the pause. It is 0 once Fetch has returned, that is, when hangs is false.
func (r *rest) left(now time.Duration, hangs bool) time.Duration {
	if r.until == 0 {
		return 0
	}
	left := r.until - now
	switch {
	case !hangs:
		r.until, r.times = 0, 0
		return 0
	case left <= 0:
		r.until = 0
		return 0
	}
	return left
}

// resign makes run give up the office of a term. Any goroutine may call it.
func (p *place) resign(term int64) {
	p.resigned.Store(term)
	p.wake()
}

// stand takes the office if nobody has it, and enters it if the view says that this member has it. It resigns if this
// member has no source and another one has, or if the term was given up with resign. It returns false if it must be
// called again soon.
func (p *place) stand(ctx context.Context, v *membership.View) bool {
	reg := p.reg.Load()
	if reg == nil {
		return true
	}
	c := v.Coordinator
	taken := c.CreateRevision != 0
	if taken && c.CreateRevision == p.number && (c.Lease != int64(reg.Lease) || c.ID != p.id) {
		p.log.Warn("the coordinator's key was overwritten; putting it again")
		if err := p.registrar.KeepOffice(ctx, *reg, p.number); err != nil {
			p.warn(ctx, "cannot put the coordinator's key again", err)
			return false
		}
		return true
	}
	mine := taken && c.Lease == int64(reg.Lease)
	yield := !p.hasSource && v.SourceWanted(p.id)
	switch {
	case mine && (yield || c.CreateRevision == p.resigned.Load()):
		return p.giveUp(ctx, c.CreateRevision, yield)
	case mine:
		p.enter(c.CreateRevision)
		return true
	}
	p.leaveOffice()
	if taken {
		p.vacant = 0
		p.heedCoordinator(v)
		return true
	}
	now := p.loop.clock.Now()
	if p.vacant == 0 {
		p.vacant = now
	}
	me := v.Members[p.id]
	switch {
	case yield, !me.HasJoined(), p.rest.left(now, p.source.Hangs()) > 0:
		return true
	case now-p.vacant < readyFirst && v.BetterCoordinator(p.id):
		return false // look again soon
	}
	won, err := p.registrar.StandForCoordinator(ctx, *reg)
	if err != nil {
		p.warn(ctx, "cannot stand for coordinator", err)
	}
	return won // the next view shows it; stand again if another member was faster, or etcd did not answer
}

// giveUp leaves the office and deletes the coordinator's key. yield says that it leaves the office to a member with a
// source, so that no pause follows.
func (p *place) giveUp(ctx context.Context, number int64, yield bool) bool {
	p.leaveOffice()
	if err := p.registrar.Resign(ctx, number); err != nil {
		p.warn(ctx, "cannot resign", err)
		return false
	}
	if yield {
		return true
	}
	if pause := p.rest.begin(p.loop.clock.Now(), number); pause > 0 {
		p.log.Info("resigned; not standing for coordinator again until Fetch has returned or the pause is over",
			zap.Duration("pause", pause))
	}
	return true
}

// enter begins the term with this number, unless it has begun already.
func (p *place) enter(number int64) {
	if p.number == number {
		return
	}
	p.leaveOffice()
	p.number = number
	p.term = p.source.Term(number, p.inherits)
	p.inherits = true
	p.guide.enter(p.terms, number, p.last.Load())
	p.term.Enter(p.terms)
}

// heedCoordinator takes note that another member coordinates, or this one under a lease that it has no more.
func (p *place) heedCoordinator(v *membership.View) {
	coordinator, known := v.Members[v.Coordinator.ID]
	switch {
	case v.Coordinator.ID == p.id: // it is of this member's last lease, and goes away with that
	case coordinator.Source, !known: // a coordinator without a source resigns as soon as it sees a member with one
		p.told.firstFetch(nil) // the other member asks the source
	}
	p.inherits = p.inherits || coordinator.Source
}

func (p *place) leaveOffice() {
	if p.term != nil {
		p.term.Leave()
		p.guide.leave()
		p.term, p.number = nil, 0
	}
}
