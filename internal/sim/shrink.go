package sim

import (
	"reflect"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/groupsim"
)

// shrinkRuns bounds how often Shrink tries.
const shrinkRuns = 3000

// Shrink looks for a simpler Plan for which fails still returns true: one with fewer and shorter faults, better
// surroundings and less of everything. It is for the Plan of a seed; rapid itself shrinks the Plans that it draws.
func Shrink(p Plan, fails func(Plan) bool) Plan {
	runs := 0
	try := func(simpler Plan) bool {
		if runs++; runs > shrinkRuns || !fails(simpler) {
			return false
		}
		p = simpler
		return true
	}
	for again := true; again && runs < shrinkRuns; {
		again = dropFaults(&p, try)
		for _, simpler := range simplifications {
			q := p
			q.Faults = slices.Clone(p.Faults)
			if simpler(&q) && try(q) {
				again = true
			}
		}
		if shrinkGroup(&p, try) {
			again = true
		}
		for i := range p.Faults {
			for _, simpler := range faultSimplifications {
				q := p
				q.Faults = slices.Clone(p.Faults)
				if simpler(&q.Faults[i]) && try(q) {
					again = true
				}
			}
		}
	}
	return p
}

// dropFaults leaves out as many faults as it can: half of them, a quarter, and so on down to single ones.
func dropFaults(p *Plan, try func(Plan) bool) (any bool) {
	for n := max(1, len(p.Faults)/2); n > 0; n /= 2 {
		for i := 0; i+n <= len(p.Faults); {
			q := *p
			q.Faults = slices.Concat(p.Faults[:i], p.Faults[i+n:])
			if try(q) {
				any = true
			} else {
				i += n
			}
		}
	}
	return any
}

// shrinkGroup looks for a simpler group.
func shrinkGroup(p *Plan, try func(Plan) bool) (any bool) {
	change := func(simpler func(g *groupsim.Plan)) bool {
		q, g := *p, *p.Group
		simpler(&g)
		q.Group = &g
		return !reflect.DeepEqual(g, *p.Group) && try(q)
	}
	if p.Group == nil {
		return false
	}
	if q := *p; true {
		if q.Group = nil; try(q) {
			return true
		}
	}
	for i := 0; i < len(p.Group.Events); {
		events := p.Group.Events
		if change(func(g *groupsim.Plan) { g.Events = slices.Concat(events[:i], events[i+1:]) }) {
			any = true
		} else {
			i++
		}
	}
	for _, simpler := range groupsim.Simplifications() {
		any = change(simpler) || any
	}
	return any
}

// Each of these makes a Plan simpler in one respect, and reports whether there was anything to simplify.
var simplifications = []func(*Plan) bool{
	func(p *Plan) bool { return lower(&p.Lossy, 0) },
	func(p *Plan) bool { return lower(&p.Slow, 0) },
	func(p *Plan) bool { return lower(&p.Bad, 0) },
	func(p *Plan) bool { return lower(&p.Skew, 0) },
	func(p *Plan) bool { return lower(&p.Hung, 0) },
	func(p *Plan) bool { return lower(&p.Late, 0) },
	func(p *Plan) bool { was := p.Receivers != NoReceivers; p.Receivers = NoReceivers; return was },
	func(p *Plan) bool {
		was := p.FinishCalls && p.Receivers != KnowTokens
		p.FinishCalls = p.FinishCalls && !was
		return was
	},
	func(p *Plan) bool { return lower(&p.HandleAttempts, 0) },
	func(p *Plan) bool { return lower(&p.MoveAfter, 0) },
	func(p *Plan) bool { return lower(&p.Flaky, 0) },
	func(p *Plan) bool { return lower(&p.Poison, 0) },
	func(p *Plan) bool {
		was := p.QuarantineAfter > 0 && p.Crowd < noCrowd
		p.Crowd = noCrowd
		return was
	},
	func(p *Plan) bool { was := p.Poison == 0; return was && lower(&p.QuarantineAfter, 0) },
	func(p *Plan) bool { return lower(&p.Resources, 1) },
	func(p *Plan) bool { return lower(&p.Resources, p.Resources-1) && p.Resources > 0 },
	func(p *Plan) bool { return lower(&p.Shards, 1) },
	func(p *Plan) bool { return lower(&p.Members, 2) },
	func(p *Plan) bool { was := p.HoldUntilTerminated; p.HoldUntilTerminated = false; return was },
	func(p *Plan) bool { was := p.KeepOnOutage; p.KeepOnOutage = false; return was },
	func(p *Plan) bool { was := p.Supervised; p.Supervised = false; return was },
	func(p *Plan) bool { was := p.CanUpdate; p.CanUpdate = false; return was },
}

var faultSimplifications = []func(*Fault) bool{
	func(f *Fault) bool { return lower(&f.Who, 0) },
	func(f *Fault) bool { return lower(&f.For, 0) },
	func(f *Fault) bool { return lower(&f.For, (f.For / 2).Truncate(time.Millisecond)) },
	func(f *Fault) bool { return lower(&f.At, 0) },
}

func lower[T int | time.Duration](v *T, to T) bool {
	if *v <= to {
		return false
	}
	*v = to
	return true
}
