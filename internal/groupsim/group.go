package groupsim

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/order"
	"github.com/distributed-resource-manager/drm/internal/schedule"
	"github.com/distributed-resource-manager/drm/membership"
)

// Processes are the processes of the members of a Group. Another simulation has them. Members are counted from 0.
type Processes interface {
	// Start begins the process of a member some time, unless it runs. Group.Begin follows.
	Start(member int)
	// Stop makes a process end in order, after its member has told the others. Group.End follows.
	Stop(member int)
	// Kill ends a process, which comes back after a time, or never if that is 0. Group.Lose is called meanwhile.
	Kill(member int, back time.Duration)
	// CutOff cuts the network of a member off for a time. Group.Cut is called at both ends of it.
	CutOff(member int, d time.Duration)
	// See is called when a member sees another view, or has another registration.
	See(member int)
	// Hears says whether the answers of etcd reach a member, and Sees whether news do.
	Hears(member int) bool
	Sees(member int) bool
	// Declines returns what a member wants to decline.
	Declines(member int) membership.Decline
	// Changed is called after each change of the group.
	Changed()
}

// Group is a group whose members' processes are part of another simulation, in the same virtual time. That simulation
// plays the group's events between its own, and tells it what befalls the processes. Everything else is as in Run, and
// is checked, except what follows from a long rest at the end. Members are full only when their Processes decline
// shards, and not by an Event.
type Group struct{ w *world }

// NewGroup makes the group of a Plan, of whose Events the caller takes care (Befall). of is how many members there may
// be; none of them has begun.
func NewGroup(p Plan, opts Options, of int, procs Processes) *Group {
	w := makeWorld(p, opts)
	w.procs = procs
	for i := range of {
		w.member(i)
	}
	return &Group{w}
}

// NextAt returns when something happens next; ok is false if nothing does.
func (g *Group) NextAt() (at time.Duration, ok bool) { return g.w.Agenda.NextAt() }

// Step makes the next thing happen.
func (g *Group) Step() {
	e := g.w.Agenda.Take()
	g.w.Now = e.At
	g.w.happen(e)
}

// Result returns what has been found so far. The caller may take the lines of its trace.
func (g *Group) Result() *schedule.Result { return &g.w.Result }

// At sets the time. It must not be later than that of the next event.
func (g *Group) At(now time.Duration) { g.w.Now = now }

// Befall makes an event happen.
func (g *Group) Befall(e Event) {
	if !g.w.leaderless || isAboutProcess(e.Kind) {
		g.w.befall(e)
	}
}

// View returns the last view.
func (g *Group) View() *membership.View { return g.w.view() }

// ID returns the id of a member.
func (g *Group) ID(member int) string { return g.w.members[member].id }

// Number returns the number of the member with that id; -1 for "".
func (g *Group) Number(id string) int {
	for i, m := range g.w.members {
		if m.id == id {
			return i
		}
	}
	return -1
}

// Seen returns the view that a member has seen last; nil: it has seen none. reg is its registration, and nil while it
// has none.
func (g *Group) Seen(member int) (v *membership.View, reg *membership.Registration) {
	m := g.w.members[member]
	return m.view, m.reg
}

// HasJoined says whether a member has joined, and does not leave.
func (g *Group) HasJoined(member int) bool {
	m := g.w.members[member]
	return m.stage == joined && !m.goes
}

// Begin is called when the process of a member begins.
func (g *Group) Begin(member int) { g.w.members[member].begin() }

// Leave makes a member leave: with rejoin, its shards wait for so long. Processes.Stop follows.
func (g *Group) Leave(member int, rejoin time.Duration) {
	g.w.members[member].stop(rejoin)
}

// End is called when the process of a member has ended in order, and Lose when it has died.
func (g *Group) End(member int) {
	m := g.w.members[member]
	m.end()
	m.cut = false
}

// Lose is called when the process of a member has died.
func (g *Group) Lose(member int) { g.w.members[member].lose() }

// Revoke ends the lease of a member whose process is gone.
func (g *Group) Revoke(member int) {
	if m := g.w.members[member]; m.stage == off {
		g.w.endLease(m, m.lease)
	}
}

