package sim

import "time"

// befall makes a fault of the plan happen, if it can.
func (w *world) befall(f Fault) {
	w.trace("fault: %v %d for %v", f.Kind, f.Who, f.For)
	if f.Kind == Pause || f.Kind == Busy || f.Kind == Miss {
		w.pardon() // a process that stands still lives longer than a young resource is young
	}
	if w.strike(f) || w.change(f) {
		w.count(befell(f.Kind))
	}
}

// strike makes a fault of a member, of its network or of etcd happen.
func (w *world) strike(f Fault) bool {
	m := w.members[f.Who%len(w.members)]
	switch f.Kind {
	case Crash:
		if !m.up {
			return false
		}
		m.crash("crash")
		w.after(f.For, m.start)
	case Pause:
		if !m.up || m.paused {
			return false
		}
		m.paused, m.pausedAt = true, w.now
		w.after(f.For, m.resume)
	case Cut:
		if m.cut {
			return false
		}
		m.cut, m.cutAt = true, w.now
		w.after(f.For, func() {
			w.trace("%s: network is back", m.name)
			m.cut = false
			w.reassign()
		})
	case Deafen:
		w.raiseFor(&m.deaf, f.For)
	case Stall:
		w.raiseFor(&m.stalls, f.For)
	case Busy:
		return m.block(&m.busy, f.For, m.flush)
	case BlockLog:
		return m.block(&m.blocked, f.For, func() {})
	case Silence:
		w.raiseFor(&w.store.logs[w.shardOf(f.Who%w.plan.Resources)].silent, f.For)
	case Miss:
		return w.miss(w.shardOf(f.Who % w.plan.Resources))
	case Break:
		if !m.up {
			return false
		}
		m.after(0, m.breakWatches)
	case Compact:
		w.store.compact()
	case Elect:
		w.leaderless++
		w.after(f.For, w.elect)
	case LoseKey:
		w.keyless(m, f.For)
	case RevokeLease:
		return m.loseLease()
	default:
		return false
	}
	if f.Kind == Pause || f.Kind == Cut || f.Kind == Crash {
		w.after(ttl, w.reassign) // by then its member key has expired, unless it is back
	}
	return true
}

// change makes a change by an operator or the source happen.
func (w *world) change(f Fault) bool {
	m := w.members[f.Who%len(w.members)]
	r := f.Who % w.plan.Resources
	switch f.Kind {
	case Change, Remove, Suspend, Free, DeleteClaim: // a claim that is deleted by hand is free before the others go
		if w.isPoison(r) {
			w.pardon()
		}
	default:
	}
	switch f.Kind {
	case Drain:
		m.drains++
		w.reassign()
		w.after(f.For, func() { m.drains--; w.reassign() })
	case Leave:
		if !m.up || m.stopping || m.paused {
			return false
		}
		m.stop(f.For)
		w.reassign()
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
	case Free:
		return w.store.free(r)
	case DeleteClaim:
		return w.store.deleteByHand(r)
	case DeleteSummary:
		return w.store.deleteSummariesByHand(w.shardOf(r))
	default:
		return false
	}
	return true
}

// raiseFor raises a count of reasons, and lowers it again after some time.
func (w *world) raiseFor(reasons *int, d time.Duration) {
	*reasons++
	w.after(d, func() { *reasons-- })
}

// block raises, for some time, a count of reasons why something in a member's process waits. It calls then afterwards.
func (m *member) block(reasons *int, d time.Duration, then func()) bool {
	if !m.up {
		return false
	}
	*reasons++
	gen := m.gen
	m.w.after(d, func() {
		if m.gen == gen {
			*reasons--
			m.after(0, then)
		}
	})
	return true
}

// miss makes some watches of a shard lose the next event.
func (w *world) miss(shard int) (any bool) {
	for _, f := range w.store.logs[shard].followers {
		if !f.dead && f.gen == f.m.gen && w.rng.IntN(2) == 0 {
			f.missing++
			any = true
		}
	}
	return any
}

// elect ends one reason why etcd has no leader. A new leader does not know how old leases are, so each gets its whole
// TTL.
func (w *world) elect() {
	w.leaderless--
	if w.leaderless == 0 {
		w.trace("etcd: has a leader")
		w.store.promote()
	}
}

// keyless takes a running member out of the view until it has registered again.
func (w *world) keyless(m *member, d time.Duration) {
	m.keyless++
	w.reassign()
	w.after(d, func() { m.keyless--; w.reassign() })
}

// putEntry writes what the catalogue should say of a resource.
func (w *world) putEntry(r int) { w.store.putEntry(r, w.entries[r]) }

// endFaults makes the surroundings good for ever. Faults that were to end later end as planned.
func (w *world) endFaults() {
	w.trace("calm from now on")
	w.calm, w.calmAt = true, max(w.calmAt, w.now)
	if w.plan.HandleAttempts > 0 { // resources that were given up are tried again only with new data
		for r := range w.entries {
			if w.isPoison(r) {
				w.pardon()
			}
			w.entries[r].version++
			w.putEntry(r)
		}
	}
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

// isMember reports whether the view has m: it is live, or was until a moment ago.
func (m *member) isMember() bool {
	expired := m.cut && m.w.now-m.cutAt >= ttl || m.paused && m.w.now-m.pausedAt >= ttl
	return m.up && !m.stopping && m.keyless == 0 && !expired
}
