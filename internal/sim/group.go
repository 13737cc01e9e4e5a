package sim

import (
	"fmt"
	"time"

	"github.com/distributed-resource-manager/drm/internal/groupsim"
	"github.com/distributed-resource-manager/drm/internal/outlook"
	"github.com/distributed-resource-manager/drm/internal/schedule"
	"github.com/distributed-resource-manager/drm/membership"
	"github.com/distributed-resource-manager/drm/shard"
)

// groupPatience is how much longer it may take until all is well where a group decides who owns what: shards wait for
// members that are expected back, and members for others that join.
const groupPatience = time.Minute

// drawGroup makes the plan of a group. What happens to it comes at the pace of the other faults.
func drawGroup(s schedule.Source, p *Plan) *groupsim.Plan {
	const mostEvents = 8
	g := groupsim.Draw(s, mostEvents)
	g.Shards, g.Members, g.Quick = p.Shards, min(g.Members, p.Members), true
	g.Clocks = min(g.Clocks, 1)    // where the group is balanced again within seconds, clocks must not differ by more
	if p.Limits.MaxResources > 0 { // older members know nothing of declines
		g.Older = 0
	}
	last := time.Duration(0)
	for i := range g.Events {
		e := &g.Events[i]
		apart := e.At - last
		last = e.At
		e.At = apart / 10
		if i > 0 {
			e.At += g.Events[i-1].At
		}
		e.For = min(e.For, 9*time.Second)
	}
	return &g
}

// lasts is how long an event of the group goes on, at most.
func lasts(e groupsim.Event) time.Duration {
	switch e.Kind {
	case groupsim.Flap:
		return 30 * time.Second
	case groupsim.Rejoin, groupsim.Late, groupsim.Upgrade:
		return 7*time.Second + e.For
	default:
		return e.For
	}
}

// join makes the members those of a group.
func (w *world) join() {
	p := *w.plan.Group
	p.Shards = w.plan.Shards
	w.group = groupsim.NewGroup(p, w.Options, w.plan.Members, processes{w})
	for s := range w.owners {
		w.owners[s] = -1
	}
	for _, e := range p.Events {
		w.at(startUp+e.At, nil, func() {
			w.count(befellGroup(e.Kind))
			w.inGroup(func(g *groupsim.Group) { g.Befall(e) })
		})
	}
}

// idOf returns the id of a resource. Where there is a group, it is one that belongs to the resource's shard.
func (w *world) idOf(r int) string {
	id := fmt.Sprintf("r%d", r)
	if w.plan.Group == nil {
		return id
	}
	for n := 0; ; n++ {
		if named := fmt.Sprintf("%s-%d", id, n); shard.Of(named, w.plan.Shards) == w.shardOf(r) {
			return named
		}
	}
}

// inGroup does something with the group, if there is one, and takes over what that has found.
func (w *world) inGroup(do func(g *groupsim.Group)) {
	if w.group == nil {
		return
	}
	w.group.At(w.Now)
	do(w.group)
	w.hearGroup()
}

// hearGroup takes over what the group has found, and its trace.
func (w *world) hearGroup() {
	found := w.group.Result()
	w.Result.Trace = append(w.Result.Trace, found.Trace...)
	found.Trace = nil
	if found.Err != nil {
		w.Failf("the group: %w", found.Err)
	}
}

// stepGroup makes the next thing happen that happens to the group, if it comes before everything else.
func (w *world) stepGroup() bool {
	if w.group == nil {
		return false
	}
	next, ok := w.Agenda.NextAt()
	at, has := w.group.NextAt()
	if !has || ok && next <= at {
		return false
	}
	w.Now = at
	w.group.Step()
	w.hearGroup()
	return true
}

// touch tells the group which members are out of touch with etcd.
func (w *world) touch() {
	w.inGroup(func(g *groupsim.Group) {
		for _, m := range w.members {
			if m.up {
				g.Cut(m.index, m.cut || m.paused || w.leaderless > 0)
			}
		}
	})
}

// processes are those of the members, for their group.
type processes struct{ w *world }

