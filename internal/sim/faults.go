package sim

import "time"

// befall makes a fault of the plan happen.
func (w *world) befall(f Fault) {
	m := w.members[f.Who%len(w.members)]
	r := f.Who % w.plan.Resources
	w.trace("fault: %v %d for %v", f.Kind, f.Who, f.For)
	switch f.Kind {
	case Crash:
		if m.up {
			m.crash("crash")
			w.after(f.For, m.start)
		}
	case Pause:
		if m.up && !m.paused {
			m.paused, m.pausedAt = true, w.now
			w.after(f.For, m.resume)
		}
	case Cut:
		if !m.cut {
			m.cut, m.cutAt = true, w.now
			w.after(f.For, func() {
				w.trace("%s: network is back", m.name)
				m.cut = false
				w.reassign()
			})
		}
	case Stall:
		m.stalls++
		w.after(f.For, func() { m.stalls-- })
	case Drain:
		m.drains++
		w.reassign()
		w.after(f.For, func() { m.drains--; w.reassign() })
	case Leave:
		if m.up && !m.stopping && !m.paused {
			m.stop(f.For)
			w.reassign()
		}
	case Move:
		w.moved[w.shardOf(r)]++
		w.reassign()
	case Change:
		w.entries[r].version++
		w.putEntry(r)
	case Touch:
		w.putEntry(r)
	case Remove:
		w.entries[r].exists = false
		w.putEntry(r)
		if f.For > 0 {
			w.after(f.For, func() { w.entries[r].exists = true; w.putEntry(r) })
		}
	case Suspend:
		w.entries[r].suspended = true
		w.putEntry(r)
		if f.For > 0 {
			w.after(f.For, func() { w.entries[r].suspended = false; w.putEntry(r) })
		}
	case Compact:
		w.store.compact()
	case Break:
		if m.up {
			m.after(0, m.breakWatches)
		}
	case DeleteClaim:
		w.store.deleteByHand(r)
	case RevokeLease:
		for _, k := range m.keepers {
			if l := w.store.leases[k.id]; l.alive {
				w.store.revokeByHand(k.id)
				break
			}
		}
	default:
	}
	if f.Kind == Pause || f.Kind == Cut || f.Kind == Crash {
		w.after(ttl, w.reassign) // its member key has expired by then, if it is not back
	}
}

// putEntry writes what the catalogue should say of a resource.
func (w *world) putEntry(r int) { w.store.putEntry(r, w.entries[r]) }

// endFaults makes the surroundings good, for ever. What was to end later, ends as planned.
func (w *world) endFaults() {
	w.trace("calm from now on")
	w.calm, w.calmAt = true, w.now
	w.reassign()
	w.after(100*time.Millisecond, w.observe)
}

// shardOf gives each shard its share of the resources.
func (w *world) shardOf(r int) int { return r % w.plan.Shards }

// reassign makes a new view and sends it to everyone.
func (w *world) reassign() {
	w.view++
	var live []int
	for _, drained := range []bool{false, true} { // if nobody is eligible, drains are ignored
		for i, m := range w.members {
			if m.isMember() && (drained || m.drains == 0) {
				live = append(live, i)
			}
		}
		if len(live) > 0 {
			break
		}
	}
	for s := range w.owners {
		w.owners[s] = -1
		if len(live) > 0 {
			w.owners[s] = live[(s*7+w.moved[s])%len(live)]
		}
	}
	w.trace("view %d: %v", w.view, w.owners)
	for _, m := range w.members {
		m.sendView()
	}
}

// isMember says whether the view has m: it is live, or was until a moment ago.
func (m *member) isMember() bool {
	return m.up && !m.stopping && !(m.cut && m.w.now-m.cutAt >= ttl) && !(m.paused && m.w.now-m.pausedAt >= ttl)
}
