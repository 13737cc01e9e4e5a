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

// office is the member's part in who coordinates: its term while it does, and what it remembers of earlier ones.
type office struct {
	term     *source.Term     // nil while this member does not coordinate
	number   int64            // the create revision of the coordinator's key while this member coordinates, else 0
	inherits bool             // a source has had a coordinator since this member came
	resigned atomic.Int64     // the number of the term that this member gives up; any goroutine may set it
	rest     rest             // before it stands again
	before   *membership.View // that was looked at last
}

// The pause of a member that has resigned because a Fetch did not return, before it stands for coordinator again. It
// doubles with each one in a row, up to the longest. The others stand as soon as they hear of it; where there is none,
// nobody could ask earlier.
const (
	leastRest = 15 * time.Second
	mostRest  = 4 * time.Minute
)

// rest is such a pause.
type rest struct {
	until  time.Duration // 0: there is none
	times  int           // that it was begun, with no Fetch that has returned since
	pauses *pace.Pauses  // of those times
	term   int64         // that it was begun after
}

// begin begins a pause after a term, once, and returns how long it is; 0 where it was begun before.
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

// left is what is left of the pause: nothing once Fetch has returned.
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

// resign makes run give the office of a term up. Any goroutine may call it.
func (p *place) resign(term int64) {
	p.resigned.Store(term)
	p.wake()
}

// stand takes the office where nobody has it, enters it where the view says that it is this member's, and resigns where
// this member has no source and another one has, or where its source does not return. False asks to be called again
// soon.
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
			p.warn(ctx, "cannot keep the office", err)
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
		p.heedCoordinator(v)
		return true
	}
	if yield || v.Members[p.id].State != membership.Active || p.rest.left(p.loop.clock.Now(), p.source.Hangs()) > 0 {
		return true
	}
	won, err := p.registrar.StandForCoordinator(ctx, *reg)
	if err != nil {
		p.warn(ctx, "cannot stand for coordinator", err)
	}
	return won // the next view tells; ask again where somebody else was faster, or etcd did not answer
}

// giveUp leaves the office and deletes the coordinator's key. To yield is to leave it to a member that has a source.
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
		p.log.Info("resigned; not standing for coordinator again before its Fetch has returned, or a pause is over",
			zap.Duration("pause", pause))
	}
	return true
}

// enter begins the term with a number, once.
func (p *place) enter(number int64) {
	if p.number == number {
		return
	}
	p.leaveOffice()
	p.number = number
	p.term = p.source.Term(number, p.inherits)
	p.inherits = true
	p.term.Enter(p.terms)
}

// heedCoordinator takes note that another member coordinates.
func (p *place) heedCoordinator(v *membership.View) {
	coordinator, known := v.Members[v.Coordinator.ID]
	if coordinator.Source || !known { // a coordinator without a source resigns as soon as it sees a member that has one
		p.told.firstFetch(nil) // another member sees to the source
	}
	p.inherits = p.inherits || coordinator.Source
}

func (p *place) leaveOffice() {
	if p.term != nil {
		p.term.Leave()
		p.term, p.number = nil, 0
	}
}
