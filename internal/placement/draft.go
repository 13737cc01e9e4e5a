package placement

import (
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// draft is a plan in the making.
type draft struct {
	planner *Planner
	view    *membership.View
	loads   *loads
	now     time.Duration
	wall    time.Time
	newer   string          // while members of two versions live: the newer one
	rolls   bool            // members of two versions live
	comers  []string        // members that join, and for which nothing is prepared yet, in order
	goers   []string        // members that are about to stop, and for which nothing is prepared yet, in order
	back    map[string]bool // the comers that come back under their ids

	foresight membership.Foresight
	shards    *shard.Planner
	placed    map[int]bool     // shards that place has seen
	orphans   map[int]string   // shards whose owner went without notice, and that owner
	way       map[string]int64 // how much load is on its way to each member, with what the plan sends
	plan      *Plan
}

func newDraft(p *Planner, now time.Duration, wall time.Time) *draft {
	d := &draft{
		planner: p, view: p.view, loads: &p.loads, now: now, wall: wall, placed: map[int]bool{},
		back: map[string]bool{},
		plan: &Plan{Keeps: map[string][]bool{}, Prepared: map[string]int64{}},
	}
	d.loads.settle(d.view, now)
	d.way = d.loads.onTheWay(d.view, now)
	d.newer, d.rolls = p.rollout(now)
	prepared := func(id string) bool { return d.view.Prepared[id] >= d.view.Members[id].ModRevision }
	d.comers = slices.DeleteFunc(d.joining(), prepared)
	for id, m := range d.view.Members {
		if m.HasJoined() && m.Leaves && !prepared(id) {
			d.goers = append(d.goers, id)
		}
	}
	for _, id := range d.comers {
		d.back[id] = d.view.HasBeenHere(id)
	}
	slices.Sort(d.goers)
	return d
}

// open begins to plan with members that come, or without any.
func (d *draft) open(comers []string, fixed func(n int) bool) {
	goes := func(id string) bool { return d.view.Members[id].Leaves }
	d.foresight = d.view.Foresee(comers, goes)
	members := map[string]shard.Capacity{}
	for id, m := range d.view.Members {
		comes := slices.Contains(comers, id)
		if !m.HasJoined() && !comes {
			continue
		}
		_, cordoned := d.view.Cordons[id]
		takes := d.view.Eligible(id) || comes && !d.view.Ordered(id)
		c := shard.Capacity{Weight: d.view.WeightOf(id), Room: -1}
		c.Takes = takes && !cordoned && !m.Leaves && !d.view.DeclinesAny(id)
		members[id] = c
	}
	d.shards = shard.NewPlanner(shard.Problem{
		Home: d.foresight.Homes, Owner: d.view.Owners(), Load: d.loads.shards, Members: members, Fixed: fixed,
	})
	if d.rolls {
		d.shards.Prefer(func(id string) bool { return d.view.Members[id].Version == d.newer })
	}
}

// pinned says whether a shard is where an operator wants it.
func (d *draft) pinned(n int) bool {
	pin, pinned := d.view.Pins[n]
	return pinned && d.view.Owner(n) == pin.Member
}

// recent says whether a shard was moved for balance, or by an operator, so short a time ago that it is not moved for
// balance.
func (d *draft) recent(n int) bool {
	at := balanced(d.view.Exceptions[n])
	return !at.IsZero() && d.wall.Sub(at).Abs() < d.planner.rules.Again
}

// balanced returns when a shard was last moved for balance, or by an operator; zero if that is not known.
func balanced(e membership.Exception) time.Time {
	if e.Why == membership.WhyBound || e.Why == membership.WhyMove {
		return e.Since
	}
	return e.Balanced
}

// prepare places what members that come are to have: their share, and no more than that. While members of two versions
// live, they get nothing from members that live. And it places what members have that go.
func (d *draft) prepare() {
	if len(d.comers)+len(d.goers) == 0 {
		return
	}
	for _, id := range slices.Concat(d.comers, d.goers) {
		d.plan.Prepared[id] = d.view.Members[id].ModRevision
	}
	if d.planner.rules.Off || d.view.HasOlder() {
		return
	}
	d.open(d.comers, d.pinned)
	for _, id := range d.goers {
		d.shards.Empty(id, 1<<62)
	}
	d.place(membership.WhyLeave)
	for _, id := range d.comers {
		if !d.rolls && !d.returns(id) {
			d.shards.Fill(id)
		}
	}
	d.place(membership.WhyJoin)
	d.keep()
}

// adopt places shards whose owner went without notice: those of which the ring gives too much to one member, and any
// that it gives to a member of the older version.
func (d *draft) adopt() {
	orphans := d.planner.orphans
	if len(orphans) == 0 {
		return
	}
	d.planner.orphans, d.orphans = map[int]string{}, orphans
	if d.planner.rules.Off || d.view.HasOlder() {
		return
	}
	d.open(nil, func(n int) bool { return orphans[n] == "" || d.pinned(n) })
	if d.rolls {
		d.shards.Spread(func(n int) bool { // one without load, or whose load nobody knows, stays where it is
			return orphans[n] != "" && d.loads.shards[n] > 0 && !d.pinned(n) &&
				d.view.Members[d.view.Owner(n)].Version != d.newer
		})
	}
	d.shards.Level(1 << 62)
	d.place(membership.WhyLeave)
}

// drain places what drained members keep: as much at once as may be on its way. It plans for all of it each time, so
// that the load is even in the end, and publishes what may go now.
func (d *draft) drain() {
	left := d.planner.rules.Moving - d.onTheWay()
	for _, id := range d.drained() {
		had := d.keeps(id)
		keeps := slices.Clone(had)
		if _, live := d.view.Members[id]; !live { // it must not get back anything when it comes again
			d.plan.Keeps[id] = nil
			return
		}
		if !d.loads.complete(d.view) && d.now < d.planner.quiet+unheard { // nobody knows yet what its shards weigh
			d.plan.Next = d.now + soon
			return
		}
		d.plan.Next = d.now + time.Second
		for n := range keeps {
			if d.view.Owner(n) != id || d.loads.shards[n] == 0 { // gone already, or moved at no cost: the ring decides
				keeps[n] = false
			}
		}
		d.open(nil, d.pinned)
		d.shards.Empty(id, 1<<62)
		for _, s := range d.shards.Steps() {
			if !keeps[s.Shard] || left <= 0 || !d.hasWay(s) {
				continue
			}
			keeps[s.Shard] = false
			left -= d.loads.shards[s.Shard]
			d.move(s, membership.WhyDrain)
		}
		for n, owner := range d.shards.Owners() {
			if owner == id { // nobody takes it who need not; so it belongs to whoever may own it
				keeps[n] = false
			}
		}
		if !slices.Equal(keeps, had) {
			d.plan.Keeps[id] = keeps
			return // the next member follows with the next view
		}
	}
}

// keeps returns which shards a member keeps that is drained, or has the weight 0 by order.
func (d *draft) keeps(id string) []bool {
	if keepsByDrain(d.view, id) {
		return d.view.Drains[id].Keeps
	}
	return d.view.Weights[id].Keeps
}

// keepsByDrain says whether a drain lets a member keep shards. If it does not, an order of weight 0 may do so; that one
// is carried out beside a drain, too, so that the member gets nothing back when its drain ends.
func keepsByDrain(v *membership.View, id string) bool {
	return slices.Contains(v.Drains[id].Keeps, true) && !v.DrainsIgnored()
}

// drained returns the members that keep shards though they are drained, or have the weight 0 by order, in order.
func (d *draft) drained() (ids []string) {
	for id := range d.view.Drains {
		if keepsByDrain(d.view, id) {
			ids = append(ids, id)
		}
	}
	for id, weight := range d.view.Weights {
		if !keepsByDrain(d.view, id) && slices.Contains(weight.Keeps, true) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// hasWay says whether a shard may go now, by what is on its way to the same member. One that is too heavy goes when
// nothing else is.
func (d *draft) hasWay(s shard.Step) bool {
	way := d.way[s.To]
	return way == 0 || way+d.loads.shards[s.Shard] <= d.planner.rules.MovingPerMember
}

// onTheWay returns how much load is on its way between members.
func (d *draft) onTheWay() (all int64) {
	for _, load := range d.way {
		all += load
	}
	return all
}

// balance moves for balance what may be moved now, once the group has been quiet.
func (d *draft) balance() {
	p := d.planner
	if d.rolls { // until it is over, or counts as one that has stopped
		d.plan.Next = p.quiet + stalled
		return
	}
	if p.rules.Off || d.view.HasOlder() || len(d.drained()) > 0 || !p.settled(d.view) {
		return
	}
	if due := p.due(); d.now < due {
		d.plan.Next = due
		return
	}
	if !p.loads.complete(d.view) || p.weighs(d.now) {
		d.plan.Next = d.now + time.Second
		return
	}
	p.earn(d.now)
	left := p.rules.Moving - d.onTheWay()
	d.open(nil, func(n int) bool { return d.pinned(n) || d.recent(n) })
	if most := min(int64(p.allowance), left); most > 0 {
		d.shards.Level(most)
	}
	moved, waits := int64(0), false
	for _, s := range d.shards.Steps() {
		if !d.hasWay(s) {
			waits = true
			continue
		}
		moved += d.loads.shards[s.Shard]
		d.move(s, membership.WhyBound)
	}
	p.allowance -= float64(moved)
	if moved > 0 || left <= 0 || waits {
		d.plan.Next = d.now + time.Second
		return
	}
	d.plan.Next = d.now + p.rules.Quiet
	if p.allowance >= float64(p.rules.PerMinute) {
		p.hasty = false
		d.plan.Next = d.ripe()
	}
	d.tidy()
}

// ripe returns when the next shard may be moved again for balance that may not be moved now, or what is known of the
// load changes. Until then, a group that is as even as may be stays so, if nothing is seen or said. It is 0 if neither
// is going to happen.
func (d *draft) ripe() (at time.Duration) {
	at = d.loads.changes(d.now)
	for n := range d.view.Exceptions {
		if !d.recent(n) {
			continue
		}
		left := d.planner.rules.Again - d.wall.Sub(balanced(d.view.Exceptions[n])).Abs()
		if next := d.now + max(left, d.planner.rules.Quiet); at == 0 || next < at {
			at = next
		}
	}
	return at
}

// place turns what was planned since the last call into exceptions.
func (d *draft) place(why membership.Why) {
	for _, s := range d.shards.Steps() {
		if d.placed[s.Shard] {
			continue
		}
		d.placed[s.Shard] = true
		d.move(s, why)
	}
}

// move lets a shard go to another member.
func (d *draft) move(s shard.Step, why membership.Why) {
	d.plan.load += d.loads.shards[s.Shard]
	d.way[s.To] += d.loads.shards[s.Shard]
	if d.foresight.Owners[s.Shard] != s.To { // otherwise it comes to that member without an exception
		d.except(s.Shard, s.To, why)
	}
}

// keep publishes exceptions for shards that would move when members come and go, although they need not.
func (d *draft) keep() {
	why := membership.WhyRing
	if d.rolls {
		why = membership.WhyVersion
	}
	for n, owner := range d.shards.Owners() {
		to := d.foresight.Owners[n]
		if owner == "" || owner != d.view.Owner(n) || owner == to || d.loads.shards[n] == 0 {
			continue
		}
		if d.rolls || !d.returns(to) {
			d.except(n, owner, why)
		}
	}
}

// returns says whether a member that joins comes back under its id. It gets what it had, and nothing else moves.
func (d *draft) returns(id string) bool { return d.back[id] }

func (d *draft) except(n int, to string, why membership.Why) {
	e := membership.Exception{
		Member: to, Why: why, By: d.planner.member, Since: d.wall.UTC(),
		ModRevision: d.view.Exceptions[n].ModRevision,
	}
	if d.recent(n) && why != membership.WhyBound {
		e.Balanced = balanced(d.view.Exceptions[n])
	}
	if slices.Contains(d.comers, to) { // until it is active, the shard stays where it is
		e.Then = d.view.Owner(n)
	}
	if from := d.leaves(n); why == membership.WhyLeave && from != "" { // it gets the shard again when it comes back
		e.Member, e.Then = from, to
	}
	d.plan.Exceptions = append(d.plan.Exceptions, Placed{n, e})
}

// leaves returns the member that leaves a shard behind: one that is about to stop, or that went without notice.
func (d *draft) leaves(n int) string {
	if owner := d.view.Owner(n); slices.Contains(d.goers, owner) {
		return owner
	}
	return d.orphans[n]
}

// tidy drops exceptions that say what the ring says, and those to members that are gone.
func (d *draft) tidy() {
	for n, e := range d.view.Exceptions {
		if d.recent(n) {
			continue
		}
		_, live := d.view.Members[e.Member]
		if live && d.foresight.Homes[n] == e.Member || !live && d.foresight.Homes[n] == d.view.Owner(n) {
			d.plan.Drop = append(d.plan.Drop, n)
		}
	}
	slices.Sort(d.plan.Drop)
}

// joining returns the members that join, in order, also those for which something is prepared already.
func (d *draft) joining() (ids []string) {
	for id, m := range d.view.Members {
		if m.State == membership.Joining {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Fresh returns the placement of an app in which nothing is handled yet, by what its shards are going to weigh.
func (p *Planner) Fresh(load []int64, now time.Duration, wall time.Time) *Plan {
	p.loads.expect(load, now)
	d := newDraft(p, now, wall)
	if p.rules.Off || d.view.HasOlder() {
		return d.plan
	}
	d.comers = d.joining() // all of them count, so that nothing has to move when they have joined
	d.open(d.comers, d.pinned)
	d.shards.Spread(func(n int) bool { return !d.pinned(n) })
	d.place(membership.WhyBound)
	d.keep()
	return d.plan
}