// Cut says whether a member's requests do not reach etcd, nor do news reach the member.
func (g *Group) Cut(member int, cut bool) {
	m := g.w.members[member]
	switch {
	case m.stage == off || m.cut == cut:
	case cut:
		m.loseTouch()
	default:
		m.reconnect()
	}
}

// Pause says whether the process of a member stands still.
func (g *Group) Pause(member int, paused bool) {
	m := g.w.members[member]
	m.paused = paused
	if paused {
		return
	}
	late := m.late
	m.late = nil
	for _, f := range late {
		m.in(g.w.UpTo(2*time.Millisecond), f)
	}
}

// Leaderless says whether etcd has no leader, so that nothing is written, and no lease expires. The next leader gives
// each lease its whole TTL again.
func (g *Group) Leaderless(is bool) {
	if g.w.leaderless = is; !is {
		g.w.elected = g.w.Now
	}
}

// SetBroken says whether a member cannot work.
func (g *Group) SetBroken(member int, broken bool) {
	if m := g.w.members[member]; m.broken != broken {
		m.broken = broken
		m.in(0, m.heed)
	}
}

// LoseKey ends the lease of a member's key, which somebody has revoked.
func (g *Group) LoseKey(member int) {
	if m := g.w.members[member]; m.stage != off {
		g.w.endLease(m, m.lease)
	}
}

// Heed makes a member look again at what it has to say.
func (g *Group) Heed(member int) { g.w.members[member].heed() }

// Drain gives the order to drain a member, and Undrain takes it back.
func (g *Group) Drain(member int, atOnce bool) {
	g.order(func(ctx context.Context, d *order.Desk) error {
		return d.Drain(ctx, g.ID(member), order.Options{By: "operator", AtOnce: atOnce})
	})
}

// Undrain takes back the order to drain a member.
func (g *Group) Undrain(member int) {
	g.order(func(ctx context.Context, d *order.Desk) error { return d.Undrain(ctx, g.ID(member)) })
}

// Move gives the order to move a shard to a member.
func (g *Group) Move(shard, member int) {
	g.order(func(ctx context.Context, d *order.Desk) error {
		_, err := d.Move(ctx, shard, g.ID(member), order.Options{By: "operator"})
		return err
	})
}

// order gives an order, if etcd can take one.
func (g *Group) order(give func(ctx context.Context, d *order.Desk) error) {
	if g.w.leaderless {
		return
	}
	if err := give(context.Background(), g.w.desk); err != nil {
		g.w.Tracef("the order is refused: %v", err)
	}
}

// Give moves a resource to a member without its shard; -1: it belongs to the owner of its shard again.
func (g *Group) Give(resource string, member int) {
	g.order(func(ctx context.Context, d *order.Desk) error {
		key := g.w.layout.Move(resource)
		if member < 0 {
			_, err := d.Reader.Client.Delete(ctx, key)
			return err
		}
		m := membership.Move{Member: g.ID(member), Why: "ordered", Since: start.Add(g.w.Now)}
		_, err := d.Reader.Client.Put(ctx, key, m.Encode())
		return err
	})
}

// GiveOn makes a member give a resource that does not work there to another one, as internal/member does. It returns
// false if that has to be tried again.
func (g *Group) GiveOn(member int, resource string) (to string, done bool) {
	m := g.w.members[member]
	if m.view == nil || m.reg == nil {
		return "", false
	}
	if _, owner := m.view.OwnerOf(resource); owner != m.id {
		return "", true
	}
	const triedFor = 10 * time.Minute
	next, ok := m.view.NextMove(resource, m.id, "it fails", m.wall(), m.wall().Add(-triedFor))
	if !ok {
		return "", true
	}
	key := g.w.layout.Move(resource)
	resp, err := m.kv.Txn(context.Background()).If(
		clientv3.Compare(clientv3.CreateRevision(g.w.layout.Member(m.id)), "=", m.reg.CreateRevision),
		clientv3.Compare(clientv3.ModRevision(key), "=", next.ModRevision),
	).Then(clientv3.OpPut(key, next.Encode())).Commit()
	return next.Member, err == nil && resp.Succeeded
}

// Settle lets nothing else go wrong.
func (g *Group) Settle() {
	g.w.Tracef("the faults of the group end")
	g.w.Calm = true
}