// Start implements groupsim.Processes.
func (p processes) Start(member int) {
	m := p.w.members[member]
	if m.up {
		m.back = max(m.back, 0) // it stops; then it comes back at once
		return
	}
	m.startAgain()
}

// Stop implements groupsim.Processes.
func (p processes) Stop(member int) {
	m := p.w.members[member]
	m.after(0, func() {
		if !m.stopping {
			m.stop(m.back)
		}
	})
}

// Kill implements groupsim.Processes.
func (p processes) Kill(member int, back time.Duration) {
	m := p.w.members[member]
	if !m.up {
		return
	}
	m.die("its group has lost it")
	if back > 0 {
		p.w.after(back, m.startAgain)
	}
}

// CutOff implements groupsim.Processes.
func (p processes) CutOff(member int, d time.Duration) {
	p.w.befall(Fault{Kind: Cut, Who: member, For: d})
}

// See implements groupsim.Processes.
func (p processes) See(member int) {
	if m := p.w.members[member]; m.up {
		m.lookAtGroup()
	}
}

// Hears implements groupsim.Processes.
func (p processes) Hears(member int) bool { return p.w.members[member].deaf == 0 }

// Sees implements groupsim.Processes.
func (p processes) Sees(member int) bool {
	m := p.w.members[member]
	return m.deaf == 0 && m.stalls == 0
}

// Declines implements groupsim.Processes.
func (p processes) Declines(member int) membership.Decline {
	m := p.w.members[member]
	if !m.up {
		return membership.Decline{}
	}
	d := m.declines()
	return membership.Decline{Shards: d.shards, Lacks: d.lacks}
}

// Changed implements groupsim.Processes. What everybody will have to do follows from the newest view.
func (p processes) Changed() {
	w := p.w
	if w.group == nil { // it is being made
		return
	}
	w.view++
	v := w.group.View()
	for s := range w.owners {
		w.owners[s] = w.group.Number(v.Owner(s))
	}
	for r, id := range w.ids {
		_, owner := v.OwnerOf(id)
		w.given[r] = w.group.Number(owner)
	}
	if w.Trace {
		w.Tracef("view %d: %v, resources %v", v.Revision, w.owners, w.given)
	}
}

// lookAtGroup tells the core what the last view means for the member, by the same rules as a real member does.
func (m *member) lookAtGroup() {
	w := m.w
	v, reg := w.group.Seen(m.index)
	if v == nil {
		return
	}
	self := outlook.Self{ID: w.group.ID(m.index), Now: m.clock(), JoinDelay: groupsim.JoinDelay}
	if reg != nil {
		self.Registered = reg.CreateRevision
		if reg.Record.State != membership.Joining && m.activeAt == 0 {
			m.activeAt = m.clock()
		}
	}
	self.ActiveAt = m.activeAt
	o, ok := outlook.Of(v, self)
	if !ok {
		return
	}
	if o.Waits && o.Until > 0 {
		m.atClock(o.Until, m.lookAtGroup)
	}
	w.count(Looked)
	m.post(func() {
		if m.stopped {
			return
		}
		if w.Trace {
			w.Tracef("%s: sees view %d of the group: %+v", m.name, v.Revision, o)
		}
		m.owned, m.moved = o.Owned, o.Moved
		o.Tell(m.core, m.clock())
		m.step()
	})
}

// giveOnInGroup moves a resource that does not work at a member to another one, by a move in the group.
func (m *member) giveOnInGroup(r, tries int) {
	m.w.inGroup(func(g *groupsim.Group) {
		to, done := g.GiveOn(m.index, m.w.ids[r])
		switch {
		case done && to != "":
			m.w.count(GivenOn)
		case !done && tries > 0:
			m.after(500*time.Millisecond, func() { m.giveOnInGroup(r, tries-1) })
		}
	})
}

// couldTake says whether a member takes shards that others decline. Where there is no group, all do.
func (w *world) couldTake(m *member) bool {
	if w.group == nil {
		return true
	}
	v, id := w.group.View(), w.group.ID(m.index)
	_, cordoned := v.Cordons[id]
	return m.up && v.Eligible(id) && !cordoned
}
