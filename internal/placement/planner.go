package placement

import (
	"maps"
	"time"

	"github.com/distributed-resource-manager/drm/internal/claims"
	"github.com/distributed-resource-manager/drm/membership"
)

// Planner decides what the coordinator publishes. It does nothing but compute; one goroutine at a time may use it.
type Planner struct {
	rules  Rules
	member string // the coordinator
	loads  loads

	view      *membership.View // the last one; nil before the first
	quiet     time.Duration    // since when the members have been the same
	weighed   time.Duration    // when a member was last given another weight; 0: not in this term
	orphans   map[int]string   // shards whose owner went without notice, and that owner, until they are placed
	allowance float64          // how much load may move for balance now
	earned    time.Duration    // when allowance was brought up to date
	hasty     bool             // somebody has ordered that the load be balanced now
	ghosts    ghosts
}

// NewPlanner makes the planner of a coordinator's term, for an app with that number of shards.
func NewPlanner(rules Rules, member string, shards int, now time.Duration) *Planner {
	return &Planner{
		rules: rules, member: member, loads: newLoads(shards), quiet: now, orphans: map[int]string{}, earned: now,
		ghosts: ghosts{missed: map[string]time.Duration{}},
	}
}

// Plan is what is to be published now.
type Plan struct {
	Exceptions []Placed          // in the order in which they should be written
	Drop       []int             // shards whose exceptions are needed no longer
	Keeps      map[string][]bool // by drained member, or one of weight 0: what it keeps from now on
	Prepared   map[string]int64  // by member that comes or goes: for which revision of its key all is prepared
	Undrain    []string          // members whose drains should have ended by themselves, in order
	Uncordon   []string          // members whose cordons should have ended by themselves, in order
	Free       []Ghost           // whose slots are to be freed
	Next       time.Duration     // when to plan again at the latest, if nothing happens before; 0: never
	load       int64             // how much load it sends
}

// Placed is an exception for one shard.
type Placed struct {
	Shard int
	membership.Exception
}

// IsEmpty says whether nothing is to be published.
func (p *Plan) IsEmpty() bool {
	return len(p.Exceptions)+len(p.Drop)+len(p.Keeps)+len(p.Prepared)+len(p.Undrain)+len(p.Uncordon)+len(p.Free) == 0
}

// Take takes what a member says that its shards weigh, at a revision.
func (p *Planner) Take(member string, said claims.Loads, revision int64) {
	p.loads.take(member, said, revision, p.view)
}

// Hasten makes the planner balance the load as soon as the group allows it, without waiting until it has been quiet.
func (p *Planner) Hasten() { p.hasty = true }

// See takes a view. Each must be newer than the one before.
func (p *Planner) See(v *membership.View, now time.Duration) {
	before := p.view
	p.view = v
	p.ghosts.see(before, v)
	p.loads.see(before, v, now)
	if before == nil {
		return
	}
	if !sameGroup(before, v) {
		p.quiet = now
	}
	if reweighed(before, v) { // somebody wants the load to be different now
		p.weighed, p.hasty = now, true
	}
	for id := range before.Members {
		if _, live := v.Members[id]; !live && p.loads.members[id].revision <= v.Revision { // else it is back already
			p.loads.forget(id)
		}
	}
	was, is := before.Owners(), v.Owners()
	for n, id := range was {
		_, live := v.Members[id]
		if id != "" && (!live || v.WeightOf(id) == 0 && len(v.Weights[id].Keeps) == 0) && is[n] != id {
			p.orphans[n] = id
		}
	}
}

// sameGroup says whether nothing differs between two views that would be a reason to wait with moves for balance.
func sameGroup(a, b *membership.View) bool {
	return maps.EqualFunc(a.Members, b.Members, func(x, y membership.Member) bool {
		return x.CreateRevision == y.CreateRevision && x.State == y.State && x.Leaves == y.Leaves &&
			a.WeightOf(x.ID) == b.WeightOf(y.ID)
	}) && sameKeys(a.Drains, b.Drains) && sameKeys(a.Cordons, b.Cordons) && sameKeys(a.Reservations, b.Reservations)
}

// reweighed says whether a member has another weight than before.
func reweighed(before, v *membership.View) bool {
	for id, m := range v.Members {
		if was, live := before.Members[id]; live && was.CreateRevision == m.CreateRevision && m.HasJoined() &&
			before.WeightOf(id) != v.WeightOf(id) {
			return true
		}
	}
	return false
}

// weighs says whether a member is about to take the slots of another weight. To place anything before would give it
// its share twice. A member that does not do so soon is not waited for.
func (p *Planner) weighs(now time.Duration) bool {
	if p.weighed == 0 || now >= p.weighed+unheard {
		return false
	}
	for id := range p.view.Members {
		if !p.view.HoldsItsWeight(id) {
			return true
		}
	}
	return false
}

func sameKeys[T any](a, b map[string]T) bool {
	return maps.EqualFunc(a, b, func(T, T) bool { return true })
}

// Plan returns what is to be published by the last view. wall is the time that the exceptions say.
//
// What is urgent comes first, and alone: the next view follows at once, and with it the rest.
func (p *Planner) Plan(now time.Duration, wall time.Time) *Plan {
	d := newDraft(p, now, wall)
	for _, phase := range []func(){d.prepare, d.adopt, d.drain, d.balance, d.giveUp} {
		if phase(); !d.plan.IsEmpty() {
			return d.plan
		}
	}
	d.expire()
	return d.plan
}

// settled says whether nobody is about to come, to go, or to come back.
func (p *Planner) settled(v *membership.View) bool {
	for _, m := range v.Members {
		if m.State != membership.Active && m.State != membership.Unready || m.Leaves {
			return false
		}
	}
	return len(v.Reservations) == 0
}

// rollout says whether a new version is being rolled out, and which one: members of several versions live, all of them
// say which version they have, and some member has come or gone a while ago at most. Otherwise a group that runs two
// versions for good would never be balanced.
func (p *Planner) rollout(now time.Duration) (newer string, on bool) {
	if now-p.quiet >= stalled {
		return "", false
	}
	for _, m := range p.view.Members {
		if m.Version == "" {
			return "", false
		}
	}
	return p.view.Rollout()
}

// due returns from when on something may move for balance.
func (p *Planner) due() time.Duration {
	if p.hasty {
		return 0
	}
	return p.quiet + p.rules.Quiet
}

// earn adds to the allowance what the time since the last call is worth: at most what a minute is.
func (p *Planner) earn(now time.Duration) {
	p.allowance += float64(p.rules.PerMinute) * (now - p.earned).Minutes()
	p.allowance = min(p.allowance, float64(p.rules.PerMinute))
	p.earned = now
}
