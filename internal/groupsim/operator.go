package groupsim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/distributed-resource-manager/drm/internal/keys"
	"github.com/distributed-resource-manager/drm/internal/order"
)

// befall makes an event of the plan happen.
func (w *world) befall(e Event) {
	w.Tracef("event: %v who %d what %d for %v", e.Kind, e.Who, e.What, e.For)
	w.counts.Kinds[e.Kind]++
	if !w.befallMember(e) {
		w.order(e)
	}
}

// pick returns one of the members that there are or were, or one that is about to start for the first time.
func (w *world) pick(who int) *member {
	if w.procs != nil {
		return w.old(who)
	}
	return w.member(who % (len(w.members) + 1))
}

// old returns one of the members that there are or were.
func (w *world) old(who int) *member { return w.member(who % len(w.members)) }

// befallMember makes an event happen that is about a member's program. It returns false if the event is no such one.
func (w *world) befallMember(e Event) bool {
	m := w.old(e.Who)
	switch e.Kind {
	case Start:
		m = w.pick(e.Who)
		m.version = fmt.Sprint(1 + e.What%w.plan.Versions)
		m.launch()
	case Stop:
		m.stop(0)
	case Rejoin:
		m.stop(30 * time.Second)
		w.after(2*time.Second+min(e.For, 10*time.Second), m.launch)
	case Late:
		m.stop(5 * time.Second)
		if e.For > 0 {
			w.after(7*time.Second+e.For, m.launch)
		}
	case Die:
		m.die(e.For)
	case KillOffice:
		for _, m := range w.members {
			if m.number != 0 {
				m.die(e.For)
				break
			}
		}
	case CutOff:
		m.cutNetwork(e.For)
	case Unready:
		m.setBroken(true)
		w.after(e.For, func() { m.setBroken(false) })
	case Full:
		m.full = true
		m.in(0, m.heed)
		w.after(e.For, func() {
			m.full = false
			m.in(0, m.heed)
		})
	case Upgrade:
		if m.stage != joined {
			break
		}
		next := w.spare()
		if next == nil {
			break
		}
		next.version = fmt.Sprint(w.plan.Versions)
		next.launch()
		m.in(2*time.Second+e.For, func() { m.stop(0) })
	case SetWeight:
		m.weight = weights[e.What%len(weights)]
		m.in(0, m.heed)
	case Flap:
		m.die(time.Second)
		for i := range 1 + e.What%3 {
			w.after(time.Duration(i+1)*9*time.Second, func() { m.die(time.Second) })
		}
	default:
		return false
	}
	return true
}

// spare returns a member that has never been there, or, where their number is bounded, one that does not run; nil:
// there is none.
func (w *world) spare() *member {
	if w.procs == nil {
		return w.member(len(w.members))
	}
	i := slices.IndexFunc(w.members, func(m *member) bool { return m.stage == off })
	if i < 0 {
		return nil
	}
	return w.members[i]
}

// isAboutProcess says whether events of a kind are about a member's process, and none that an operator orders.
func isAboutProcess(k Kind) bool {
	switch k {
	case Start, Stop, Rejoin, Late, Die, KillOffice, CutOff, Unready, Full, Upgrade, SetWeight, Flap, Load, Surge:
		return true
	default:
		return false
	}
}

// weights are those that members get. The last ones have blocks of slots.
var weights = []int{1, 2, 3, 0, 40, 70} //nolint:gochecknoglobals // a constant

func (m *member) setBroken(broken bool) {
	m.broken = broken
	m.heed()
}

// order makes an operator give an order.
func (w *world) order(e Event) {
	ctx := context.Background()
	n := e.Who % w.plan.Shards
	id, to := w.old(e.Who).id, w.old(e.What).id
	o := order.Options{By: "operator", Absent: e.What%7 == 0}
	var err error
	switch e.Kind {
	case Drain:
		err = w.desk.Drain(ctx, id, o)
	case DrainHard:
		o.AtOnce, o.Force = e.What%2 == 0, e.What%3 == 0
		err = w.desk.Drain(ctx, id, o)
	case DrainFor:
		o.For = e.For
		err = w.desk.Drain(ctx, id, o)
	case Undrain:
		err = w.desk.Undrain(ctx, id)
	case Cordon:
		o.For = e.For
		err = w.desk.Cordon(ctx, id, o)
	case Uncordon:
		err = w.desk.Uncordon(ctx, id)
	case Pin:
		err = w.desk.Pin(ctx, n, to, o)
	case Unpin:
		_, err = w.desk.Unpin(ctx, n)
	case Move:
		_, err = w.desk.Move(ctx, n, to, o)
	case Rebalance:
		_, err = w.desk.Rebalance(ctx, o)
	case Weigh:
		o.AtOnce, o.Force = e.What%2 == 0, e.What%3 == 0
		err = w.desk.Weigh(ctx, id, weights[e.What%len(weights)], o)
	case Unweigh:
		err = w.desk.Unweigh(ctx, id)
	case Load:
		w.reload(n)
	case Surge:
		for i := n; i < w.plan.Shards; i++ {
			w.reload(i)
		}
	case Forget:
		for _, key := range w.store.span([]byte(w.layout.Exceptions()), []byte(w.layout.Exceptions()+"\xff")) {
			_, err = w.desk.Reader.Client.Delete(ctx, key)
		}
		clear(w.judge.placed)
	case Depose:
		_, err = w.desk.Reader.Client.Delete(ctx, w.layout.Coordinator())
	}
	if err != nil {
		w.Tracef("the order is refused: %v", err)
	}
}

// reload changes the load of a shard.
func (w *world) reload(n int) {
	w.load[n] = w.drawLoad([]int{1, 2}[w.Rand.IntN(2)])
	w.judge.reloaded[n] = w.Now
	for _, m := range w.members {
		m.stirReport()
	}
}

// interlude makes something happen between two transactions of the coordinator.
func (w *world) interlude(coordinator *member) {
	e := Event{Who: w.Rand.IntN(40), What: w.Rand.IntN(40)}
	e.Kind = []Kind{Drain, Undrain, Cordon, Pin, Move, Weigh, Depose, Stop, Load}[w.Rand.IntN(9)]
	if e.Kind == Stop && w.old(e.Who) == coordinator {
		return
	}
	w.befall(e)
}

// changed is called after each revision that changed something.
func (w *world) changed(c change) {
	group := false
	for _, was := range c.keys {
		switch key := w.layout.Parse(was.key); key.Kind {
		case keys.Load:
			if kv := w.store.kvs[was.key]; kv != nil {
				for _, m := range w.members {
					if pub := m.publisher; pub != nil {
						m.in(w.lag(), func() { m.hear(pub, key.ID, kv.Value, kv.ModRevision) })
					}
				}
			}
		case keys.RebalanceOrder:
			if w.store.kvs[was.key] != nil {
				for _, m := range w.members {
					if pub := m.publisher; pub != nil {
						m.in(w.lag(), func() { m.hearHaste(pub) })
					}
				}
			}
		default:
			group = group || len(was.key) > len(w.layout.Group()) && was.key[:len(w.layout.Group())] == w.layout.Group()
		}
	}
	if !group {
		return
	}
	w.views = append(w.views, w.viewOf(false))
	w.judge.revision(c)
	if w.procs != nil {
		w.procs.Changed()
	}
	for _, m := range w.members {
		m.noteView()
	}
}
